"""MAC learning is separate in each VLAN, and can be turned off for one.

Source: Open vSwitch FAQ, "VLANs": "How MAC learning works with VLANs?" (Independent VLAN
Learning); ovs-vswitchd.conf.db(5), table Bridge, ``flood_vlans``.
"""

import pytest

from harness import Lab, Topology

TWIN = "02:00:00:00:00:99"


@pytest.fixture
def topology() -> Topology:
    topo = Topology("vlan-learning")
    bridge = topo.switch("sw").bridge("br0")
    for colour, tag in (("red", 10), ("blue", 20)):
        bridge.host(f"{colour}1", tag=tag)
        bridge.host(f"{colour}2", tag=tag)
        bridge.host(f"{colour}3", tag=tag)
    return topo


def test_address_is_learned_in_its_vlan_only(lab: Lab) -> None:
    lab.announce("red1")
    assert {(one.vlan, one.mac) for one in lab.switch("sw").fdb("br0")} == {(10, lab.mac("red1"))}
    assert lab.probe("red2", to="red1").heard_at == {"red1"}
    assert lab.probe("blue2", mac=lab.mac("red1")).heard_at == {"blue1", "blue3"}


def test_one_address_in_two_vlans_is_two_places(lab: Lab) -> None:
    from scapy.layers.l2 import Ether

    hello = Ether(src=TWIN, dst="ff:ff:ff:ff:ff:ff", type=0x88B5)
    batch = lab.send_all([("red1", hello), ("blue3", hello)])
    assert [sent.heard_at for sent in batch] == [{"red2", "red3"}, {"blue1", "blue2"}]

    assert lab.probe("red2", mac=TWIN).heard_at == {"red1"}
    assert lab.probe("blue2", mac=TWIN).heard_at == {"blue3"}


def test_flood_vlan_is_flooded_and_learns_nothing(lab: Lab) -> None:
    lab.switch("sw").vsctl("set", "Bridge", "br0", "flood_vlans=10")
    lab.announce()
    assert {one.vlan for one in lab.switch("sw").fdb("br0")} == {20}
    assert lab.probe("red1", to="red2").heard_at == {"red2", "red3"}
    assert lab.probe("blue1", to="blue2").heard_at == {"blue2"}
