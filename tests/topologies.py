"""Networks that tests of several backends have."""

from __future__ import annotations

from harness.topology import Topology


def three_ends(name: str) -> Topology:
    """One underlay with three ends, two of them at the same switch, and a host behind each."""
    topology = Topology(name)
    wire = topology.underlay("wire")
    one = topology.switch("s1")
    for number in (1, 2):
        bridge = one.bridge(f"br{number}")
        bridge.uplink(wire, name=f"up{number}")
        bridge.host(f"h{number}")
    other = topology.switch("s2").bridge("br3")
    other.uplink(wire)
    other.host("h3")
    return topology
