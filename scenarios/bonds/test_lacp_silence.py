"""Bonds whose LACP partner does not answer, or answers late.

Source: ovs-vswitchd.conf.db(5), table Port, column ``lacp``: "If LACP is enabled on a port whose
partner switch does not support LACP, the bond will be disabled, unless
other-config:lacp-fallback-ab is set to true"; two passive ends never begin. Column
``other_config:lacp-fallback-ab``: "In both the cases, once the partner switch is configured to LACP
mode, the bond will use LACP".

Each case is a pair of bridges of its own, for it takes a bond seconds to give its partner up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import Lab, Topology
from harness.topology.model import BondMode, Lacp

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond


class Case(NamedTuple):
    mode: BondMode
    near: Lacp
    far: Lacp
    fallback: bool
    wakes: bool = False


CASES = [
    Case("balance-tcp", "active", "off", fallback=False),
    Case("balance-tcp", "passive", "passive", fallback=False),
    Case("balance-tcp", "off", "off", fallback=False),
    Case("balance-slb", "active", "off", fallback=False),
    Case("active-backup", "active", "off", fallback=False),
    Case("balance-tcp", "active", "off", fallback=True),
    Case("balance-slb", "active", "off", fallback=True),
    Case("balance-tcp", "active", "off", fallback=False, wakes=True),
    Case("balance-tcp", "active", "off", fallback=True, wakes=True),
]
SILENT = [number for number, case in enumerate(CASES) if not case.wakes]
LATE = [number for number, case in enumerate(CASES) if case.wakes]


def name_of(number: int) -> str:
    case = CASES[number]
    return f"{case.mode}, {case.near}-{case.far}{', fallback' * case.fallback}"


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("lacp-silence")
    near, far = topo.switch("s1"), topo.switch("s2")
    for number, case in enumerate(CASES):
        wires = [topo.underlay(f"w{number}{end}") for end in "ab"]
        config = {"lacp-time": "fast", "lacp-fallback-ab": str(case.fallback).lower()}
        bridge = near.bridge(f"br{number}")
        bridge.host(f"near{number}")
        bridge.bond(f"bond{number}", wires, mode=case.mode, lacp=case.near, other_config=config)
        bridge = far.bridge(f"br{number}")
        bridge.host(f"far{number}")
        if case.far == "off":
            for wire in wires:
                bridge.uplink(wire)
        else:
            bridge.bond("far-bond", wires, mode=case.mode, lacp=case.far, other_config=config)
    return topo


@pytest.fixture(scope="module")
def silent(module_lab: Lab, bond_of: type[Bond]) -> Lab:
    """The lab, once every bond has given up waiting."""
    for number, case in enumerate(CASES):
        if case.near != "off":
            bond_of(module_lab, "s1", f"bond{number}").gives_up()
    return module_lab


@pytest.mark.parametrize("number", SILENT, ids=name_of)
def test_nothing_passes_unless_it_may_fall_back(
    silent: Lab, bond_of: type[Bond], number: int
) -> None:
    case = CASES[number]
    near, far = f"near{number}", f"far{number}"
    silent.announce(near, far)
    out, back = silent.probe(near, to=far), silent.probe(far, to=near)
    if case.fallback:
        active = bond_of(silent, "s1", f"bond{number}").active
        assert [out.heard_at, back.heard_at] == [{far}, {near}]
        assert out.crossed == back.crossed == {active}
    else:
        assert [out.heard_at, back.heard_at] == [set(), set()]
        assert out.crossed == set()


@pytest.mark.parametrize("number", LATE, ids=name_of)
def test_a_partner_that_wakes_up_is_used(silent: Lab, bond_of: type[Bond], number: int) -> None:
    # Bridges of its own: nobody else sees what is done to them.
    members = [f"w{number}a", f"w{number}b"]
    silent.switch("s2").vsctl(
        *("--", "del-port", members[0], "--", "del-port", members[1]),
        *("--", "add-bond", f"br{number}", f"bond{number}", *members),
        *("bond_mode=balance-tcp", "lacp=active", "other_config:lacp-time=fast"),
    )
    for switch in ("s1", "s2"):
        bond_of(silent, switch, f"bond{number}").negotiates(*members)
    near, far = f"near{number}", f"far{number}"
    silent.announce(near, far)
    assert silent.probe(near, to=far).heard_at == {far}
    assert silent.probe(far, to=near).heard_at == {near}
