"""VLAN 900 across two hypervisors.

Source: "Open vSwitch on Windows", section "Add patch ports and configure VLAN tagging".
"""

import pytest

from harness import Lab, Topology


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
