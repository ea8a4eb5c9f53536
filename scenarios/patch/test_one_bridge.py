"""Both ends of a patch on one bridge, with flows that keep it from being a loop.

Source: ovs-vswitchd.conf.db(5), table Interface, "Patch Options": "Patch ports may connect two
different bridges (the usual case) or the same bridge. In the latter case, take special care to
avoid loops, e.g. by programming appropriate flows with OpenFlow."
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

FLOWS = """
in_port=left,actions=mod_vlan_vid:7,output:p0
in_port=p1,dl_vlan=7,actions=strip_vlan,output:right
in_port=right,actions=output:p1
in_port=p0,actions=output:left
"""


@pytest.fixture
def topology() -> Topology:
    topo = Topology("patch-to-itself")
    bridge = topo.switch("sw").bridge("br0", fail_mode="secure", flows=FLOWS)
    for name in ("left", "right", "bystander"):
        bridge.host(name)
    bridge.patch(bridge, "p0", "p1")
    return topo


def test_frames_go_through_the_patch_and_the_flows_again(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups({"left", "right"}, {"bystander"})


def test_way_ends_where_a_flow_behind_the_patch_is_missing(lab: Lab) -> None:
    lab.switch("sw").ofctl("del-flows", "br0", "in_port=p1")
    assert lab.probe("left").heard_at == set()
    assert lab.probe("right").heard_at == {"left"}
