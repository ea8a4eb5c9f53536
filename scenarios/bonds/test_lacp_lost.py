"""Bonds whose LACP partner falls silent while every link keeps its carrier.

Source: ovs-vswitchd.conf.db(5), table Port, column ``lacp``: "If LACP is enabled on a port whose
partner switch does not support LACP, the bond will be disabled, unless
other-config:lacp-fallback-ab is set to true"; ``other_config:lacp-fallback-ab``: "Determines the
behavior of openvswitch bond in LACP mode. If the partner switch does not support LACP, setting this
option to true allows openvswitch to fallback to active-backup".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.topology.model import BondMode
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")
TOGETHER = Reach.groups("abc")
APART = Reach.groups("ab", "c")


@pytest.fixture
def mode() -> BondMode:
    return "balance-tcp"


@pytest.fixture
def fallback() -> bool:
    return False


@pytest.fixture
def topology(mode: BondMode, fallback: bool) -> Topology:
    topo = Topology("lacp-lost")
    wires = [topo.underlay(name) for name in MEMBERS]
    config = {"lacp-time": "fast", "lacp-fallback-ab": str(fallback).lower()}
    near = topo.switch("s1").bridge("br0")
    near.bond("bond0", wires, mode=mode, lacp="active", other_config=config)
    near.host("a")
    near.host("b")
    far = topo.switch("s2").bridge("br0")
    # Without LACP this end goes on with one member, as a switch that knows no LACP would.
    far.bond("bond0", wires, mode="active-backup", lacp="active", other_config=config)
    far.host("c")
    return topo


def silence_partner(lab: Lab, bond: Bond) -> None:
    """Have the other end stop speaking LACP, and wait until ``bond`` has given it up."""
    lab.expect("strays")
    for end in (bond, bond.of("s2")):
        end.negotiates(*MEMBERS)
    lab.switch("s2").vsctl("set", "Port", "bond0", "lacp=off")
    bond.gives_up()


def links(lab: Lab) -> set[str]:
    """The members of both ends whose link is up, as the switches see it."""
    return {
        row["name"]
        for name in ("s1", "s2")
        for row in lab.switch(name).db("Interface", ["name", "link_state"])
        if row["name"] in MEMBERS and row["link_state"] == "up"
    }


@pytest.mark.parametrize("mode", ["balance-tcp", "balance-slb", "active-backup"])
def test_without_a_fallback_the_bond_is_disabled(lab: Lab, bond: Bond) -> None:
    silence_partner(lab, bond)
    bond.becomes_enabled()
    assert links(lab) == {*MEMBERS}
    assert lab.probe_all().reach == APART
    assert lab.probe("a", to="c").crossed == set()
    # What the other end still sends does get here, and goes no further.
    assert lab.probe("c", to="a").crossed == {bond.of("s2").active}


@pytest.mark.parametrize("fallback", [True])
@pytest.mark.parametrize(
    ("mode", "member"),
    [("balance-tcp", "w1"), ("balance-tcp", "w2"), ("balance-slb", "w2"), ("active-backup", "w2")],
)
def test_with_a_fallback_one_member_carries_all(lab: Lab, bond: Bond, member: str) -> None:
    silence_partner(lab, bond)
    bond.becomes_enabled(*MEMBERS)
    for end in (bond, bond.of("s2")):
        end.switch.unixctl("bond/set-active-member", "bond0", member)
        end.becomes_active(member)
    assert links(lab) == {*MEMBERS}
    matrix = lab.probe_all()
    assert matrix.reach == TOGETHER
    crossed = {wire for sent in matrix.unicast.values() for wire in sent.crossed}
    assert crossed == {member}
    bond.taught_upstream()


@pytest.mark.parametrize("fallback", [False, True], ids=["disabled", "fallback"])
def test_a_partner_that_speaks_again_is_agreed_with(lab: Lab, bond: Bond) -> None:
    silence_partner(lab, bond)
    lab.switch("s2").vsctl("set", "Port", "bond0", "lacp=active")
    for end in (bond, bond.of("s2")):
        end.negotiates(*MEMBERS)
    assert lab.probe_all().reach == TOGETHER
    bond.taught_upstream()
