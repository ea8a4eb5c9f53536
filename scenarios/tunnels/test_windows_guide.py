"""The tunnels of the Windows guide between three hypervisors, as it sets them up and as it means.

Source: "Open vSwitch on Windows", section "Add tunnels". Its second tunnel is to run "between
172.168.201.101 <-> 172.168.201.105", yet gets ``local_ip=172.168.201.102``, an address of another
hypervisor. ``local_ip`` is the address that received packets must be sent to
(ovs-vswitchd.conf.db(5)), so that tunnel cannot receive anything.
"""

import pytest
from scapy.layers.inet import IP
from scapy.layers.vxlan import VXLAN

from harness import Lab, Topology
from harness.traffic import Reach

NETWORK = "172.168.201."
HERE, SECOND, THIRD = (f"{NETWORK}{number}" for number in (101, 102, 105))


@pytest.fixture
def local() -> str:
    """The local address of the second tunnel."""
    return HERE


@pytest.fixture
def topology(local: str) -> Topology:
    topo = Topology("windows-guide")
    wire = topo.underlay("wire")
    bridges = []
    for address in (HERE, SECOND, THIRD):
        number = address.removeprefix(NETWORK)
        switch = topo.switch(f"hv{number}")
        switch.bridge("br-pif", addresses=[f"{address}/24"]).uplink(wire)
        bridges.append(switch.bridge("br-int"))
        bridges[-1].host(f"vm{number}", tag=900)
    here, second, third = bridges
    for bridge, name, start, end in (
        (here, "tun-1", HERE, SECOND),
        (here, "tun-2", local, THIRD),
        (second, "tun-1", SECOND, HERE),
        (third, "tun-1", THIRD, HERE),
    ):
        bridge.tunnel(
            "vxlan",
            name,
            local=start,
            remote=end,
            in_key="flow",
            out_key="flow",
            detached=name == "tun-2" and start != HERE,
        )
    return topo


def test_corrected_it_joins_all_three(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups({"vm101", "vm102", "vm105"})


def test_frames_keep_their_vlan_and_get_key_0(lab: Lab) -> None:
    lab.announce()
    sent = lab.probe("vm101", to="vm105")
    assert sent.heard_at == {"vm105"}
    seen = sent.seen_on("wire")
    assert seen.inner_vlan_ids == [900]
    assert (seen.packet[IP].src, seen.packet[IP].dst) == (HERE, THIRD)
    # in_key and out_key are `flow`, and no flow sets a key: ovs-vswitchd.conf.db(5), out_key.
    assert seen.packet[VXLAN].vni == 0


@pytest.mark.parametrize("local", [SECOND], ids=["as-written"])
class TestAsWritten:
    def test_the_third_hypervisor_is_cut_off(self, lab: Lab) -> None:
        assert lab.probe_all().reach == Reach.groups({"vm101", "vm102"}, {"vm105"})

    def test_what_the_third_sends_arrives_at_no_tunnel(self, lab: Lab) -> None:
        sent = lab.probe("vm105")
        assert sent.heard_at == set()
        assert sent.seen_on("wire").packet[IP].dst == HERE
