"""VLANs split across two switches: access ports at both, one uplink between them.

Source: Open vSwitch FAQ, "VLANs": "What's a VLAN?" and "Outgoing VLAN-tagged traffic goes through
OVS to my physical switch"; ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration".
"""

from typing import Any

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

RED, BLUE, GREEN = {"red1", "red2"}, {"blue1", "blue2"}, {"green1", "green2"}


def switches(*uplinks: dict[str, Any]) -> Topology:
    """A switch for each uplink, with a host in VLANs 10, 20 and 30."""
    topo = Topology("split-vlans")
    wire = topo.underlay("wire")
    for n, columns in enumerate(uplinks, start=1):
        bridge = topo.switch(f"sw{n}").bridge("br0")
        bridge.uplink(wire, **columns)
        bridge.host(f"red{n}", tag=10)
        bridge.host(f"blue{n}", tag=20)
        bridge.host(f"green{n}", tag=30)
    return topo


NATIVE_TAGGED = {"vlan_mode": "native-tagged", "tag": 10}
NATIVE_UNTAGGED = {"vlan_mode": "native-untagged", "tag": 10}


@pytest.mark.parametrize(
    ("topology", "groups", "on_the_wire"),
    [
        (switches({}, {}), [RED, BLUE, GREEN], [[10], [20], [30]]),
        (
            switches({"trunks": [10, 20]}, {"trunks": [10, 20]}),
            [RED, BLUE, {"green1"}, {"green2"}],
            [[10], [20], None],
        ),
        (
            # What only one of the two switches trunks does not reach the other one's hosts.
            switches({"trunks": [10, 30]}, {"trunks": [10]}),
            [RED, {"blue1"}, {"blue2"}, {"green1"}, {"green2"}],
            [[10], None, [30]],
        ),
        (switches(NATIVE_TAGGED, {}), [RED, BLUE, GREEN], [[10], [20], [30]]),
        (switches(NATIVE_UNTAGGED, NATIVE_UNTAGGED), [RED, BLUE, GREEN], [[], [20], [30]]),
        (switches(NATIVE_UNTAGGED, NATIVE_TAGGED), [RED, BLUE, GREEN], [[], [20], [30]]),
        (
            switches({"tag": 10}, {"tag": 10}),
            [RED, {"blue1"}, {"blue2"}, {"green1"}, {"green2"}],
            [[], None, None],
        ),
        # Access ports of two VLANs, cabled together, make one VLAN of them.
        (
            switches({"tag": 10}, {"tag": 20}),
            [{"red1", "blue2"}, {"blue1"}, {"red2"}, {"green1"}, {"green2"}],
            [[], None, None],
        ),
    ],
    ids=[
        "trunks",
        "trunk-lists",
        "one-list-shorter",
        "native-tagged",
        "native-untagged",
        "both-natives",
        "access",
        "access-of-two-vlans",
    ],
)
def test_each_vlan_is_one_network(
    lab: Lab, groups: list[set[str]], on_the_wire: list[list[int] | None]
) -> None:
    probes = lab.probe_all()
    assert probes.reach == Reach.groups(*groups)
    for host, vlan_ids in zip(("red1", "blue1", "green1"), on_the_wire, strict=True):
        sent = probes.broadcast[host]
        assert sent.crossed == (set() if vlan_ids is None else {"wire"})
        assert [seen.vlan_ids for seen in sent.all_on("wire")] == [vlan_ids] * len(sent.crossed)


@pytest.mark.parametrize(
    "topology", [switches(NATIVE_UNTAGGED, {"vlan_mode": "native-untagged", "tag": 20})]
)
def test_switches_that_disagree_about_the_native_vlan_mix_two(lab: Lab) -> None:
    # Untagged on the wire is VLAN 10 to one switch and VLAN 20 to the other.
    heard = {
        "red1": frozenset({"blue2"}),
        "blue1": frozenset({"blue2"}),
        "blue2": frozenset({"red1"}),
        "red2": frozenset({"red1"}),
        "green1": frozenset({"green2"}),
        "green2": frozenset({"green1"}),
    }
    assert lab.probe_all().reach == Reach(heard, heard)
