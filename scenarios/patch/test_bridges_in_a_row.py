"""Two and three bridges in a row, joined by patch ports.

Source: ovs-vswitchd.conf.db(5), table Interface, "Patch Options"; Open vSwitch FAQ,
"Configuration": "How do I connect two bridges?"
"""

from itertools import pairwise

import pytest

from harness import Lab, Topology
from harness.traffic import Reach


def row(length: int, **columns: int | list[int] | str) -> Topology:
    """Bridges, each with hosts in VLANs 10, 20 and none; ``columns`` are those of each patch's
    near end, which is on the left."""
    topo = Topology(f"row-of-{length}")
    switch = topo.switch("sw")
    bridges = [switch.bridge(f"br{n}") for n in range(1, length + 1)]
    for n, bridge in enumerate(bridges, start=1):
        bridge.host(f"red{n}", tag=10)
        bridge.host(f"blue{n}", tag=20)
        bridge.host(f"pc{n}", trunks=[0])
    for left, right in pairwise(bridges):
        left.patch(right, **columns)  # type: ignore[arg-type]
    return topo


@pytest.mark.parametrize("length", [2, 3])
class TestTrunk:
    @pytest.fixture
    def topology(self, length: int) -> Topology:
        return row(length)

    def test_a_row_is_one_network_of_each_vlan(self, lab: Lab, length: int) -> None:
        numbers = range(1, length + 1)
        groups = [{f"{kind}{n}" for n in numbers} for kind in ("red", "blue", "pc")]
        assert lab.probe_all().reach == Reach.groups(*groups)

    def test_each_bridge_learns_for_itself(self, lab: Lab, length: int) -> None:
        lab.announce(f"red{length}")
        switch = lab.switch("sw")
        for n in range(1, length + 1):
            (learned,) = switch.fdb(f"br{n}")
            port = f"red{length}" if n == length else f"br{n}-to-br{n + 1}"
            assert (learned.mac, learned.vlan) == (lab.mac(f"red{length}"), 10)
            assert int(learned.port) == switch.ofport(port)
        assert lab.probe("red1", to=f"red{length}").heard_at == {f"red{length}"}


@pytest.mark.parametrize(
    ("topology", "groups"),
    [
        # The left bridge's end carries VLAN 10; VLAN 20 and untagged frames stay where they are.
        (row(2, trunks=[10]), [{"red1", "red2"}, {"blue1"}, {"blue2"}, {"pc1"}, {"pc2"}]),
        # An access port takes VLAN 10 over untagged, into what is no VLAN at the other end, and
        # drops the frames that come back tagged.
        (row(2, tag=10), [{"red1", "pc2"}, {"red2"}, {"blue1"}, {"blue2"}, {"pc1"}]),
    ],
    ids=["trunk-list", "access"],
)
def test_patch_port_has_vlans_like_any_port(lab: Lab, groups: list[set[str]]) -> None:
    assert lab.probe_all().reach == Reach.groups(*groups)


@pytest.mark.parametrize("topology", [row(2, tag=10, vlan_mode="native-untagged")])
def test_native_vlan_leaves_untagged_and_may_come_back_tagged(lab: Lab) -> None:
    heard = {
        "red1": frozenset({"pc2"}),
        "pc2": frozenset({"red1"}),
        "red2": frozenset({"red1"}),
        "blue1": frozenset({"blue2"}),
        "blue2": frozenset({"blue1"}),
        "pc1": frozenset[str](),
    }
    assert lab.probe_all().reach == Reach(heard, heard)
