"""Makes what a plan asks for: hosts and their links in the nodes, underlays between them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from harness.lab.plan import Endpoint, Plan, SwitchPlan, Wire
from harness.nodes.channel import Answer
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.nodes.remote import RemoteNode

_bridge_numbers = count(1)


def lay_underlays(plan: Plan, fabric: Fabric, nodes: Mapping[str, NamespaceNode]) -> list[str]:
    """Join the switches' physical ports. Two ends are joined by one veth pair, which carries
    everything; more by a bridge, which keeps 01:80:c2:00:00:00 to :03 to itself.

    Returns the bridges that were made in the launcher's namespace, for :func:`lift_underlays`.
    """
    bridges: list[str] = []
    changes: list[dict[str, Any]] = []
    for wire in plan.wires.values():
        if len(wire.ends) == 2:
            changes.append(_cable(wire, nodes))
        elif wire.ends:
            bridges.append(f"u{next(_bridge_numbers)}")
            # Its ports name it by its number, so it has to be there before they are made.
            segment = {"do": "bridge", "name": bridges[-1], "mtu": wire.mtu}
            fabric.node.change_links([segment]).result()
            changes += _segment(wire, bridges[-1], nodes)
    if changes:
        fabric.node.change_links(changes).result()
    waiting = []
    for name, node in nodes.items():
        ends = [
            end.interface for wire in plan.wires.values() for end in wire.ends if end.switch == name
        ]
        if ends:
            up = [{"do": "set", "name": interface, "up": True} for interface in ends]
            waiting.append(node.change_links(up))
    for answer in waiting:
        answer.result()
    return bridges


def lift_underlays(fabric: Fabric, bridges: list[str]) -> None:
    """Remove the bridges again; cables end with the nodes they joined."""
    if bridges:
        fabric.node.change_links([{"do": "remove", "name": name} for name in bridges]).result()


def _cable(wire: Wire, nodes: Mapping[str, NamespaceNode]) -> dict[str, Any]:
    one, other = wire.ends
    return {
        "do": "veth",
        "name": one.interface,
        "space": nodes[one.switch].space,
        "peer": other.interface,
        "peer_space": nodes[other.switch].space,
        "mtu": wire.mtu,
    }


def _segment(wire: Wire, bridge: str, nodes: Mapping[str, NamespaceNode]) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    for number, end in enumerate(wire.ends):
        port = f"{bridge}.{number}"
        changes.append(
            {
                "do": "veth",
                "name": port,
                "peer": end.interface,
                "peer_space": nodes[end.switch].space,
                "mtu": wire.mtu,
            }
        )
        changes.append({"do": "set", "name": port, "master": bridge, "up": True})
    return changes


def add_hosts(plan: SwitchPlan, node: RemoteNode) -> list[Answer]:
    """Make a switch's hosts: a network namespace and a veth pair each. Not waited for."""
    hosts = [endpoint for endpoint in plan.endpoints if endpoint.is_host]
    if not hosts:
        return []
    waiting = [node.add_spaces([host.name for host in hosts])]
    waiting.append(node.change_links([_host_link(host) for host in hosts]))
    for host in hosts:
        # A frame that the kernel sends must carry its real checksum: the user-space datapath
        # passes on what it reads, and nobody would fill it in.
        waiting.append(node.no_offload([host.interface], host.space))
        if host.addresses:
            pairs = [(host.interface, address) for address in host.addresses]
            waiting.append(node.add_addresses(pairs, host.space))
    return waiting


def _host_link(host: Endpoint) -> dict[str, Any]:
    return {
        "do": "veth",
        "name": host.port,
        "peer": host.interface,
        "peer_space": host.space,
        "peer_mac": host.mac,
        "mtu": host.mtu,
    }


def set_up_own_ports(plan: SwitchPlan, node: RemoteNode) -> list[Answer]:
    """Set bridges' local and internal ports up and give them their addresses. Not waited for."""
    waiting = []
    changes: list[dict[str, Any]] = [
        {"do": "set", "name": name, "up": True, "mtu": plan.mtus.get(name)} for name in plan.up
    ]
    if changes:
        waiting.append(node.change_links(changes))
        waiting.append(node.no_offload(plan.up))
    if plan.addresses:
        waiting.append(node.add_addresses(plan.addresses))
    return waiting
