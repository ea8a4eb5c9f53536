"""Restarts that are killed half way, and what else befalls a switch while it forwards.

Source: ovs-vswitchd.conf.db(5), Open_vSwitch ``other_config:flow-restore-wait``; ovs-lib,
``restart`` and ``upgrade_db``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from harness import Lab
from harness.faults import (
    DamagedDatabase,
    Fault,
    FullDisk,
    HalfRestart,
    Kill,
    OldSchema,
    Restart,
    Suspend,
)

if TYPE_CHECKING:
    from scenarios.restart.conftest import FramesFlow, UnderTraffic

PAIRS = [("a", "b"), ("b", "a")]
SLOW = 40
"""Frames a second that wait without loss while ovs-vswitchd does not forward."""


@pytest.mark.parametrize("stage", ["saved", "restored"])
def test_restart_killed_while_the_flows_are_there_keeps_them(
    under_traffic: UnderTraffic, stage: Literal["saved", "restored"]
) -> None:
    verdict = under_traffic(HalfRestart("s1", stage=stage), pairs=PAIRS)
    assert verdict.outcome == "pass", str(verdict)


@pytest.mark.parametrize("stage", ["stopped", "waiting"])
def test_restart_killed_while_the_flows_are_away_loses_them_and_leaks_nothing(
    under_traffic: UnderTraffic, stage: Literal["stopped", "waiting"]
) -> None:
    verdict = under_traffic(HalfRestart("s1", stage=stage), pairs=PAIRS, forwards=False)
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"delivered"}, str(verdict)


@pytest.mark.parametrize(
    ("fault", "complaints"),
    [
        (FullDisk("s1"), []),
        (DamagedDatabase("s1", part="tail"), [r"ovsdb_server\|ERR\|I/O error: .*\(End of file\)"]),
        (OldSchema("s1"), []),
    ],
    ids=["full-disk", "damaged-tail", "old-schema"],
)
def test_database_in_trouble_costs_no_frame(
    lab: Lab, under_traffic: UnderTraffic, fault: Fault, complaints: list[str]
) -> None:
    lab.expect_logged(*complaints)
    verdict = under_traffic(fault, pairs=PAIRS, rate=SLOW)
    assert verdict.outcome == "pass", str(verdict)


def test_forwarding_goes_on_while_there_is_no_database_server(
    lab: Lab, frames_flow: FramesFlow
) -> None:
    with (
        lab.traffic(rate=SLOW, pairs=PAIRS),
        lab.fault(Kill("s1", daemon="ovsdb-server", monitor=True)),
    ):
        frames_flow(PAIRS)


@pytest.mark.parametrize("daemon", ["ovs-vswitchd", "ovsdb-server"])
def test_daemon_that_hangs_for_a_while_leaks_nothing(
    under_traffic: UnderTraffic, daemon: Literal["ovs-vswitchd", "ovsdb-server"]
) -> None:
    verdict = under_traffic(Suspend("s1", daemon=daemon), pairs=PAIRS)
    assert verdict.outcome == "pass", str(verdict)


def test_restart_after_the_database_server_was_killed_loses_the_flows(
    lab: Lab, under_traffic: UnderTraffic
) -> None:
    """It saves them only while both daemons run."""
    lab.expect_logged(r"(jsonrpc|reconnect)\|WARN\|unix:")
    verdict = under_traffic(
        Kill("s1", daemon="ovsdb-server", monitor=True), Restart("s1"), pairs=PAIRS, forwards=False
    )
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"delivered", "state kept"}, str(verdict)
    lost = verdict.parts["state kept"].findings
    assert [": flow lost: " in line for line in lost] == [True, True]
