"""VLAN columns are for ``normal`` only: flows that output to a port see frames as they came.

Source: Open vSwitch FAQ, "VLANs": "My OpenFlow controller doesn't see the VLANs that I expect" and
"I configured ports on a bridge as access ports with different VLAN tags"; ovs-actions(7).
"""

import pytest

from harness import Lab, Topology


@pytest.fixture
def topology() -> Topology:
    topo = Topology("vlans-and-flows")
    bridge = topo.switch("sw").bridge("br0", fail_mode="secure")
    for number, (name, tag) in enumerate((("eth0", None), ("tap0", 9), ("tap1", 10)), start=1):
        bridge.host(name, tag=tag, interface={"ofport_request": number})
    return topo


def flows(lab: Lab, *lines: str) -> None:
    lab.switch("sw").ofctl("add-flows", "br0", "-", stdin="\n".join(lines))


def test_output_crosses_vlans(lab: Lab) -> None:
    flows(lab, "in_port=2,actions=output:3", "in_port=3,actions=output:2")
    assert lab.probe("tap0", to="tap1").heard_at == {"tap1"}
    assert lab.probe("tap1", to="tap0").heard_at == {"tap0"}


def test_output_adds_no_tag_and_takes_none_away(lab: Lab) -> None:
    flows(lab, "in_port=1,actions=output:2", "in_port=2,actions=output:1")
    out, back = lab.probe("tap0"), lab.probe("eth0", vlan=9)
    assert out.heard_at == {"eth0"}
    assert out.seen_on("eth0").vlan_ids == []
    assert back.heard_at == {"tap0"}
    assert back.seen_on("tap0").vlan_ids == [9]


def test_flows_can_do_what_the_columns_would(lab: Lab) -> None:
    flows(
        lab,
        "in_port=2,actions=mod_vlan_vid:9,output:1",
        "in_port=1,dl_vlan=9,actions=strip_vlan,output:2",
    )
    out, back, other = lab.probe("tap0"), lab.probe("eth0", vlan=9), lab.probe("eth0", vlan=10)
    assert out.heard_at == {"eth0"}
    assert out.seen_on("eth0").vlan_ids == [9]
    assert back.heard_at == {"tap0"}
    assert back.seen_on("tap0").vlan_ids == []
    assert other.heard_at == set()


def test_normal_as_one_component_heeds_the_columns(lab: Lab) -> None:
    flows(lab, "priority=1,actions=normal", "priority=2,in_port=3,actions=drop")
    sent, dropped = lab.probe("tap0"), lab.probe("tap1")
    assert sent.heard_at == {"eth0"}
    assert sent.seen_on("eth0").vlan_ids == [9]
    assert dropped.heard_at == set()
