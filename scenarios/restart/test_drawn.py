"""Faults drawn at random, one after the other: learning switches get over each of them.

Source: ovs-vswitchd.conf.db(5), Bridge ``fail_mode``: a bridge without a controller is an ordinary
learning switch, and what it is configured to be is in its database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.faults import (
    Cut,
    Exit,
    HalfRestart,
    Kill,
    LinkDown,
    LinkFlapping,
    OldSchema,
    Restart,
    Suspend,
)

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

FAULTS = (Cut, Exit, HalfRestart, Kill, LinkDown, LinkFlapping, OldSchema, Restart, Suspend)
SLOW = 60
"""Frames a second: without its database server a switch may stand still (see test_half_way.py)."""


@pytest.fixture
def topology() -> Topology:
    topo = Topology("two-switches")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0")
        bridge.uplink(wire)
        for tag, name in ((10, "red"), (20, "blue")):
            bridge.host(f"{name}{n}", tag=tag)
    return topo


def test_three_faults_in_a_row(lab: Lab, under_traffic: UnderTraffic) -> None:
    for fault in [lab.draw_fault(*FAULTS) for _ in range(3)]:
        verdict = under_traffic(fault, rate=SLOW)
        assert verdict.outcome == "pass", f"{fault}: {verdict}"
