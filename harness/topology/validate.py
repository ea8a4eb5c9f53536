"""Refuses what can't be built, before anything is started, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

import msgspec

from harness.topology import relations, values
from harness.topology.errors import Mistake, Path, TopologyError, path_text
from harness.topology.model import (
    BondMode,
    BondPort,
    Bridge,
    FailMode,
    HostPort,
    InternalPort,
    Lacp,
    Mirror,
    PatchPort,
    Port,
    Switch,
    TopologySpec,
    TunnelPort,
    TunnelType,
    UplinkPort,
    Vlan,
    VlanMode,
)

MAX_SWITCHES = 256
MAX_PORTS = 16384
MAX_ADDRESSES = 64
MAX_MAP = 256
_CHOICES: dict[str, tuple[str, ...]] = {
    "vlan.mode": get_args(VlanMode),
    "mode": get_args(BondMode),
    "lacp": get_args(Lacp),
    "type": get_args(TunnelType),
    "fail_mode": get_args(FailMode),
    "datapath_type": ("system", "netdev", "dummy"),
}
Found = Iterator[tuple[Path, str]]


def validate(spec: TopologySpec, where: Callable[[Path], str] = path_text) -> list[Mistake]:
    """Everything that is wrong with ``spec``, in the order of the data; [] when it can be built.

    ``where`` turns a path into the place that the reader knows: a line, a call.
    """
    wrong_type = list(_types(spec))
    found = wrong_type or [*_topology(spec), *relations.faults(spec)]
    return [Mistake(where(path), message) for path, message in found]


def check(spec: TopologySpec, where: Callable[[Path], str] = path_text) -> TopologySpec:
    """Return ``spec``; raise :class:`TopologyError` with every mistake that is in it."""
    if mistakes := validate(spec, where):
        raise TopologyError(mistakes)
    return spec


def _types(spec: TopologySpec) -> Found:
    # A Struct does not check the types of its fields when it is made in Python.
    try:
        msgspec.convert(msgspec.to_builtins(spec), TopologySpec)
    except msgspec.ValidationError as error:
        yield wrong_type(error)
    except (TypeError, UnicodeEncodeError) as error:
        yield (), f"this is no topology data: {error}"
    except RecursionError:
        yield (), "this is no topology data: it is nested too deeply"


def wrong_type(error: msgspec.ValidationError, within: str = "") -> tuple[Path, str]:
    """msgspec's words for a value of a wrong type, in those of Python, and where it is.

    ``within`` is the field that the data as a whole is, as ``vlan``.
    """
    message, _, place = str(error).partition(" - at `$")
    message = message.replace("Expected", "expected").replace("Invalid", "invalid")
    for theirs, ours in (("array", "list"), ("object", "dict"), ("null", "None")):
        message = re.sub(rf"(?<=[`| ]){theirs}(?=[`| ])", ours, message)
    path: list[str | int] = []
    for name, index in re.findall(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]", place):
        if index == "...":
            break
        path.append(name or int(index))
    field = ".".join(str(step) for step in (within, *path)[-2:])
    choices = _CHOICES.get(field) or _CHOICES.get(field.rpartition(".")[2])
    if choices and "enum" in message:
        message += f"; use {', '.join(repr(choice) for choice in choices)}"
    return tuple(path), message


def _topology(spec: TopologySpec) -> Found:
    if fault := values.node_name(spec.name, 64):
        yield ("name",), fault
    if len(spec.switches) > MAX_SWITCHES:
        message = f"{len(spec.switches)} switches, at most {MAX_SWITCHES} are allowed"
        yield ("switches",), message
        return
    ports = sum(len(bridge.ports) for switch in spec.switches for bridge in switch.bridges)
    if ports > MAX_PORTS:
        yield ("switches",), f"{ports} ports, at most {MAX_PORTS} are allowed"
        return
    for index, underlay in enumerate(spec.underlays):
        at: Path = ("underlays", index)
        yield from _one((*at, "name"), values.node_name(underlay.name))
        yield from _one((*at, "mtu"), values.mtu(underlay.mtu))
    for index, switch in enumerate(spec.switches):
        yield from _switch(("switches", index), switch)


def _switch(at: Path, switch: Switch) -> Found:
    yield from _one((*at, "name"), values.node_name(switch.name))
    yield from _map((*at, "other_config"), switch.other_config)
    for index, route in enumerate(switch.routes):
        yield from _one((*at, "routes", index), values.route(route))
    for index, bridge in enumerate(switch.bridges):
        yield from _bridge((*at, "bridges", index), bridge)


def _bridge(at: Path, bridge: Bridge) -> Found:
    yield from _one((*at, "name"), values.interface_name(bridge.name))
    yield from _map((*at, "other_config"), bridge.other_config)
    yield from _end(at, bridge.addresses, bridge.mac, bridge.mtu)
    yield from _vlan((*at, "vlan"), bridge.vlan)
    yield from _protocols((*at, "protocols"), bridge.protocols)
    for field in ("flows", "groups", "meters", "tlv_map"):
        yield from _one((*at, field), values.lines(getattr(bridge, field)))
    for index, port in enumerate(bridge.ports):
        yield from _port((*at, "ports", index), port)
    names: set[str] = set()
    for index, mirror in enumerate(bridge.mirrors):
        yield from _mirror((*at, "mirrors", index), mirror, bridge)
        if mirror.name in names:
            yield (*at, "mirrors", index, "name"), f"mirror {mirror.name!r} is there twice"
        names.add(mirror.name)


def _protocols(at: Path, protocols: Sequence[str]) -> Found:
    seen = set()
    for index, protocol in enumerate(protocols):
        if protocol not in values.PROTOCOLS:
            message = f"protocol {protocol[:64]!r} is unknown; use {', '.join(values.PROTOCOLS)}"
            yield (*at, index), message
        elif protocol in seen:
            yield (*at, index), f"protocol {protocol!r} is listed twice"
        seen.add(protocol)


def _port(at: Path, port: Port) -> Found:
    yield from _one((*at, "name"), values.interface_name(port.name))
    yield from _vlan((*at, "vlan"), port.vlan)
    yield from _map((*at, "other_config"), port.other_config)
    yield from _interface((*at, "interface"), port.interface)
    yield from _qos(at, port)
    match port:
        case HostPort() | InternalPort():
            yield from _end(at, port.addresses, port.mac, port.mtu)
        case TunnelPort():
            yield from _tunnel(at, port)
        case BondPort():
            yield from _bond(at, port)
        case PatchPort() | UplinkPort():
            pass


def _vlan(at: Path, vlan: Vlan) -> Found:
    if vlan.tag is not None:
        yield from _one((*at, "tag"), values.vlan(vlan.tag))
    yield from _one((*at, "trunks"), values.vlans(vlan.trunks))
    yield from _one((*at, "cvlans"), values.vlans(vlan.cvlans))
    # ovs-vswitchd.conf.db(5), "VLAN Configuration": which column each mode uses.
    mode = vlan.mode or ("trunk" if vlan.tag is None else "access")
    said = f"mode {mode}" if vlan.mode else f"a port with tag {vlan.tag} and no mode is access, and"
    if mode == "trunk" and vlan.tag is not None:
        message = (
            f"{said} carries no tag {vlan.tag}; "
            "use native-tagged or native-untagged, or leave the tag out"
        )
        yield (*at, "tag"), message
    if mode != "trunk" and vlan.tag is None:
        yield (*at, "mode"), f"{said} needs a tag (0 for no VLAN)"
    if mode in {"access", "dot1q-tunnel"} and vlan.trunks:
        hint = "" if vlan.mode else "; for both give a mode: native-tagged or native-untagged"
        yield (*at, "trunks"), f"{said} has no trunks{hint}"
    if mode != "dot1q-tunnel" and vlan.cvlans:
        yield (*at, "cvlans"), "cvlans are used only by mode dot1q-tunnel; set the mode to it"


def _qos(at: Path, port: Port) -> Found:
    yield from _map((*at, "qos"), port.qos)
    if (port.qos or port.queues) and not port.qos.get("type"):
        yield (*at, "qos"), "a QoS needs its `type` (ovs-vswitchd.conf.db(5), QoS), e.g. linux-htb"
    if len(port.queues) > MAX_MAP:
        yield (*at, "queues"), f"{len(port.queues)} queues, at most {MAX_MAP} are allowed"
        return
    for number, settings in port.queues.items():
        if not 0 <= number < 1 << 32:
            yield (*at, "queues"), f"queue {number} does not exist; use 0 to 4294967295"
        yield from _map((*at, "queues", number), settings)


def _tunnel(at: Path, port: TunnelPort) -> Found:
    yield from _map((*at, "options"), port.options)
    ends = {}
    for field, text in (("remote_ip", port.remote_ip), ("local_ip", port.local_ip)):
        if text is None or text == "flow":
            continue
        end = values.address(text)
        if isinstance(end, str):
            yield (*at, field), end
            continue
        ends[field] = end
        if port.type in {"ip6gre", "ip6erspan"} and end.version == 4:
            yield (*at, field), f"{text} is IPv4; {port.type} runs over IPv6 (use {port.type[3:]})"
    if len(ends) == 2 and ends["remote_ip"].version != ends["local_ip"].version:
        yield (*at, "local_ip"), f"{port.local_ip} and remote {port.remote_ip} mix IPv4 and IPv6"
    if port.local_ip == "flow" and port.remote_ip != "flow":
        yield (*at, "local_ip"), "local_ip `flow` needs remote_ip `flow` (ovs-vswitchd.conf.db(5))"
    for field in ("key", "in_key", "out_key"):
        text = getattr(port, field)
        if text is not None:
            yield from _one((*at, field), values.key(text, port.type))
    for field in ("remote_ip", "local_ip", "key", "in_key", "out_key"):
        if field in port.options:
            yield (*at, "options", field), f"{field} is a field of the tunnel, not one of options"


def _bond(at: Path, port: BondPort) -> Found:
    if port.interface:
        yield (*at, "interface"), "a bond has several interfaces; set the columns at its members"
    if len(port.members) < 2:
        yield (*at, "members"), f"a bond needs two members or more, this has {len(port.members)}"
    if len(port.members) > MAX_MAP:
        yield (*at, "members"), f"{len(port.members)} members, at most {MAX_MAP} are allowed"
        return
    for field, delay in (("updelay", port.updelay), ("downdelay", port.downdelay)):
        if not 0 <= delay <= 86_400_000:
            yield (*at, field), f"{field} {delay} ms is out of range; use 0 to 86400000"
    underlays: set[str] = set()
    for index, member in enumerate(port.members):
        here = (*at, "members", index)
        yield from _one((*here, "name"), values.interface_name(member.name))
        yield from _interface((*here, "interface"), member.interface)
        if member.underlay in underlays:
            message = f"underlay {member.underlay!r} is there twice; each member needs its own"
            yield (*here, "underlay"), message
        underlays.add(member.underlay)


def _mirror(at: Path, mirror: Mirror, bridge: Bridge) -> Found:
    yield from _one((*at, "name"), values.node_name(mirror.name, 64))
    yield from _one((*at, "select_vlan"), values.vlans(mirror.select_vlan))
    if mirror.filter is not None:
        yield from _one((*at, "filter"), values.match(mirror.filter))
    outputs = [mirror.output_port is not None, mirror.output_vlan is not None]
    if sum(outputs) != 1:
        said = "both output_port and output_vlan" if all(outputs) else "no output"
        yield at, f"mirror {mirror.name!r} has {said}; give exactly one of the two"
    if mirror.output_vlan is not None:
        yield from _one((*at, "output_vlan"), values.vlan(mirror.output_vlan, low=1))
    if mirror.snaplen is not None and not 14 <= mirror.snaplen <= 65535:
        yield (*at, "snaplen"), f"snaplen {mirror.snaplen} is out of range; use 14 to 65535"
    ports = {bridge.name, *(port.name for port in bridge.ports)}
    for field in ("select_src_port", "select_dst_port"):
        seen = set()
        for index, name in enumerate(getattr(mirror, field)):
            if name not in ports:
                yield (*at, field, index), relations.unknown("port", name, ports, bridge.name)
            elif name in seen:
                yield (*at, field, index), f"port {name!r} is listed twice"
            seen.add(name)
    if mirror.output_port is not None and mirror.output_port not in ports:
        message = relations.unknown("port", mirror.output_port, ports, bridge.name)
        yield (*at, "output_port"), message


def _end(at: Path, addresses: Sequence[str], mac: str | None, mtu: int | None) -> Found:
    """What bridges, hosts and internal ports have at their own end."""
    if len(addresses) > MAX_ADDRESSES:
        message = f"{len(addresses)} addresses, at most {MAX_ADDRESSES} are allowed"
        yield (*at, "addresses"), message
        return
    seen = set()
    for index, text in enumerate(addresses):
        found = values.interface(text)
        if isinstance(found, str):
            yield (*at, "addresses", index), found
        elif found.ip in seen:
            yield (*at, "addresses", index), f"address {found.ip} is there twice"
        else:
            seen.add(found.ip)
    if mac is not None:
        yield from _one((*at, "mac"), values.mac(mac))
    if mtu is not None:
        yield from _one((*at, "mtu"), values.mtu(mtu, addresses))


def _interface(at: Path, columns: Mapping[str, object]) -> Found:
    if len(columns) > MAX_MAP:
        yield at, f"{len(columns)} columns, at most {MAX_MAP} are allowed"
        return
    for name, value in columns.items():
        yield from _one((*at, name), values.column(name))
        if isinstance(value, str):
            yield from _one((*at, name), values.one_line(value))
        elif isinstance(value, Mapping):
            yield from _map((*at, name), value)


def _map(at: Path, entries: Mapping[str, str]) -> Found:
    if len(entries) > MAX_MAP:
        yield at, f"{len(entries)} entries, at most {MAX_MAP} are allowed"
        return
    for key, value in entries.items():
        yield from _one(at, values.map_key(key))
        yield from _one((*at, key), values.one_line(value))


def _one(path: Path, fault: str | None) -> Found:
    if fault is not None:
        yield path, fault
