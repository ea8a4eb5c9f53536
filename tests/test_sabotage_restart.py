"""Scenarios of restarts notice a restart that is broken, and name what was lost or leaked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_sabotage import run_broken

FAMILIES = "scenarios/restart/test_families.py"
RESTART = f"{FAMILIES}::test_restart_keeps_all_and_leaks_nothing"
RELOAD = f"{FAMILIES}::test_reload_keeps_all_and_leaks_nothing"
UPGRADE = "scenarios/restart/test_upgrades.py::test_all_is_kept_and_nothing_leaks"
NAMESPACES, MACHINES = "trixie/namespace/netdev", "trixie/vm/kernel"


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("sabotage", "family", "said"),
    [
        ("drop-a-flow", "requested_ports", r"flow lost: table=0,\S+ actions=output:\d+"),
        (
            "lose-cookies",
            "flows_of_a_learning_switch",
            r"flow table=0,priority=10,in_port=\d+: cookie: 0x5 -> (none|0x0)",
        ),
        ("forget-groups", "grouped", r"group \d+ lost"),
        ("no-waiting", "flows_of_a_learning_switch", r"heard at c, which the state before"),
        ("flood-after-start", "timeouts_and_flags", r"heard at c, which the state before"),
        ("lose-addresses", "learning", r"br0: address lost: 192\.0\.2\.1/24"),
    ],
)
def test_a_restart_that_is_broken(tmp_path: Path, sabotage: str, family: str, said: str) -> None:
    outcome = broken(tmp_path, sabotage, RESTART, f"{family}-{NAMESPACES}", NAMESPACES)
    assert outcome.startswith("caught: verdict: fail")
    assert re.search(said, outcome), outcome


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (
            "no-reload",
            r"^caught: s1: .*\bopenvswitch was not reloaded: the same one is still there",
        ),
        ("unsaved-addresses", r"^caught: verdict: fail.* br0: address lost: 192\.0\.2\.1/24"),
    ],
)
def test_a_reload_that_is_broken(tmp_path: Path, sabotage: str, said: str) -> None:
    outcome = broken(tmp_path, sabotage, RELOAD, f"learning-{MACHINES}", MACHINES)
    assert re.search(said, outcome), outcome


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        ("drop-a-flow", r"flow lost: table=1,\S+ actions=output:4001"),
        ("lose-cookies", r"flow table=0,priority=10,in_port=17: cookie: 0x2 -> (none|0x0)"),
        ("forget-groups", r"group 1 lost"),
        ("no-waiting", r"heard at c, which the state before"),
        ("lose-addresses", r"br0: address lost: 192\.0\.2\.1/24"),
    ],
)
def test_an_upgrade_to_a_version_that_is_broken(tmp_path: Path, sabotage: str, said: str) -> None:
    outcome = broken(tmp_path, sabotage, UPGRADE, f"{NAMESPACES}-trixie-forky", NAMESPACES)
    assert outcome.startswith("caught: verdict: fail")
    assert re.search(said, outcome), outcome


def broken(directory: Path, sabotage: str, scenario: str, case: str, target: str) -> str:
    """What became of one case of a scenario on switches that are broken in this way."""
    given = [f"--target={target}", f"{scenario}[{case}]"]
    ((name, outcomes),) = run_broken(sabotage, given, directory / "results.json").items()
    assert name == scenario
    return outcomes[sabotage]
