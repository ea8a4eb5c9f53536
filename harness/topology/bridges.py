"""The verbs of a bridge: each adds one port, mirror or line of OpenFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, cast

import msgspec

from harness.topology import values
from harness.topology.calls import Call, Handle, caller, make
from harness.topology.errors import Path
from harness.topology.model import (
    BondMember,
    BondMode,
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Lacp,
    Mirror,
    PatchPort,
    Port,
    TunnelPort,
    TunnelType,
    UplinkPort,
    Vlan,
    VlanMode,
)

if TYPE_CHECKING:
    from harness.topology.builder import SwitchHandle, UnderlayHandle


Owner = TypeVar("Owner", bound=Port | Bridge)


class LocalColumns(TypedDict, total=False):
    """What a bridge's local port takes too: columns of the Port table (ovs-vswitchd.conf.db(5))
    under their own names."""

    tag: int | None
    trunks: Sequence[int]
    vlan_mode: VlanMode | None
    cvlans: Sequence[int]
    protected: bool


class PortColumns(LocalColumns, total=False):
    """What every other port takes: further columns of the Port table, ``interface`` for those of
    the Interface, and a QoS."""

    other_config: Mapping[str, str]
    interface: Mapping[str, str | int | bool | Mapping[str, str]]
    qos: Mapping[str, str]
    queues: Mapping[int, Mapping[str, str]]


class PortHandle(Handle):
    """A port of a bridge."""

    def __init__(self, name: str, bridge: BridgeHandle) -> None:
        self.name = name
        self.bridge = bridge


class BridgeHandle(Handle):
    """A bridge; it stands for its local port where a port is asked for."""

    def __init__(self, switch: SwitchHandle, bridge: Bridge, call: Call) -> None:
        self.name = bridge.name
        self.switch = switch
        self._bridge = bridge
        self._call = call
        self._ports: list[tuple[Port, Call]] = []
        self._mirrors: list[tuple[Mirror, Call]] = []
        self._addresses = [(address, call) for address in bridge.addresses]
        self._texts: dict[str, list[tuple[str, Call]]] = {
            field: [(text, call)] if (text := _flush_left(getattr(bridge, field))) else []
            for field in ("flows", "groups", "meters", "tlv_map")
        }

    def host(
        self,
        name: str,
        *,
        addresses: Sequence[str] = (),
        mac: str | None = None,
        mtu: int = 1500,
        **columns: Unpack[PortColumns],
    ) -> PortHandle:
        """A host behind a port of the same name; ``addresses`` with prefix length, ``mtu`` in
        bytes. Raise :class:`TopologyError` on a value of a wrong type, as every verb does."""
        return self._add(
            HostPort, caller(), columns, name=name, addresses=addresses, mac=mac, mtu=mtu
        )

    def uplink(
        self,
        underlay: UnderlayHandle | str,
        name: str | None = None,
        **columns: Unpack[PortColumns],
    ) -> PortHandle:
        """A physical port on ``underlay``: named like it, unless said otherwise."""
        target = _name(underlay)
        return self._add(
            UplinkPort,
            caller(),
            columns,
            name=self.switch.free_name(target) if name is None else name,
            underlay=target,
        )

    def patch(
        self,
        other: BridgeHandle,
        name: str | None = None,
        peer: str | None = None,
        **columns: Unpack[PortColumns],
    ) -> tuple[PortHandle, PortHandle]:
        """A patch to ``other``, a bridge of the same switch: both its ends, the near one first.

        ``name`` is the near end's, by default ``int-to-pif`` from ``br-int`` to ``br-pif``;
        ``columns`` are those of the near end.
        """
        call = caller()
        if other.switch is not self.switch:
            raise call.refuse(
                f"a patch joins bridges of one switch, but {self.name!r} is on "
                f"{self.switch.name!r} and {other.name!r} on {other.switch.name!r}; "
                "between switches use an underlay"
            )
        near = name if name is not None else self.switch.free_name(_patch_name(self, other))
        taken = {near} if peer is None else set()
        far = peer if peer is not None else self.switch.free_name(_patch_name(other, self), taken)
        return (
            self._add(PatchPort, call, columns, name=near, peer=far),
            other._add(PatchPort, call, {}, name=far, peer=near),
        )

    def dangling_patch(self, name: str, peer: str, **columns: Unpack[PortColumns]) -> PortHandle:
        """A patch port whose ``peer`` does not exist, on purpose."""
        return self._add(PatchPort, caller(), columns, name=name, peer=peer, peer_missing=True)

    def tunnel(
        self,
        type: TunnelType,  # noqa: A002 (the column's own name)
        name: str | None = None,
        *,
        remote: str,
        local: str | None = None,
        key: str | int | None = None,
        in_key: str | int | None = None,
        out_key: str | int | None = None,
        options: Mapping[str, str] = {},
        detached: bool = False,
        **columns: Unpack[PortColumns],
    ) -> PortHandle:
        """A tunnel to ``remote`` from ``local`` (IP addresses or ``flow``), by default named
        ``vxlan1``, ``vxlan2`` … A key is a number or ``flow``; ``detached`` says that no
        interface has the local address, on purpose."""
        return self._add(
            TunnelPort,
            caller(),
            columns,
            name=self.switch.numbered_name(type) if name is None else name,
            type=type,
            remote_ip=remote,
            local_ip=local,
            key=_key(key),
            in_key=_key(in_key),
            out_key=_key(out_key),
            options=options,
            detached=detached,
        )

    def internal(
        self,
        name: str,
        *,
        addresses: Sequence[str] = (),
        mac: str | None = None,
        mtu: int | None = None,
        **columns: Unpack[PortColumns],
    ) -> PortHandle:
        """An internal port: an interface of the switch's own network stack."""
        return self._add(
            InternalPort, caller(), columns, name=name, addresses=addresses, mac=mac, mtu=mtu
        )

    def bond(
        self,
        name: str,
        underlays: Sequence[UnderlayHandle | str],
        *,
        mode: BondMode = "active-backup",
        lacp: Lacp = "off",
        updelay: int = 0,
        downdelay: int = 0,
        fake_iface: bool = False,
        **columns: Unpack[PortColumns],
    ) -> PortHandle:
        """A bond with one member on each underlay, named like it; delays in milliseconds.

        The ``interface`` columns are those of every member.
        """
        call = caller()
        interface = columns.pop("interface", {})
        targets = [_name(underlay) for underlay in underlays]
        names: list[str] = []
        for target in targets:
            names.append(self.switch.free_name(target, {*names, name}))
        members = [
            make(BondMember, call, name=member, underlay=target, interface=interface)
            for member, target in zip(names, targets, strict=True)
        ]
        return self._add(
            BondPort,
            call,
            columns,
            name=name,
            members=[msgspec.to_builtins(member) for member in members],
            mode=mode,
            lacp=lacp,
            updelay=updelay,
            downdelay=downdelay,
            fake_iface=fake_iface,
        )

    def mirror(
        self,
        name: str,
        *,
        select_all: bool = False,
        select_src_port: Sequence[Handle | str] = (),
        select_dst_port: Sequence[Handle | str] = (),
        select_vlan: Sequence[int] = (),
        filter: str | None = None,  # noqa: A002 (the column's own name)
        output_port: Handle | str | None = None,
        output_vlan: int | None = None,
        snaplen: int | None = None,
    ) -> None:
        """A mirror (ovs-vswitchd.conf.db(5), Mirror); exactly one of the two outputs is given.
        ``snaplen`` is in bytes."""
        call = caller()
        mirror = make(
            Mirror,
            call,
            name=name,
            select_all=select_all,
            select_src_port=select_src_port,
            select_dst_port=select_dst_port,
            select_vlan=select_vlan,
            filter=filter,
            output_port=output_port,
            output_vlan=output_vlan,
            snaplen=snaplen,
        )
        self._mirrors.append((mirror, call))

    def flow(self, text: str) -> BridgeHandle:
        """One OpenFlow flow, as in ``ovs-ofctl add-flow``."""
        return self._text("flows", text, one=True)

    def flows(self, text: str) -> BridgeHandle:
        """OpenFlow flows, one a line, as in a file of ``ovs-ofctl add-flows``."""
        return self._text("flows", text)

    def group(self, text: str) -> BridgeHandle:
        """One OpenFlow group, as in ``ovs-ofctl add-group``."""
        return self._text("groups", text, one=True)

    def meter(self, text: str) -> BridgeHandle:
        """One OpenFlow meter, as in ``ovs-ofctl add-meter``."""
        return self._text("meters", text, one=True)

    def tlv_map(self, text: str) -> BridgeHandle:
        """Mappings of tunnel options, as in ``ovs-ofctl add-tlv-map``."""
        return self._text("tlv_map", text, one=True)

    def address(self, cidr: str) -> BridgeHandle:
        """An address with prefix length on the bridge's local interface."""
        call = caller()
        if not isinstance(cidr, str):
            raise call.refuse(f"expected an address as text, got {cidr!r}")
        self._addresses.append((cidr, call))
        return self

    def build(self, at: Path, places: dict[Path, Call]) -> Bridge:
        """The bridge as data; note in ``places`` which call each part of it came from."""
        places[at] = self._call
        for field, made in (("ports", self._ports), ("mirrors", self._mirrors)):
            places |= {(*at, field, index): call for index, (_, call) in enumerate(made)}
        for index, (_, call) in enumerate(self._addresses):
            places[(*at, "addresses", index)] = call
        for field, pieces in self._texts.items():
            if pieces:
                faulty = (call for text, call in pieces if values.lines(text))
                places[(*at, field)] = next(faulty, pieces[-1][1])
        texts = {
            field: ("," if field == "tlv_map" else "\n").join(text for text, _ in pieces)
            for field, pieces in self._texts.items()
        }
        return msgspec.structs.replace(
            self._bridge,
            ports=tuple(port for port, _ in self._ports),
            mirrors=tuple(mirror for mirror, _ in self._mirrors),
            addresses=tuple(address for address, _ in self._addresses),
            **texts,
        )

    def _add(
        self, kind: type[Port], call: Call, columns: PortColumns, **fields: object
    ) -> PortHandle:
        if wrong := set(columns) - PortColumns.__optional_keys__:
            raise call.refuse(f"{sorted(wrong)[0]!r} is no argument of a port of this kind")
        others = {name: value for name, value in columns.items() if name not in _VLAN.values()}
        port = with_vlan(make(kind, call, **fields, **others), call, columns)
        self._ports.append((port, call))
        self.switch.claim(port)
        return PortHandle(port.name, self)

    def _text(self, field: str, text: str, *, one: bool = False) -> BridgeHandle:
        call = caller()
        if not isinstance(text, str):
            raise call.refuse(f"expected {field} as text, got {text!r}")
        text = _flush_left(text)
        if one and "\n" in text:
            raise call.refuse(f"this takes one line, but the text has {text.count(chr(10)) + 1}")
        if text:
            self._texts[field].append((text, call))
        return self


_VLAN = {"tag": "tag", "trunks": "trunks", "mode": "vlan_mode", "cvlans": "cvlans"}


def with_vlan(made: Owner, call: Call, columns: Mapping[str, object]) -> Owner:
    """A port, or a bridge for its local one, with its VLAN columns as the caller gave them."""
    vlan = {
        field: value
        for field, name in _VLAN.items()
        if (value := columns.get(name)) is not None and value != ()
    }
    if not vlan:
        return made
    return msgspec.structs.replace(made, vlan=make(Vlan, call, str(made.name), **vlan))


def _flush_left(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _name(given: Handle | str) -> str:
    return given.name if isinstance(given, Handle) else given


def _key(given: str | int | None) -> str | None:
    # True is an int to Python; str() would let it pass as a key.
    return str(given) if type(given) is int else cast("str | None", given)


def _patch_name(here: BridgeHandle, there: BridgeHandle) -> str:
    """``int-to-pif`` from ``br-int`` to ``br-pif``; long names are cut so that both show."""
    near, far = (bridge.name.removeprefix("br-") for bridge in (here, there))
    room = values.IFNAMSIZ - len("-to-")
    if len(near) + len(far) > room:
        near = near[: max(room // 2, room - len(far))]
        far = far[: room - len(near)]
    return f"{near}-to-{far}"
