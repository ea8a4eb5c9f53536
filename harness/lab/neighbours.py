"""Tunnel ends that find each other before the first frame.

Open vSwitch drops what it would send to a neighbour whose MAC address it does not know yet, and
learns it from the ARP replies and neighbour advertisements that it forwards (userspace tunnelling:
"Tunneling" in its documentation). Tunnels of the kernel's datapath ask the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from harness.lab.plan import Plan
from harness.nodes.remote import RemoteNode
from harness.ovs.switch import Switch

BOUND = 3.0
"""Seconds for tunnel ends to find each other; what has not by then is left to the scenario."""

Nodes = Mapping[str, RemoteNode]
Missing = Mapping[str, Iterable[tuple[str, str]]]
"""By switch: local and remote address of each tunnel that lacks its neighbour."""


def meet(plan: Plan, nodes: Nodes, switches: Mapping[str, Switch]) -> None:
    """Have all switches that are up find the ends of their tunnels."""
    missing = {
        name: set(planned.neighbours)
        for name, planned in plan.switches.items()
        if planned.neighbours and switches[name].is_up
    }
    patience = max(node.patience for node in nodes.values())
    deadline = time.monotonic() + patience * BOUND
    while missing and time.monotonic() < deadline:
        _ping(nodes, missing)
        for name in list(missing):
            known = _known(nodes[name], switches[name])
            missing[name] = {pair for pair in missing[name] if pair[1] not in known}
            if not missing[name]:
                del missing[name]


def _known(node: RemoteNode, switch: Switch) -> set[str]:
    """The IP addresses whose MAC addresses a switch's tunnels know."""
    if switch.datapath != "system":
        return switch.tunnel_neighbours()
    lines = node.run(["ip", "neigh", "show"]).stdout.splitlines()
    return {line.split()[0] for line in lines if " lladdr " in line}


def _ping(nodes: Nodes, missing: Missing) -> None:
    for name in missing:
        # What the kernel knows it would not ask for again, and nobody would overhear.
        nodes[name].run(["ip", "neigh", "flush", "all"], check=False)
    pings = [
        nodes[name].run_soon(
            ["ping", "-c1", "-w1", "-q", *(["-I", local] if local else []), remote]
        )
        for name, pairs in missing.items()
        for local, remote in pairs
    ]
    for ping in pings:
        ping.result()
