"""What the pictures say, in a network engineer's words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Mirror,
    Port,
    TunnelPort,
    Underlay,
    Vlan,
)

_SHOWN_RANGES = 6


def ranges(numbers: Sequence[int]) -> str:
    """``1, 2, 3, 7`` as ``1-3, 7``; the end of a long list as a count."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    shown = ["-".join(str(edge) for edge in span) for span in spans[:_SHOWN_RANGES]]
    if len(spans) > _SHOWN_RANGES:
        shown.append(f"… ({len(numbers)} VLANs)")
    return ", ".join(shown)


def vlan(columns: Vlan) -> list[str]:
    """The VLAN configuration of a port in lines; none for a plain trunk of every VLAN."""
    mode = columns.mode or ("trunk" if columns.tag is None else "access")
    trunks = f"trunks {ranges(columns.trunks)}" if columns.trunks else ""
    if mode == "trunk":
        if columns.mode is None and not columns.trunks:
            return []
        return [f"trunk {ranges(columns.trunks)}" if columns.trunks else "trunk, all VLANs"]
    first = f"{mode} {columns.tag}"
    inner = f"cvlans {ranges(columns.cvlans)}" if columns.cvlans else ""
    return [first, *(line for line in (trunks, inner) if line)]


def port(data: Port | Bridge) -> list[str]:
    """The VLAN configuration of a port (a bridge's: of its local port), and whether it is
    protected, in lines."""
    return [*vlan(data.vlan), *(["protected"] if data.protected else [])]


def keys(port: TunnelPort) -> str:
    """The keys of a tunnel: ``key 5``, ``key flow``, ``in 1, out 2``; empty without any."""
    found = (port.in_key or port.key, port.out_key or port.key)
    if found == (None, None):
        return ""
    if found[0] == found[1]:
        return f"key {found[0]}"
    return f"in {found[0] or 'none'}, out {found[1] or 'none'}"


def tunnel(port: TunnelPort) -> str:
    """Type and keys: ``vxlan, key 5``."""
    return ", ".join(part for part in (port.type, keys(port)) if part)


def bond(port: BondPort) -> list[str]:
    """Mode, and LACP where it is spoken."""
    return [port.mode, *([f"LACP {port.lacp}"] if port.lacp != "off" else [])]


def mirror(record: Mirror) -> str:
    """``mirror span: from vm1, to vm1 → mon``."""
    chosen = ["all ports"] if record.select_all else []
    if not record.select_all and record.select_src_port:
        chosen.append(f"from {', '.join(record.select_src_port)}")
    if not record.select_all and record.select_dst_port:
        chosen.append(f"to {', '.join(record.select_dst_port)}")
    if record.select_vlan:
        chosen.append(f"VLAN {ranges(record.select_vlan)}")
    if record.filter is not None:
        chosen.append(record.filter)
    target = record.output_port or f"VLAN {record.output_vlan}"
    return f"mirror {record.name}: {', '.join(chosen) or 'nothing selected'} → {target}"


def bridge(data: Bridge) -> list[str]:
    """What sets a bridge apart, in lines."""
    settings = [data.datapath_type or "", f"fail mode {data.fail_mode}" if data.fail_mode else ""]
    settings += ["STP"] * data.stp + ["RSTP"] * data.rstp
    settings += ["multicast snooping"] * data.mcast_snooping
    settings += [f"MTU {data.mtu}"] * (data.mtu is not None)
    found = [", ".join(part for part in settings if part), ", ".join(data.protocols)]
    counts = [
        f"{count} {noun}{'s' * (count != 1)}"
        for noun, text in (("flow", data.flows), ("group", data.groups), ("meter", data.meters))
        if (count := _records(text))
    ]
    local = ", ".join(port(data))
    found += [", ".join(counts), *data.addresses, f"local port: {local}" if local else ""]
    return [line for line in found if line]


def end(port: HostPort | InternalPort) -> list[str]:
    """The addresses of a host or an internal port, its MAC and MTU where they are set."""
    mtu = [f"MTU {port.mtu}"] if port.mtu not in {None, 1500} else []
    return [*port.addresses, *([port.mac] if port.mac else []), *mtu]


def underlay(data: Underlay) -> str:
    """Its name, and its MTU where that is not Ethernet's."""
    return data.name if data.mtu == 1500 else f"{data.name}, MTU {data.mtu}"


def _records(text: str) -> int:
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))
