"""Makes what a plan asks for in each node: hosts and their links, addresses of own ports."""

from __future__ import annotations

from typing import Any

from harness.lab.plan import Endpoint, SwitchPlan
from harness.nodes.channel import Answer
from harness.nodes.remote import RemoteNode


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
