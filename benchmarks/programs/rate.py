"""Frames a second over one veth pair between two hosts of a node, with the engine of a lab.

Run as ``python -m benchmarks.programs.rate TARGET FRAMES``. The agent sends and captures, this
process matches at the same time. Prints a JSON object.
"""

from __future__ import annotations

import json
import sys
import time

from harness.lab import Target
from harness.lab.drain import Drain
from harness.lab.engine import Engine
from harness.lab.environment import environment, fabric
from harness.lab.plan import HOST_INTERFACE, Endpoint, Plan, SwitchPlan
from harness.topology import Topology
from harness.traffic import Tag, probe_frame

NODE = "rate"
VLAN = 900
SIZE = 64


def endpoint(name: str, number: int) -> Endpoint:
    """A host of the one node."""
    return Endpoint(
        name=name,
        switch=NODE,
        bridge="",
        space=name,
        interface=HOST_INTERFACE,
        port="",
        mac=f"02:00:00:00:00:{number:02x}",
        mtu=1500,
        addresses=(),
    )


def plan(ends: tuple[Endpoint, ...]) -> Plan:
    """Hosts without a switch."""
    topology = Topology("rate")
    topology.switch(NODE).bridge("br0")
    spec = topology.freeze()
    node = SwitchPlan(spec=spec.switches[0], endpoints=ends, addresses=(), up=())
    return Plan(spec, {NODE: node}, {end.name: end for end in ends}, {})


def main(target: Target, frames: int) -> None:
    """Send, capture and match so many tagged frames."""
    one, other = ends = endpoint("one", 1), endpoint("other", 2)
    node = fabric().start_node(NODE, environment(target).image.lower)
    node.add_spaces([end.name for end in ends]).result()
    pair = {"do": "veth", "name": HOST_INTERFACE, "space": "one"}
    node.change_links([{**pair, "peer": HOST_INTERFACE, "peer_space": "other"}]).result()
    node.change_links([{"do": "set", "name": HOST_INTERFACE, "up": True}], "one").result()
    engine = Engine(plan(ends), {NODE: node}, Drain({NODE: node}, {}), run=1)
    for opening in engine.open_soon([NODE], inside=False):
        opening.result()
    engine.open_ports([NODE])
    ledger = engine.ledger()
    flow = ledger.flow("one", probe_frame(one.mac, other.mac, size=SIZE, vlan=VLAN), to=["other"])
    with engine.listening(ledger):
        began = time.monotonic()
        stream = engine.start_stream(flow, None, frames)
        engine.stop_stream(flow, stream, wait=True)
        sent = time.monotonic()
        batch = engine.conclude(ledger, "")
        ended = time.monotonic()
    result = batch.sent[0]
    lost = len(result.missing_at("other"))
    last = ledger.sighting(flow.hits[-1], flow)
    if lost or ledger.odd or ledger.strays or last.tags != (Tag.of(VLAN),) or last.time_ns == 0:
        raise AssertionError(f"{lost} of {frames} frames were lost; the last: {last.summary()}")
    if result.duplicates or result.count != frames:
        raise AssertionError(f"{result.count} frames were sent, not {frames}, or some came twice")
    fabric().close()
    print(json.dumps({"frames": frames, "sent": sent - began, "matched": ended - began}))


if __name__ == "__main__":
    main(Target.parse(sys.argv[1]), int(sys.argv[2]))
