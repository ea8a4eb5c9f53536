"""What a bond with LACP does when its partner is silent, wakes up or loses a link.

Source: ovs-vswitchd.conf.db(5), table Port, "LACP Configuration", columns ``lacp`` and
``other_config:lacp-fallback-ab``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.topology.model import BondMode, Lacp
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")
FAST = {"lacp-time": "fast", "bond-rebalance-interval": "0"}
FALLBACK = {"lacp-fallback-ab": "true"}


@pytest.fixture
def mode() -> BondMode:
    return "balance-tcp"


@pytest.fixture
def far() -> Lacp:
    """LACP at the other end's bond; ``off`` is a switch that knows nothing of a bond."""
    return "active"


@pytest.fixture
def config() -> dict[str, str]:
    return {}


@pytest.fixture
def topology(mode: BondMode, far: Lacp, config: dict[str, str]) -> Topology:
    topo = Topology("lacp")
    wires = [topo.underlay(name) for name in MEMBERS]
    near_bridge, far_bridge = (topo.switch(name).bridge("br0") for name in ("s1", "s2"))
    near_bridge.bond("bond0", wires, mode=mode, lacp="active", other_config={**FAST, **config})
    if far == "off":
        for wire in wires:
            far_bridge.uplink(wire)
    else:
        far_bridge.bond("bond0", wires, mode=mode, lacp=far, other_config=FAST)
    for name in "ab":
        near_bridge.host(name)
    far_bridge.host("c")
    return topo


@pytest.mark.parametrize("mode", ["balance-tcp", "balance-slb", "active-backup"])
def test_every_mode_can_negotiate(lab: Lab, bond: Bond) -> None:
    bond.negotiates()
    bond.becomes_enabled(*MEMBERS)
    bond.of("s2").becomes_enabled(*MEMBERS)
    assert lab.probe_all().reach == Reach.groups("abc")


@pytest.mark.parametrize("failing", MEMBERS)
def test_a_link_fails_and_comes_back(lab: Lab, bond: Bond, failing: str) -> None:
    lab.expect("strays")
    ends = (bond, bond.of("s2"))
    for end in ends:
        end.becomes_enabled(*MEMBERS)
    bond.set_link(failing, up=False)
    for end in ends:
        end.becomes_enabled(*{*MEMBERS} - {failing})
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups("abc")
    assert {wire for sent in matrix.unicast.values() for wire in sent.crossed} == {*MEMBERS} - {failing}

    bond.set_link(failing, up=True)
    for end in ends:
        end.becomes_enabled(*MEMBERS)
    assert lab.probe_all().reach == Reach.groups("abc")
    bond.taught_upstream()


@pytest.mark.parametrize("far", ["off"])
@pytest.mark.parametrize("config", [{}, FALLBACK], ids=["disabled", "fallback"])
def test_a_partner_wakes_up(lab: Lab, bond: Bond) -> None:
    # "Once the partner switch is configured to LACP mode, the bond will use LACP."
    lab.expect("strays")
    assert bond.lacp == "configured"
    lab.switch("s2").vsctl(
        *("--", "del-port", "w1", "--", "del-port", "w2", "--", "add-bond", "br0", "bond0"),
        *(*MEMBERS, "bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast"),
    )
    bond.negotiates()
    bond.becomes_enabled(*MEMBERS)
    bond.of("s2").becomes_enabled(*MEMBERS)
    assert lab.probe_all().reach == Reach.groups("abc")
    bond.taught_upstream()
