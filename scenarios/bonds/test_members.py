"""Members that join a bond, and that leave it.

Source: ovs-vsctl(8), ``add-bond-iface`` and ``del-bond-iface``; Documentation/topics/bonding.rst:
"If a configuration error, etc. would cause a bond to have only one member, the port becomes an
ordinary port".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.topology.model import BondMode
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

HOSTS = ["a", "b", "c"]


@pytest.fixture(params=["active-backup", "balance-slb"])
def topology(request: pytest.FixtureRequest) -> Topology:
    mode: BondMode = request.param
    topo = Topology("bond-members")
    wires = [topo.underlay(f"w{number}") for number in (1, 2, 3)]
    switch = topo.switch("s1")
    bridge = switch.bridge("br0")
    bridge.bond("bond0", wires[:2], mode=mode)
    bridge.host("a")
    bridge.host("b")
    switch.bridge("spare").uplink(wires[2])
    upstream = topo.switch("up").bridge("br0")
    for wire in wires:
        upstream.uplink(wire)
    upstream.host("c")
    return topo


def crossed(lab: Lab) -> set[str]:
    """The wires by which frames leave and come back, everybody hearing everybody."""
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups(HOSTS)
    return {wire for sent in matrix.unicast.values() for wire in sent.crossed}


def test_a_member_joins_and_takes_over(lab: Lab, bond: Bond) -> None:
    lab.expect("strays")
    bond.becomes_enabled("w1", "w2")
    assert crossed(lab) <= {"w1", "w2"}
    bond.switch.vsctl("--", "del-port", "spare", "w3", "--", "add-bond-iface", "bond0", "w3")
    bond.becomes_enabled("w1", "w2", "w3")
    # What holds after the first second: docs/findings/slb-reflections-after-a-member-joins.md.
    bond.switch.unixctl("revalidator/purge")
    assert crossed(lab) <= {"w1", "w2", "w3"}
    for member in ("w1", "w2"):
        bond.set_link(member, up=False)
    bond.becomes_enabled("w3")
    bond.becomes_active("w3")
    assert crossed(lab) == {"w3"}
    bond.taught_upstream()


@pytest.mark.parametrize("leaving", ["w1", "w2"])
def test_one_member_is_left_an_ordinary_port(lab: Lab, bond: Bond, leaving: str) -> None:
    lab.expect("strays")
    bond.switch.vsctl("del-bond-iface", "bond0", leaving)
    bond.switch.unixctl("revalidator/purge")
    assert crossed(lab) == {"w1", "w2"} - {leaving}
    assert "bond0" not in bond.switch.unixctl("bond/list")
    bond.taught_upstream()
