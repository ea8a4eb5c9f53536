"""A frame is not sent back to where it came from, unless a flow says so.

Source: ovs-actions(7), "The OVS Normal Pipeline" ("Drop loopback") and "Output to the Input Port".
"""

import pytest
from scapy.layers.l2 import Ether

from harness import Lab, Topology

SECOND = "02:00:00:00:77:01"


@pytest.fixture
def topology() -> Topology:
    topo = Topology("hairpin")
    bridge = topo.switch("sw").bridge("br0")
    for number, name in enumerate("abc", start=1):
        bridge.host(name, interface={"ofport_request": number})
    return topo


def test_frame_for_another_address_behind_the_same_port_goes_nowhere(lab: Lab) -> None:
    lab.announce()
    lab.send("a", Ether(src=SECOND, dst="ff:ff:ff:ff:ff:ff", type=0x88B5))
    assert lab.probe("a", mac=SECOND).heard_at == set()
    assert lab.probe("a", to="a").heard_at == set()
    assert lab.probe("b", mac=SECOND).heard_at == {"a"}


@pytest.mark.parametrize(
    ("actions", "heard"),
    [
        # "output:234 has no effect if the packet has ingress port 234."
        ("output:1", set()),
        ("output:1,output:2", {"b"}),
        ("all", {"b", "c"}),
        # "Use in_port to explicitly output the packet to its input port."
        ("in_port", {"a"}),
        ("2,3,in_port", {"a", "b", "c"}),
        ("all,in_port", {"a", "b", "c"}),
        # "Whatever value is currently in the in_port field is both the port to which output will
        # be dropped and the destination for in_port."
        ("load:0->in_port,1", {"a"}),
        ("load:0->in_port,1,2,3", {"a", "b", "c"}),
        ("load:0->NXM_OF_IN_PORT[],1,2", {"a", "b"}),
        ("load:2->NXM_OF_IN_PORT[],1,2,3", {"a", "c"}),
        ("load:2->NXM_OF_IN_PORT[],in_port", {"b"}),
        (
            "push:NXM_OF_IN_PORT[],load:0->NXM_OF_IN_PORT[],1,2,pop:NXM_OF_IN_PORT[],1,3",
            {"a", "b", "c"},
        ),
    ],
)
def test_flow_that_sends_back(lab: Lab, actions: str, heard: set[str]) -> None:
    lab.switch("sw").ofctl("add-flow", "br0", f"in_port=1,actions={actions}")
    assert lab.probe("a", to="b").heard_at == heard
