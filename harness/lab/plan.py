"""What has to be made for a topology: a pure function of its data."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from harness.lab.routes import next_hop
from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Switch,
    TopologySpec,
    TunnelPort,
    UplinkPort,
)

HOST_INTERFACE = "eth0"


class Endpoint(msgspec.Struct, frozen=True):
    """A place in a switch's node that frames are sent from and heard at."""

    name: str
    switch: str
    bridge: str
    space: str | None
    """The network namespace that it lives in; None: the switch's own."""
    interface: str
    """The interface that frames are sent and captured on."""
    port: str
    """The switch's own interface for it."""
    mac: str
    """Empty for an internal port without a given address: the switch gives it one."""
    mtu: int
    addresses: tuple[str, ...]

    @property
    def is_host(self) -> bool:
        return self.space is not None


class End(msgspec.Struct, frozen=True):
    """Where an underlay reaches a switch."""

    switch: str
    interface: str


class Wire(msgspec.Struct, frozen=True):
    """An underlay with its ends, and its MTU."""

    name: str
    mtu: int
    ends: tuple[End, ...]


class SwitchPlan(msgspec.Struct, frozen=True):
    """What a switch's node needs beside Open vSwitch's own configuration."""

    spec: Switch
    endpoints: tuple[Endpoint, ...]
    addresses: tuple[tuple[str, str], ...]
    """Interface and address with prefix length, of bridges' local and of internal ports."""
    up: tuple[str, ...]
    """Interfaces of Open vSwitch's own making that have to be set up."""
    mtus: dict[str, int] = {}
    neighbours: tuple[tuple[str, str], ...] = ()
    """Local address, and that of the next hop, of each tunnel: see :func:`_neighbours`."""
    replication: int = 1
    """How many copies of one frame can leave by one physical port: tunnels share it."""


class Plan(msgspec.Struct, frozen=True):
    """A topology, resolved."""

    spec: TopologySpec
    switches: dict[str, SwitchPlan]
    endpoints: dict[str, Endpoint]
    wires: dict[str, Wire]

    @property
    def most_rows(self) -> int:
        """More rows than the database of any of the switches has."""
        return 64 + 8 * max(
            (
                sum(1 + len(bridge.ports) + len(bridge.mirrors) for bridge in switch.bridges)
                for switch in self.spec.switches
            ),
            default=0,
        )


def make(spec: TopologySpec) -> Plan:
    """Resolve a validated topology."""
    everywhere = {
        str(ipaddress.ip_interface(address).ip)
        for switch in spec.switches
        for _name, address in _switch_addresses(switch)
    }
    switches = {}
    endpoints: dict[str, Endpoint] = {}
    for number, switch in enumerate(spec.switches):
        found = tuple(_endpoints(number, switch))
        endpoints.update((endpoint.name, endpoint) for endpoint in found)
        switches[switch.name] = _switch_plan(switch, found, everywhere)
    return Plan(spec, switches, endpoints, _wires(spec))


def host_mac(switch: int, host: int) -> str:
    """A host's MAC address by its place: locally administered, unicast (IEEE 802, 8.2.2)."""
    return f"02:00:{switch >> 8:02x}:{switch & 255:02x}:{host >> 8:02x}:{host & 255:02x}"


def _endpoints(number: int, switch: Switch) -> Iterator[Endpoint]:
    host = 0
    for bridge in switch.bridges:
        if bridge.local:
            yield _inside(switch, bridge, bridge)
        for port in bridge.ports:
            if isinstance(port, HostPort):
                host += 1
                yield Endpoint(
                    name=port.name,
                    switch=switch.name,
                    bridge=bridge.name,
                    space=port.name,
                    interface=HOST_INTERFACE,
                    port=port.name,
                    mac=port.mac or host_mac(number + 1, host),
                    mtu=port.mtu,
                    addresses=port.addresses,
                )
            elif isinstance(port, InternalPort):
                yield _inside(switch, bridge, port)


def _inside(switch: Switch, bridge: Bridge, port: Bridge | InternalPort) -> Endpoint:
    return Endpoint(
        name=f"{switch.name}:{port.name}",
        switch=switch.name,
        bridge=bridge.name,
        space=None,
        interface=port.name,
        port=port.name,
        mac=port.mac or "",
        mtu=port.mtu or 1500,
        addresses=port.addresses,
    )


def _own_ports(switch: Switch) -> Iterator[Bridge | InternalPort]:
    for bridge in switch.bridges:
        yield bridge
        yield from (port for port in bridge.ports if isinstance(port, InternalPort))


def _switch_addresses(switch: Switch) -> list[tuple[str, str]]:
    return [(port.name, address) for port in _own_ports(switch) for address in port.addresses]


def _switch_plan(switch: Switch, found: tuple[Endpoint, ...], everywhere: set[str]) -> SwitchPlan:
    own = list(_own_ports(switch))
    tunnels = [
        port for bridge in switch.bridges for port in bridge.ports if isinstance(port, TunnelPort)
    ]
    return SwitchPlan(
        spec=switch,
        endpoints=found,
        addresses=tuple(_switch_addresses(switch)),
        up=tuple(
            port.name
            for port in own
            if port.addresses or isinstance(port, InternalPort) or port.local
        ),
        mtus={port.name: port.mtu for port in own if port.mtu is not None},
        neighbours=tuple(
            sorted(
                {
                    pair
                    for port in tunnels
                    if not port.detached
                    for pair in _neighbours(port, switch, everywhere)
                }
            )
        ),
        replication=1 + len(tunnels),
    )


def _neighbours(
    port: TunnelPort, switch: Switch, everywhere: set[str]
) -> Iterator[tuple[str, str]]:
    """Local address, and that of the next hop, of what a tunnel may send to: where flows choose
    the remote address, every address of another switch. Left out is whom nobody would answer for:
    an address that this topology does not have."""
    own = [address for _name, address in _switch_addresses(switch)]
    if port.remote_ip == "flow":
        local, remotes = "", everywhere - {str(ipaddress.ip_interface(text).ip) for text in own}
    else:
        local, remotes = port.local_ip or "", {port.remote_ip}
    for remote in remotes:
        hop = next_hop(remote, own, switch.routes)
        if hop in everywhere:
            yield local, hop


def _wires(spec: TopologySpec) -> dict[str, Wire]:
    ends: dict[str, list[End]] = {underlay.name: [] for underlay in spec.underlays}
    mtus = {underlay.name: underlay.mtu for underlay in spec.underlays}
    for switch in spec.switches:
        for bridge in switch.bridges:
            for port in bridge.ports:
                if isinstance(port, UplinkPort):
                    ends[port.underlay].append(End(switch.name, port.name))
                elif isinstance(port, BondPort):
                    for member in port.members:
                        ends[member.underlay].append(End(switch.name, member.name))
    return {name: Wire(name, mtus[name], tuple(found)) for name, found in ends.items()}
