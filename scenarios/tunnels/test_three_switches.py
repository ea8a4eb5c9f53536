"""Three hypervisors: a star of tunnels, and full meshes in which no frame goes round.

Sources: ovs-vswitchd.conf.db(5), Port ``protected`` ("traffic between protected ports is
blocked"), and the FAQ, "VXLANs", which has MAC addresses mapped to tunnels beforehand. A mesh of
bridges that simply flood is a loop, so there is no such scenario.
"""

import pytest
from scapy.layers.inet import IP

from harness import Lab, Topology
from harness.topology.bridges import BridgeHandle
from harness.traffic import Reach

HYPERVISORS = (1, 2, 3)
EVERYBODY = Reach.groups({"vm1", "vm2", "vm3"})


def address(number: int) -> str:
    return f"172.31.0.{number}"


def mac(number: int) -> str:
    return f"02:00:00:00:00:0{number}"


def others(number: int) -> list[int]:
    return [other for other in HYPERVISORS if other != number]


def three_hypervisors(topo: Topology) -> dict[int, BridgeHandle]:
    """The integration bridge of each of three hypervisors on one underlay."""
    wire = topo.underlay("wire")
    bridges = {}
    for n in HYPERVISORS:
        switch = topo.switch(f"hv{n}")
        switch.bridge("br-phy", addresses=[f"{address(n)}/24"]).uplink(wire)
        bridges[n] = switch.bridge("br-int")
        bridges[n].host(f"vm{n}", mac=mac(n))
    return bridges


def know_addresses(br_int: BridgeHandle, number: int) -> None:
    for other in others(number):
        br_int.flow(f"priority=2,in_port=vm{number},dl_dst={mac(other)},actions=to-{other}")
    everywhere = ",".join(f"to-{other}" for other in others(number))
    br_int.flow(f"priority=1,in_port=vm{number},actions={everywhere}")
    br_int.flow(f"priority=0,actions=vm{number}")


def ways(lab: Lab, source: int, to: int) -> list[tuple[str, str]]:
    """The tunnels that a frame between two virtual machines went through, sorted: where it enters
    them, the clocks of two machines tell the time, and they may differ by more than the way takes.
    """
    sent = lab.probe(f"vm{source}", to=f"vm{to}")
    assert sent.heard_at == {f"vm{to}"}
    return sorted((seen.packet[IP].src, seen.packet[IP].dst) for seen in sent.all_on("wire"))


class TestStar:
    @pytest.fixture
    def protected(self) -> bool:
        return False

    @pytest.fixture
    def topology(self, protected: bool) -> Topology:
        topo = Topology("star")
        bridges = three_hypervisors(topo)
        for leaf in (2, 3):
            bridges[1].tunnel("vxlan", remote=address(leaf), key=7, protected=protected)
            bridges[leaf].tunnel("vxlan", remote=address(1), key=7)
        return topo

    def test_leaves_reach_each_other_through_the_middle(self, lab: Lab) -> None:
        assert lab.probe_all().reach == EVERYBODY
        assert ways(lab, 1, 2) == [(address(1), address(2))]
        assert ways(lab, 2, 3) == [(address(1), address(3)), (address(2), address(1))]

    @pytest.mark.parametrize("protected", [True])
    def test_protected_leaves_reach_the_middle_only(self, lab: Lab) -> None:
        assert lab.probe_all().reach == Reach.groups({"vm1", "vm2"}, {"vm1", "vm3"})


class TestMesh:
    @pytest.fixture
    def topology(self, horizon: str) -> Topology:
        topo = Topology("mesh")
        for n, br_int in three_hypervisors(topo).items():
            for other in others(n):
                protected = horizon == "protected ports"
                remote = address(other)
                br_int.tunnel("vxlan", f"to-{other}", remote=remote, key=7, protected=protected)
            if horizon == "known addresses":
                know_addresses(br_int, n)
        return topo

    @pytest.mark.parametrize("horizon", ["protected ports", "known addresses"])
    def test_each_frame_takes_the_straight_way_once(self, lab: Lab) -> None:
        matrix = lab.probe_all()
        assert matrix.reach == EVERYBODY
        assert {len(sent.all_on("wire")) for sent in matrix.broadcast.values()} == {2}
        assert ways(lab, 2, 3) == [(address(2), address(3))]
        assert ways(lab, 3, 1) == [(address(3), address(1))]
