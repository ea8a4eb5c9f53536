"""A topology written in Python: handles with verbs, and the data when it is finished.

Every handle can stand wherever a name can. A mistake names the call that made it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Literal, Unpack

import msgspec

from harness.topology import values
from harness.topology.bridges import BridgeHandle, LocalColumns, with_vlan
from harness.topology.calls import Call, Handle, caller, make
from harness.topology.errors import Path, path_text
from harness.topology.model import (
    BondPort,
    Bridge,
    FailMode,
    Port,
    Switch,
    TopologySpec,
    Underlay,
)
from harness.topology.validate import check


class UnderlayHandle(Handle):
    """An underlay; ``mtu`` is in bytes."""

    def __init__(self, underlay: Underlay, call: Call) -> None:
        self.name = underlay.name
        self.mtu = underlay.mtu
        self.data = underlay
        self.call = call


class SwitchHandle(Handle):
    """One Open vSwitch instance."""

    def __init__(self, topology: Topology, switch: Switch, call: Call) -> None:
        self.name = switch.name
        self.topology = topology
        self._switch = switch
        self._call = call
        self._bridges: list[BridgeHandle] = []
        self._names: set[str] = set()

    def bridge(
        self,
        name: str,
        *,
        datapath_type: Literal["", "system", "netdev", "dummy"] | None = None,
        fail_mode: FailMode | None = None,
        protocols: Sequence[str] = (),
        addresses: Sequence[str] = (),
        mac: str | None = None,
        mtu: int | None = None,
        local: bool = False,
        mcast_snooping: bool = False,
        stp: bool = False,
        rstp: bool = False,
        other_config: Mapping[str, str] = {},
        flows: str = "",
        groups: str = "",
        meters: str = "",
        tlv_map: str = "",
        **port: Unpack[LocalColumns],
    ) -> BridgeHandle:
        """A bridge with the columns of :class:`~harness.topology.model.Bridge`; ``tag`` and the
        like are those of its local port. Raise :class:`TopologyError` on a value of a wrong
        type."""
        call = caller()
        if wrong := set(port) - LocalColumns.__optional_keys__:
            raise call.refuse(f"{sorted(wrong)[0]!r} is no argument of a bridge")
        bridge = make(
            Bridge,
            call,
            name=name,
            datapath_type=datapath_type,
            fail_mode=fail_mode,
            protocols=protocols,
            addresses=addresses,
            mac=mac,
            mtu=mtu,
            local=local,
            mcast_snooping=mcast_snooping,
            stp=stp,
            rstp=rstp,
            other_config=other_config,
            flows=flows,
            groups=groups,
            meters=meters,
            tlv_map=tlv_map,
            protected=port.get("protected", False),
        )
        handle = BridgeHandle(self, with_vlan(bridge, call, port), call)
        self._bridges.append(handle)
        self._names.add(name)
        return handle

    def claim(self, port: Port) -> None:
        """Note the names that ``port`` takes, so that no default name takes them again."""
        self._names.add(port.name)
        if isinstance(port, BondPort):
            self._names.update(member.name for member in port.members)

    def free_name(self, wanted: str, taken: Collection[str] = ()) -> str:
        """``wanted``, cut to an interface name and numbered from 2 when it is taken."""
        names = (
            wanted[: values.IFNAMSIZ - len(suffix)] + suffix
            for number in count(1)
            for suffix in ["" if number == 1 else f"-{number}"]
        )
        return next(name for name in names if name not in self._names and name not in taken)

    def numbered_name(self, stem: str) -> str:
        """The first free name of ``stem1``, ``stem2`` …: the kernel owns names like ``gre0``."""
        return next(name for n in count(1) if (name := f"{stem}{n}") not in self._names)

    def build(self, at: Path, places: dict[Path, Call]) -> Switch:
        """The switch as data; note in ``places`` which call each part of it came from."""
        places[at] = self._call
        bridges = tuple(
            bridge.build((*at, "bridges", index), places)
            for index, bridge in enumerate(self._bridges)
        )
        return msgspec.structs.replace(self._switch, bridges=bridges)


class Topology(Handle):
    """A topology that is being written. :meth:`freeze` makes the immutable data of it."""

    def __init__(self, name: str) -> None:
        self._call = caller()
        self._spec = make(TopologySpec, self._call, name=name)
        self.name = name
        self._underlays: list[UnderlayHandle] = []
        self._switches: list[SwitchHandle] = []

    def underlay(self, name: str, mtu: int = 1500) -> UnderlayHandle:
        """A network between switches; ``mtu`` in bytes. Raise :class:`TopologyError` on a value
        of a wrong type."""
        call = caller()
        handle = UnderlayHandle(make(Underlay, call, name=name, mtu=mtu), call)
        self._underlays.append(handle)
        return handle

    def switch(
        self, name: str, other_config: Mapping[str, str] = {}, routes: Sequence[str] = ()
    ) -> SwitchHandle:
        """One Open vSwitch instance, with the Open_vSwitch table's ``other_config`` and routes of
        its own network stack as in ``ip route add …``. Raise :class:`TopologyError` on a value of
        a wrong type."""
        call = caller()
        switch = make(Switch, call, name=name, other_config=other_config, routes=routes)
        handle = SwitchHandle(self, switch, call)
        self._switches.append(handle)
        return handle

    def freeze(self) -> TopologySpec:
        """The finished data. Raise :class:`TopologyError` with every mistake and its call."""
        places: dict[Path, Call] = {(): self._call}
        for index, underlay in enumerate(self._underlays):
            places[("underlays", index)] = underlay.call
        spec = msgspec.structs.replace(
            self._spec,
            underlays=tuple(underlay.data for underlay in self._underlays),
            switches=tuple(
                switch.build(("switches", index), places)
                for index, switch in enumerate(self._switches)
            ),
        )

        def where(path: Path) -> str:
            known = next(path[:n] for n in range(len(path), -1, -1) if path[:n] in places)
            return f"{places[known]} ({path_text(path)})"

        return check(spec, where)
