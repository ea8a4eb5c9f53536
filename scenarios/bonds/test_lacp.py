"""Bonds that agree by LACP, and lose a link.

Source: ovs-vswitchd.conf.db(5), table Port, "LACP Configuration"; Documentation/topics/bonding.rst,
"Enabling and Disabling Members".
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
FAST = {"lacp-time": "fast", "bond-rebalance-interval": "0"}


@pytest.fixture
def mode() -> BondMode:
    return "balance-tcp"


@pytest.fixture
def topology(mode: BondMode) -> Topology:
    topo = Topology("lacp")
    wires = [topo.underlay(name) for name in MEMBERS]
    for name, hosts in (("s1", "ab"), ("s2", "c")):
        bridge = topo.switch(name).bridge("br0")
        bridge.bond("bond0", wires, mode=mode, lacp="active", other_config=FAST)
        for host in hosts:
            bridge.host(host)
    return topo


@pytest.fixture
def ends(bond: Bond) -> list[Bond]:
    """Both ends of the bond, once they have agreed."""
    found = [bond, bond.of("s2")]
    for end in found:
        end.negotiates(*MEMBERS)
    return found


@pytest.mark.parametrize("mode", ["balance-tcp", "balance-slb", "active-backup"])
@pytest.mark.usefixtures("ends")
def test_every_mode_can_negotiate(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups("abc")


@pytest.mark.parametrize("failing", MEMBERS)
def test_a_link_fails_and_comes_back(lab: Lab, ends: list[Bond], failing: str) -> None:
    lab.expect("strays")
    ends[0].set_link(failing, up=False)
    for end in ends:
        end.becomes_enabled(*{*MEMBERS} - {failing})
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups("abc")
    crossed = {wire for sent in matrix.unicast.values() for wire in sent.crossed}
    assert crossed == {*MEMBERS} - {failing}

    ends[0].set_link(failing, up=True)
    for end in ends:
        end.negotiates(*MEMBERS)
    assert lab.probe_all().reach == Reach.groups("abc")
    ends[0].taught_upstream()
