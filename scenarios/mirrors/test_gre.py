"""Mirroring to a GRE tunnel, behind which an analyzer listens.

Source: the FAQ "Configuration", "How do I configure mirroring of all traffic to a GRE tunnel".
"""

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import GRE

from harness import Lab, Topology

pytestmark = pytest.mark.requires("tunnel:gre")


@pytest.fixture
def topology() -> Topology:
    topo = Topology("gre-mirror")
    wire = topo.underlay("wire")
    near, far = topo.switch("near"), topo.switch("far")
    for number, switch in enumerate((near, far), 1):
        switch.bridge("br-phy", addresses=[f"172.31.0.{number}/24"]).uplink(wire)
    bridge = near.bridge("br0")
    bridge.host("a", tag=10)
    bridge.host("b", tag=10)
    bridge.tunnel("gre", "gre1", remote="172.31.0.2")
    bridge.mirror("m0", select_all=True, output_port="gre1")
    listening = far.bridge("br0")
    listening.tunnel("gre", "gre1", remote="172.31.0.1")
    listening.host("analyzer")
    # Nothing to learn from: it hears both directions of what it mirrors.
    listening.flows("in_port=gre1,actions=analyzer\nin_port=analyzer,actions=gre1")
    return topo


def test_copies_reach_the_analyzer_and_nothing_comes_back(lab: Lab) -> None:
    lab.announce("a", "b")
    sent = lab.probe("a", to="b")
    assert sent.heard_at == {"b", "analyzer"}
    assert sent.seen_on("b").vlan_ids == []
    assert sent.seen_on("analyzer").vlan_ids == [10]
    outer = sent.seen_on("wire").packet
    assert (outer[IP].src, outer[IP].dst, outer[GRE].proto) == ("172.31.0.1", "172.31.0.2", 0x6558)


def test_any_traffic_arriving_on_the_tunnel_is_dropped(lab: Lab) -> None:
    sent = lab.probe("analyzer", vlan=10)
    assert sent.crossed == {"wire"}
    assert sent.heard_at == set()
