"""A switch's topology as one transaction of its database.

Tables and columns are those of ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.ovs.errors import ConfigurationError
from harness.ovs.transaction import Record, Transaction, Value
from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Mirror,
    PatchPort,
    Port,
    Switch,
    TunnelPort,
    UplinkPort,
    Vlan,
)


def transaction(switch: Switch, datapath: str) -> Transaction:
    """What makes ``switch`` what its topology says.

    ``datapath`` (system, netdev or dummy) is the ``datapath_type`` of bridges that name none.
    Bridges that were there before are replaced. Raise :class:`ConfigurationError` for what the
    database cannot hold.
    """
    made = Transaction()
    bridges: list[Value] = [_bridge(made, bridge, datapath) for bridge in switch.bridges]
    made.set_root({"bridges": bridges}, {"other_config": switch.other_config})
    return made


def interfaces(bridge: Bridge) -> Iterator[str]:
    """The names of all Interface records of a bridge, its local one first."""
    yield bridge.name
    for port in bridge.ports:
        if isinstance(port, BondPort):
            yield from (member.name for member in port.members)
        else:
            yield port.name


def _bridge(transaction: Transaction, bridge: Bridge, datapath: str) -> Record:
    ports = {bridge.name: _local_port(transaction, bridge)}
    for port in bridge.ports:
        ports[port.name] = _port(transaction, port)
    mirrors: list[Value] = [
        _mirror(transaction, bridge, mirror, ports) for mirror in bridge.mirrors
    ]
    other_config = dict(bridge.other_config)
    if bridge.mac is not None:
        other_config["hwaddr"] = bridge.mac
    columns: dict[str, Value] = {
        "name": bridge.name,
        "datapath_type": datapath if bridge.datapath_type is None else bridge.datapath_type,
        "ports": list(ports.values()),
        "fail_mode": bridge.fail_mode or [],
        "protocols": bridge.protocols,
        "mcast_snooping_enable": bridge.mcast_snooping,
        "stp_enable": bridge.stp,
        "rstp_enable": bridge.rstp,
        "other_config": other_config,
        "mirrors": mirrors,
    }
    return transaction.create("Bridge", _without_defaults(columns))


def _without_defaults(columns: Mapping[str, Value]) -> dict[str, Value]:
    # The default of every column used here is false, 0, or a set or map without members.
    return {name: value for name, value in columns.items() if value not in (False, [], (), {})}


def _local_port(transaction: Transaction, bridge: Bridge) -> Record:
    columns: dict[str, Value] = {"name": bridge.name, "type": "internal"}
    if bridge.mtu is not None:
        columns["mtu_request"] = bridge.mtu
    interface = transaction.create("Interface", columns)
    port: dict[str, Value] = {
        "name": bridge.name,
        "interfaces": [interface],
        **_vlan(bridge.vlan),
        "protected": bridge.protected,
    }
    return transaction.create("Port", _without_defaults(port))


def _port(transaction: Transaction, port: Port) -> Record:
    columns: dict[str, Value] = {
        "name": port.name,
        "interfaces": _interfaces(transaction, port),
        **_vlan(port.vlan),
        "protected": port.protected,
        **_bond(port),
        "other_config": port.other_config,
        "qos": _qos(transaction, port),
    }
    return transaction.create("Port", _without_defaults(columns))


def _interfaces(transaction: Transaction, port: Port) -> list[Value]:
    if isinstance(port, BondPort):
        return [
            _interface(transaction, member.name, {}, {**port.interface, **member.interface})
            for member in port.members
        ]
    return [_interface(transaction, port.name, _kind(port), port.interface)]


def _interface(
    transaction: Transaction,
    name: str,
    columns: Mapping[str, Value],
    further: Mapping[str, str | int | bool | dict[str, str]],
) -> Record:
    """An Interface record; maps among ``further`` add to those of ``columns``."""
    if "name" in further:
        raise ConfigurationError(f"port {name}: the column name of its interface cannot be set")
    merged: dict[str, Value] = {"name": name, **columns}
    for column, value in further.items():
        before = merged.get(column)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[column] = {**before, **value}
        else:
            merged[column] = value
    return transaction.create("Interface", merged)


def _kind(port: Port) -> dict[str, Value]:
    """The columns by which the Interfaces of the kinds of port differ."""
    match port:
        case PatchPort():
            return {"type": "patch", "options": {"peer": port.peer}}
        case TunnelPort():
            return {"type": port.type, "options": _tunnel_options(port)}
        case InternalPort():
            columns: dict[str, Value] = {"type": "internal"}
            if port.mac is not None:
                columns["mac"] = port.mac
            if port.mtu is not None:
                columns["mtu_request"] = port.mtu
            return columns
        case HostPort() | UplinkPort() | BondPort():
            # These exist in the node before the switch is configured.
            return {}


def _tunnel_options(port: TunnelPort) -> dict[str, str]:
    columns = {
        "remote_ip": port.remote_ip,
        "local_ip": port.local_ip,
        "key": port.key,
        "in_key": port.in_key,
        "out_key": port.out_key,
    }
    return {name: value for name, value in columns.items() if value is not None} | port.options


def _vlan(vlan: Vlan) -> dict[str, Value]:
    return {
        "tag": [] if vlan.tag is None else [vlan.tag],
        "trunks": vlan.trunks,
        "vlan_mode": vlan.mode or [],
        "cvlans": vlan.cvlans,
    }


def _bond(port: Port) -> dict[str, Value]:
    if not isinstance(port, BondPort):
        return {}
    return {
        "bond_mode": port.mode,
        "lacp": port.lacp,
        "bond_updelay": port.updelay,
        "bond_downdelay": port.downdelay,
        "bond_fake_iface": port.fake_iface,
    }


def _qos(transaction: Transaction, port: Port) -> Value:
    if not port.qos and not port.queues:
        return []
    if "type" not in port.qos:
        raise ConfigurationError(f"port {port.name}: its QoS has no type (linux-htb, for example)")
    queues = {
        number: transaction.create("Queue", {"other_config": settings})
        for number, settings in port.queues.items()
    }
    columns: dict[str, Value] = {
        "type": port.qos["type"],
        "other_config": {key: value for key, value in port.qos.items() if key != "type"},
        "queues": queues,
    }
    return transaction.create("QoS", _without_defaults(columns))


def _mirror(
    transaction: Transaction, bridge: Bridge, mirror: Mirror, ports: Mapping[str, Record]
) -> Record:
    def record(name: str) -> Record:
        if name not in ports:
            raise ConfigurationError(
                f"mirror {mirror.name}: bridge {bridge.name} has no port {name}"
            )
        return ports[name]

    columns: dict[str, Value] = {
        "name": mirror.name,
        "select_all": mirror.select_all,
        "select_src_port": [record(name) for name in mirror.select_src_port],
        "select_dst_port": [record(name) for name in mirror.select_dst_port],
        "select_vlan": mirror.select_vlan,
        "filter": [] if mirror.filter is None else [mirror.filter],
        "output_port": [] if mirror.output_port is None else record(mirror.output_port),
        "output_vlan": [] if mirror.output_vlan is None else [mirror.output_vlan],
        "snaplen": [] if mirror.snaplen is None else [mirror.snaplen],
    }
    return transaction.create("Mirror", _without_defaults(columns))
