"""An active-backup bond: all frames by one member, and by another when that one fails.

Source: Documentation/topics/bonding.rst, "Active Backup Bonding" and "Enabling and Disabling
Members"; ovs-vswitchd.conf.db(5), table Port, "Bonding Configuration". It "will work with any
kind of upstream switch", on which the interfaces are no bond, and its members may be plugged into
different upstream switches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")
OTHER = {"w1": "w2", "w2": "w1"}


@pytest.fixture
def options() -> dict[str, Any]:
    return {}


@pytest.fixture(params=["one upstream switch", "two upstream switches"])
def topology(request: pytest.FixtureRequest, options: dict[str, Any]) -> Topology:
    topo = Topology("active-backup")
    wires = [topo.underlay(name) for name in MEMBERS]
    bridge = topo.switch("s1").bridge("br0")
    bridge.bond("bond0", wires, mode="active-backup", **options)
    bridge.host("a")
    bridge.host("b")
    if request.param == "one upstream switch":
        ups = [topo.switch("up").bridge("br0")] * 2
    else:
        ups = [topo.switch(f"up{n}").bridge("br0") for n in (1, 2)]
        between = topo.underlay("between")
        for up in ups:
            up.uplink(between)
    for up, wire, host in zip(ups, wires, "cd", strict=True):
        up.uplink(wire)
        up.host(host)
    return topo


@pytest.fixture(autouse=True)
def members_are_up(bond: Bond) -> None:
    bond.becomes_enabled(*MEMBERS)


def wires(crossed: frozenset[str]) -> set[str]:
    return set(crossed) & set(MEMBERS)


def test_only_the_active_member_carries_frames(lab: Lab, bond: Bond) -> None:
    active = bond.active
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups("abcd")
    used = {pair: wires(sent.crossed) for pair, sent in matrix.unicast.items()}
    assert used == {
        (a, b): {active} if {a, b} & set("ab") and {a, b} & set("cd") else set() for a, b in used
    }


def test_flooded_frames_are_dropped_on_the_backup(lab: Lab, bond: Bond) -> None:
    lab.announce()
    for source in "abcd":
        sent = lab.probe(source)
        assert sent.heard_at == set("abcd") - {source}
        # Once in and out of the bond by the active member, once to the backup, which takes none.
        assert [sent.count_at(wire) for wire in MEMBERS] == [1, 1]
        for seen in sent.all_on(OTHER[bond.active]):
            assert seen.port is not None
            assert not seen.port.startswith("s1:")


@pytest.mark.parametrize("how", ["link down", "by command"])
def test_fail_over(lab: Lab, bond: Bond, how: str) -> None:
    # "Gratuitous learning packets": the upstream switch floods them.
    lab.expect("strays")
    first, second = bond.active, OTHER[bond.active]
    lab.announce()
    with lab.traffic(rate=1000, pairs=[("a", "c"), ("b", "d")]) as traffic:
        if how == "link down":
            bond.set_link(first, up=False)
        else:
            bond.switch.unixctl("bond/set-active-member", "bond0", second)
        bond.becomes_active(second)
    assert traffic.leaked == traffic.duplicates == []
    lab.record("outage", traffic.outage)

    # One for each address that is not behind the bond.
    assert bond.taught_upstream() == [(host, lab.mac(moved)) for host in "cd" for moved in "ab"]
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups("abcd")
    for pair in ("ac", "ad", "bc", "bd", "ca", "da", "cb", "db"):
        assert wires(matrix.unicast[pair[0], pair[1]].crossed) == {second}


def test_nothing_passes_without_a_member(lab: Lab, bond: Bond) -> None:
    lab.expect("strays")
    for member in MEMBERS:
        bond.set_link(member, up=False)
    bond.becomes_enabled()
    assert lab.probe_all().reach == Reach.groups("ab", "cd")

    bond.set_link("w2", up=True)
    bond.becomes_active("w2")
    assert lab.probe_all().reach == Reach.groups("abcd")
    bond.taught_upstream()


def test_a_member_that_comes_back_is_a_backup(lab: Lab, bond: Bond) -> None:
    lab.expect("strays")
    first, second = bond.active, OTHER[bond.active]
    bond.set_link(first, up=False)
    bond.becomes_active(second)
    bond.set_link(first, up=True)
    bond.becomes_enabled(*MEMBERS)
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups("abcd")
    assert wires(matrix.unicast["a", "c"].crossed) == {second}
    bond.taught_upstream()


@pytest.mark.parametrize(
    ("options", "primary"),
    [
        ({"other_config": {"bond-primary": "w1"}}, "w1"),
        ({"other_config": {"bond-primary": "w2"}}, "w2"),
    ],
)
def test_the_primary_is_active_whenever_it_is_up(lab: Lab, bond: Bond, primary: str) -> None:
    lab.expect("strays")
    bond.becomes_active(primary)
    for up, expected in ((False, OTHER[primary]), (True, primary)):
        bond.set_link(primary, up=up)
        bond.becomes_active(expected)
        matrix = lab.probe_all()
        assert matrix.reach == Reach.groups("abcd")
        assert wires(matrix.unicast["a", "c"].crossed) == {expected}
    bond.taught_upstream()


@pytest.mark.parametrize("options", [{"downdelay": 600_000}])
def test_within_downdelay_a_member_counts_as_up(lab: Lab, bond: Bond) -> None:
    active = bond.active
    bond.set_link(active, up=False)
    bond.waits_for("downdelay")
    assert (bond.active, bond.enabled) == (active, set(MEMBERS))
    assert lab.probe("a").heard_at == {"b"}
    bond.set_link(active, up=True)
    bond.waits_for()
    assert bond.active == active
    assert lab.probe_all().reach == Reach.groups("abcd")


@pytest.mark.parametrize("options", [{"updelay": 600_000}])
def test_within_updelay_a_member_counts_as_down(lab: Lab, bond: Bond) -> None:
    lab.expect("strays")
    first, second = bond.active, OTHER[bond.active]
    bond.set_link(first, up=False)
    bond.becomes_enabled(second)
    bond.set_link(first, up=True)
    bond.waits_for("updelay")
    assert bond.enabled == {second}
    assert lab.probe_all().reach == Reach.groups("abcd")
    # "When no interfaces are enabled, then the first bond interface to come up is enabled
    # immediately."
    bond.set_link(second, up=False)
    bond.becomes_active(first)
    assert lab.probe_all().reach == Reach.groups("abcd")
    bond.taught_upstream()
