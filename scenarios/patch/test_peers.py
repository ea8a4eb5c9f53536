"""A patch port works only while its peer is there, and names it in turn.

Source: ovs-vswitchd.conf.db(5), table Interface, "Patch Options": "the two patch interfaces must
have reversed name and peer values"; ports may be added and removed at any time (ovs-vsctl(8)).
"""

import pytest

from harness import Lab, Topology
from harness.polling import eventually
from harness.traffic import Reach

APART = Reach.groups({"a1", "b1"}, {"a2", "b2"})
TOGETHER = Reach.groups({"a1", "b1", "a2", "b2"})


@pytest.fixture
def topology() -> Topology:
    topo = Topology("patch-peers")
    switch = topo.switch("sw")
    for n in (1, 2):
        bridge = switch.bridge(f"br{n}")
        bridge.host(f"a{n}")
        bridge.host(f"b{n}")
        if n == 1:
            bridge.dangling_patch("p1", peer="p2")
    return topo


def plug(lab: Lab, name: str, bridge: str, peer: str) -> None:
    interface = ["set", "Interface", name, "type=patch", f"options:peer={peer}"]
    lab.switch("sw").vsctl("add-port", bridge, name, "--", *interface)


def comes_to_be(lab: Lab, reach: Reach) -> None:
    """A switch is reconfigured at once, and brings the flows that it has in the datapath already
    up to date a moment later."""
    eventually(
        lambda: lab.probe_all().reach,
        lambda now: now == reach,
        within=60,
        what=f"the hosts come to hear each other as {reach}",
    )


def test_patch_without_its_peer_leads_nowhere(lab: Lab) -> None:
    assert lab.probe_all().reach == APART
    assert lab.probe("a1", to="a2").heard_at == {"b1"}


def test_peer_that_is_added_later_connects(lab: Lab) -> None:
    assert lab.probe_all().reach == APART
    plug(lab, "p2", "br2", peer="p1")
    comes_to_be(lab, TOGETHER)


def test_peers_can_be_removed_and_added_again(lab: Lab) -> None:
    plug(lab, "p2", "br2", peer="p1")
    for name, bridge, peer in (("p2", "br2", "p1"), ("p1", "br1", "p2")):
        lab.switch("sw").vsctl("del-port", name)
        comes_to_be(lab, APART)
        plug(lab, name, bridge, peer)
        comes_to_be(lab, TOGETHER)


def test_what_was_learned_through_a_peer_is_forgotten_with_it(lab: Lab) -> None:
    plug(lab, "p2", "br2", peer="p1")
    lab.announce("a2")
    assert lab.probe("a1", to="a2").heard_at == {"a2"}
    lab.switch("sw").vsctl("del-port", "p1")
    assert lab.mac("a2") not in {one.mac for one in lab.switch("sw").fdb("br1")}
    # Not known any more, so flooded.
    assert lab.probe("b1", to="a2").heard_at == {"a1"}


@pytest.mark.parametrize("peer", ["p3", "a2", "br1"])
def test_peer_has_to_name_the_port_in_turn(lab: Lab, peer: str) -> None:
    plug(lab, "p2", "br2", peer)
    assert lab.probe_all().reach == APART
    lab.switch("sw").vsctl("set", "Interface", "p2", "options:peer=p1")
    comes_to_be(lab, TOGETHER)


def test_peers_that_do_not_match_up_do_not_connect(lab: Lab) -> None:
    plug(lab, "p2", "br2", peer="p1")
    plug(lab, "q1", "br1", peer="q2")
    lab.switch("sw").vsctl("set", "Interface", "p1", "options:peer=q2")
    # p1 and q1 both name q2, which does not exist; p2 names p1, which does not name it.
    assert lab.probe_all().reach == APART
