"""What has to fit together: names, peers, underlays, and the addresses that tunnels start from."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterator

from harness.topology import values
from harness.topology.errors import Path
from harness.topology.model import (
    BondPort,
    HostPort,
    InternalPort,
    PatchPort,
    Port,
    Switch,
    TopologySpec,
    TunnelPort,
    UplinkPort,
)

Found = Iterator[tuple[Path, str]]


def unknown(kind: str, name: str, known: Collection[str], where: str) -> str:
    """Say that ``name`` is unknown in ``where``, and what may have been meant."""
    # Comparing with thousands of names, for each of thousands of mistakes, would take minutes.
    near = difflib.get_close_matches(name[:64], sorted(known), n=1) if len(known) < 100 else []
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"{kind} {name[:64]!r} is unknown in {where!r}{meant}"


def faults(spec: TopologySpec) -> Found:
    """Everything in ``spec`` that contradicts something else in it."""
    yield from _names(spec)
    underlays = {underlay.name for underlay in spec.underlays}
    patches = {
        port.name: switch.name
        for switch in spec.switches
        for bridge in switch.bridges
        for port in bridge.ports
        if isinstance(port, PatchPort)
    }
    for index, switch in enumerate(spec.switches):
        at: Path = ("switches", index)
        yield from _attachments(at, switch, underlays, spec.name)
        yield from _peers(at, switch, patches)
        yield from _tunnels(at, switch)
    yield from _addresses(spec)


def _names(spec: TopologySpec) -> Found:
    seen: set[str] = set()
    for index, underlay in enumerate(spec.underlays):
        if underlay.name in seen:
            yield ("underlays", index, "name"), f"underlay {underlay.name!r} is there twice"
        seen.add(underlay.name)
    switches: set[str] = set()
    hosts: dict[str, str] = {}
    for index, switch in enumerate(spec.switches):
        at: Path = ("switches", index)
        if switch.name in switches:
            yield (*at, "name"), f"switch {switch.name!r} is there twice"
        switches.add(switch.name)
        yield from _interfaces(at, switch, hosts)


def _interfaces(at: Path, switch: Switch, hosts: dict[str, str]) -> Found:
    """Bridges, ports and interfaces of one switch share one namespace; hosts the whole lab."""
    users: dict[str, str] = {}

    def claim(path: Path, name: str, user: str) -> Found:
        if name in users:
            yield path, f"name {name!r} is already used by {users[name]} of {switch.name!r}"
        users.setdefault(name, user)

    for number, bridge in enumerate(switch.bridges):
        yield from claim((*at, "bridges", number, "name"), bridge.name, f"bridge {bridge.name!r}")
    for number, bridge in enumerate(switch.bridges):
        for index, port in enumerate(bridge.ports):
            path = (*at, "bridges", number, "ports", index)
            taken = port.name in users
            yield from claim((*path, "name"), port.name, f"a port of bridge {bridge.name!r}")
            if isinstance(port, BondPort):
                for place, member in enumerate(port.members):
                    user = f"a member of bond {port.name!r}"
                    yield from claim((*path, "members", place, "name"), member.name, user)
            if isinstance(port, HostPort):
                if port.name in hosts and not taken:
                    message = f"host {port.name!r} is already on switch {hosts[port.name]!r}"
                    yield (*path, "name"), f"{message}; host names are unique in the lab"
                hosts.setdefault(port.name, switch.name)


def _attachments(at: Path, switch: Switch, underlays: set[str], topology: str) -> Found:
    for number, bridge in enumerate(switch.bridges):
        for index, port in enumerate(bridge.ports):
            path = (*at, "bridges", number, "ports", index)
            if isinstance(port, UplinkPort) and port.underlay not in underlays:
                message = unknown("underlay", port.underlay, underlays, topology)
                yield (*path, "underlay"), message
            if isinstance(port, BondPort):
                for place, member in enumerate(port.members):
                    if member.underlay not in underlays:
                        message = unknown("underlay", member.underlay, underlays, topology)
                        yield (*path, "members", place, "underlay"), message


def _peers(at: Path, switch: Switch, elsewhere: dict[str, str]) -> Found:
    places = {port.name: port for bridge in switch.bridges for port in bridge.ports}
    patches = {name for name, port in places.items() if isinstance(port, PatchPort)}
    for number, bridge in enumerate(switch.bridges):
        for index, port in enumerate(bridge.ports):
            if not isinstance(port, PatchPort):
                continue
            path = (*at, "bridges", number, "ports", index, "peer")
            if port.peer == port.name:
                yield path, f"patch {port.name!r} is its own peer"
            elif port.peer not in places:
                if not port.peer_missing:
                    yield path, _no_peer(port, patches, switch.name, elsewhere)
                elif fault := values.interface_name(port.peer):
                    yield path, fault
            elif port.peer_missing:
                message = f"peer {port.peer!r} exists, though peer_missing says that it does not"
                yield path, message
            else:
                yield from _peer(path, port, places[port.peer])


def _peer(path: Path, port: PatchPort, other: Port) -> Found:
    if not isinstance(other, PatchPort):
        yield path, f"peer {port.peer!r} is no patch port"
    elif other.peer != port.name:
        message = f"peer {port.peer!r} points to {other.peer[:64]!r}, not back to {port.name!r}"
        yield path, message


def _no_peer(port: PatchPort, patches: set[str], switch: str, elsewhere: dict[str, str]) -> str:
    if port.peer in elsewhere:
        return (
            f"peer {port.peer!r} is on switch {elsewhere[port.peer]!r}; a patch joins bridges of "
            "one switch, between switches use an underlay"
        )
    message = unknown("peer", port.peer, patches - {port.name}, switch)
    return f"{message} (when it is left out on purpose: peer_missing)"


def _tunnels(at: Path, switch: Switch) -> Found:
    own = local_addresses(switch)
    attached = any(
        isinstance(port, UplinkPort | BondPort)
        for bridge in switch.bridges
        for port in bridge.ports
    )
    for number, bridge in enumerate(switch.bridges):
        for index, port in enumerate(bridge.ports):
            if not isinstance(port, TunnelPort) or port.detached:
                continue
            path = (*at, "bridges", number, "ports", index)
            if not attached:
                message = (
                    f"tunnel {port.name!r} has no underlay: no bridge of {switch.name!r} "
                    "has an uplink or a bond"
                )
                yield path, message
            elif fault := _no_start(port, own, switch.name):
                field = "remote_ip" if port.local_ip in {None, "flow"} else "local_ip"
                yield (*path, field), fault


def _no_start(port: TunnelPort, own: list[values.Interface], switch: str) -> str | None:
    """What is wrong when nothing of the switch can send the tunnel's packets."""
    hint = "give a bridge or an internal port one (on purpose: detached)"
    if port.local_ip not in {None, "flow"}:
        local = values.address(port.local_ip or "")
        if isinstance(local, str) or any(local == interface.ip for interface in own):
            return None
        return f"no bridge of {switch!r} has the tunnel's local address {port.local_ip}; {hint}"
    remote = None if port.remote_ip == "flow" else values.address(port.remote_ip)
    if isinstance(remote, str):
        return None
    if remote is None:
        return None if own else f"{switch!r} has no address for tunnel {port.name!r}; {hint}"
    if any(interface.version == remote.version for interface in own):
        return None
    return f"{switch!r} has no IPv{remote.version} address to reach {remote} from; {hint}"


def local_addresses(switch: Switch) -> list[values.Interface]:
    """The addresses of the switch's own network stack: of its bridges and internal ports."""
    texts = [text for bridge in switch.bridges for text in bridge.addresses]
    texts += [
        text
        for bridge in switch.bridges
        for port in bridge.ports
        if isinstance(port, InternalPort)
        for text in port.addresses
    ]
    found = [values.interface(text) for text in texts]
    return [interface for interface in found if not isinstance(interface, str)]


def _addresses(spec: TopologySpec) -> Found:
    """One address on two switches that an underlay joins, in the same VLAN."""
    users: dict[tuple[str, int | None, values.Address], str] = {}
    for index, switch in enumerate(spec.switches):
        reached = _reached_underlays(switch)
        for path, bridge, tag, text in _owned(("switches", index), switch):
            found = values.interface(text)
            if isinstance(found, str):
                continue
            for underlay in sorted(reached[bridge]):
                first = users.setdefault((underlay, tag, found.ip), switch.name)
                if first != switch.name:
                    message = f"address {found.ip} is already on {first!r}"
                    yield path, f"{message}, on the same underlay {underlay!r}"
                    break


def _owned(at: Path, switch: Switch) -> Iterator[tuple[Path, str, int | None, str]]:
    for number, bridge in enumerate(switch.bridges):
        here = (*at, "bridges", number)
        for index, text in enumerate(bridge.addresses):
            yield (*here, "addresses", index), bridge.name, bridge.vlan.tag, text
        for place, port in enumerate(bridge.ports):
            if isinstance(port, InternalPort):
                for index, text in enumerate(port.addresses):
                    path = (*here, "ports", place, "addresses", index)
                    yield path, bridge.name, port.vlan.tag, text


def _reached_underlays(switch: Switch) -> dict[str, set[str]]:
    """Bridge to the underlays that it reaches, directly or through patches."""
    neighbours: dict[str, set[str]] = defaultdict(set)
    direct: dict[str, set[str]] = defaultdict(set)
    ends = {port.name: bridge.name for bridge in switch.bridges for port in bridge.ports}
    for bridge in switch.bridges:
        for port in bridge.ports:
            if isinstance(port, PatchPort) and port.peer in ends:
                neighbours[bridge.name].add(ends[port.peer])
            elif isinstance(port, UplinkPort):
                direct[bridge.name].add(port.underlay)
            elif isinstance(port, BondPort):
                direct[bridge.name].update(member.underlay for member in port.members)
    reached: dict[str, set[str]] = {}
    for bridge in switch.bridges:
        seen, waiting = {bridge.name}, [bridge.name]
        while waiting:
            fresh = neighbours[waiting.pop()] - seen
            seen |= fresh
            waiting += sorted(fresh)
        reached[bridge.name] = set().union(*(direct[name] for name in seen))
    return reached
