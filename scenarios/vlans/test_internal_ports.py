"""An IP address on a VLAN: an internal port that is an access port.

Source: Open vSwitch FAQ, "VLANs": "Can I configure an IP address on a VLAN?", and the question
after it, for why Linux has to be told not to answer on whatever interface a question comes in by.
"""

import pytest

from harness import Lab, Topology


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("vlan-address")
    bridge = topo.switch("sw").bridge("br0")
    bridge.internal("vlan9", tag=9, addresses=["192.168.0.7/24"])
    bridge.host("eth0")
    bridge.host("nine", tag=9, addresses=["192.168.0.9/24"])
    bridge.host("ten", tag=10, addresses=["192.168.0.10/24"])
    return topo


def test_address_answers_in_its_vlan(module_lab: Lab) -> None:
    module_lab.host("nine").run("ping -c1 -W2 192.168.0.7")


def test_address_does_not_answer_in_another_vlan(module_lab: Lab) -> None:
    # A host goes on asking for the address, a second later and again, unless it is told to forget.
    asked = module_lab.host("ten").run(
        ["sh", "-c", "ping -c1 -W0.2 192.168.0.7; ip neigh flush to 192.168.0.7"]
    )
    assert "0 received" in asked.stdout
    # Nor has the question come to where it would be answered from.
    assert "192.168.0.10 " not in module_lab.node("sw").run(["ip", "neigh"]).stdout


def test_traffic_from_the_port_is_tagged_outside(module_lab: Lab) -> None:
    sent = module_lab.probe("sw:vlan9")
    assert sent.heard_at == {"eth0", "nine"}
    assert sent.seen_on("eth0").vlan_ids == [9]
    assert sent.seen_on("nine").vlan_ids == []


def test_only_traffic_with_its_tag_reaches_the_port(module_lab: Lab) -> None:
    tagged, untagged, other = (module_lab.probe("eth0", vlan=vlan) for vlan in (9, (), 10))
    assert tagged.heard_at == {"sw:vlan9", "nine"}
    assert tagged.seen_on("sw:vlan9").vlan_ids == []
    assert untagged.heard_at == set()
    assert other.heard_at == {"ten"}
