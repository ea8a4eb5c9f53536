"""VLAN 900 across two hypervisors.

Source: "Open vSwitch on Windows", section "Add patch ports and configure VLAN tagging".
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Reach


@pytest.fixture
def topology() -> Topology:
    topo = Topology("patched-vlan")
    wire = topo.underlay("wire")
    for n in (1, 2):
        switch = topo.switch(f"hv{n}")
        br_int, br_pif = switch.bridge("br-int"), switch.bridge("br-pif")
        br_int.patch(br_pif)
        br_pif.uplink(wire)
        br_int.host(f"vm{n}-a", tag=900)
        br_int.host(f"vm{n}-b", tag=901)
    return topo


def test_same_vlan_reaches_the_other_hypervisor(lab: Lab) -> None:
    sent = lab.probe("vm1-a", to="vm2-a")
    assert sent.heard_at == {"vm2-a"}
    assert sent.seen_on("wire").vlan_ids == [900]


def test_vlans_are_kept_apart(lab: Lab) -> None:
    probes = lab.probe_all()
    assert probes.reach == Reach.groups({"vm1-a", "vm2-a"}, {"vm1-b", "vm2-b"})
    assert probes.broadcast["vm1-a"].seen_on("wire").vlan_ids == [900]
    assert probes.broadcast["vm2-b"].seen_on("wire").vlan_ids == [901]


@pytest.mark.parametrize("tag", [900, 901])
def test_vm_that_tags_its_own_frames_is_not_heard(lab: Lab, tag: int) -> None:
    sent = lab.probe("vm1-a", vlan=tag)
    assert sent.heard_at == set()
    assert sent.crossed == set()


def test_known_vm_of_this_hypervisor_does_not_need_the_wire(lab: Lab) -> None:
    lab.switch("hv1").vsctl("set", "Port", "vm1-b", "tag=900")
    lab.announce("vm1-b")
    sent = lab.probe("vm1-a", to="vm1-b")
    assert sent.heard_at == {"vm1-b"}
    assert sent.crossed == set()
