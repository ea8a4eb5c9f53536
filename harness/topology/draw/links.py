"""Which tunnel ports face each other, and where the others lead to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from harness.topology.draw import words
from harness.topology.model import TopologySpec, TunnelPort
from harness.topology.relations import local_addresses

End = tuple[int, int, int]
"""A port: the indices of its switch, its bridge and itself."""


@dataclass(frozen=True)
class TunnelLink:
    """A tunnel with both its ends, or with one (``far`` is None) and the words for the other."""

    near: End
    far: End | None
    label: str
    addresses: str


def tunnel_links(spec: TopologySpec) -> list[TunnelLink]:
    """Every tunnel port of ``spec`` once, in the order of the data."""
    ports = {
        (s, b, p): port
        for s, switch in enumerate(spec.switches)
        for b, bridge in enumerate(switch.bridges)
        for p, port in enumerate(bridge.ports)
        if isinstance(port, TunnelPort)
    }
    owners = [{str(found.ip) for found in local_addresses(switch)} for switch in spec.switches]
    links: list[TunnelLink] = []
    paired: set[End] = set()
    for end, port in ports.items():
        if end in paired:
            continue
        far = next(
            (
                other
                for other, found in ports.items()
                if other[0] != end[0]
                and other not in paired
                and _faces(port, owners[end[0]], found, owners[other[0]])
            ),
            None,
        )
        if far is None:
            links.append(TunnelLink(end, None, words.tunnel(port), _lead(port, spec, owners)))
        else:
            paired |= {end, far}
            both = f"{ports[far].remote_ip} ↔ {port.remote_ip}"
            links.append(TunnelLink(end, far, words.tunnel(port), both))
    return links


def _faces(near: TunnelPort, near_own: set[str], far: TunnelPort, far_own: set[str]) -> bool:
    """Whether what one end sends, the other takes, both ways."""
    return (
        near.type == far.type
        and _leads(near, near_own, far, far_own)
        and _leads(far, far_own, near, near_own)
    )


def _leads(one: TunnelPort, one_own: set[str], other: TunnelPort, other_own: set[str]) -> bool:
    remote = _canonical(one.remote_ip)
    starts = one.local_ip is None or _canonical(one.local_ip) in one_own
    ends = remote in other_own and other.local_ip in {None, one.remote_ip}
    return starts and ends and _key(one.out_key, one.key) == _key(other.in_key, other.key)


def _key(own: str | None, common: str | None) -> str | int:
    text = own or common or "0"
    return text if text == "flow" else int(text, 0)


def _canonical(text: str) -> str:
    return text if text == "flow" else str(ipaddress.ip_address(text))


def _lead(port: TunnelPort, spec: TopologySpec, owners: list[set[str]]) -> str:
    if port.remote_ip == "flow":
        return "remote set by flows"
    remote = _canonical(port.remote_ip)
    names = [
        switch.name for switch, own in zip(spec.switches, owners, strict=True) if remote in own
    ]
    return f"remote {remote}" + (f" ({names[0]})" if names else "")
