"""ovs-vswitchd dies and nobody saved its flows: what a bridge then does is up to its fail mode.

Source: ovs-vswitchd.conf.db(5), Bridge ``fail_mode``: without a controller, ``standalone``
"takes over responsibility for setting up flows" and acts "like an ordinary MAC-learning switch",
``secure`` "will not set up flows on its own". Flows that were added by hand live in the daemon's
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.faults import Exit, Fault, Kill
from harness.topology.model import FailMode

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

PAIRS = [("a", "b"), ("b", "a")]
SLOW = 40
"""Frames a second that wait without loss while ovs-vswitchd does not forward: see
test_half_way.py."""
ENDS = [
    pytest.param(Kill("s1", monitor=True), id="killed"),
    pytest.param(Kill("s1", signal="SEGV"), id="crashed"),
    pytest.param(Exit("s1"), id="exit"),
    pytest.param(Exit("s1", cleanup=True), id="exit-cleanup"),
]


def forwarding(fail_mode: FailMode) -> Topology:
    """Flows say who hears whom: a and b each other, c nobody."""
    topo = Topology(fail_mode)
    bridge = topo.switch("s1").bridge("br0", fail_mode=fail_mode)
    for name in "abc":
        bridge.host(name)
    bridge.flow("cookie=0x5,priority=10,in_port=a,actions=output:b")
    bridge.flow("cookie=0x5,priority=10,in_port=b,actions=output:a")
    bridge.flow("cookie=0x5,priority=5,actions=drop")
    return topo


@pytest.mark.parametrize("topology", [forwarding("secure")], ids=["secure"])
@pytest.mark.parametrize("end", ENDS)
def test_secure_bridge_forwards_nothing_and_leaks_nothing(
    under_traffic: UnderTraffic, end: Fault
) -> None:
    verdict = under_traffic(end, pairs=PAIRS, forwards=False)
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"delivered"}, str(verdict)
    ends = verdict.parts["delivered"].findings
    assert [line.partition(" is ")[2] for line in ends] == [
        f"no longer heard at {to}, where it was heard before" for to in "ba"
    ]


@pytest.mark.parametrize("topology", [forwarding("standalone")], ids=["standalone"])
@pytest.mark.parametrize("end", ENDS)
def test_standalone_bridge_leaks_as_a_learning_switch_floods(
    lab: Lab, under_traffic: UnderTraffic, end: Fault
) -> None:
    """As documented: its own flow is all it has, and knows nobody; b, which never speaks, it does
    not come to know. That c heard what the flows forbade it to is a leak all the same, and the
    judgement names it."""
    verdict = under_traffic(end, pairs=PAIRS[:1])
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"leaked"}, str(verdict)
    leaks = verdict.parts["leaked"].findings
    assert any("heard at c, which the state before" in line for line in leaks), leaks
    (bridge,) = lab.switch("s1").state().bridges.values()
    assert [flow.actions for flow in bridge.flows] == ["NORMAL"]


@pytest.mark.parametrize("topology", [forwarding("secure"), forwarding("standalone")])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(Kill("s1", daemon="ovsdb-server", monitor=True), id="killed"),
        pytest.param(Kill("s1", daemon="ovsdb-server", signal="SEGV"), id="crashed"),
    ],
)
def test_database_server_that_dies_costs_no_frame(under_traffic: UnderTraffic, end: Fault) -> None:
    verdict = under_traffic(end, pairs=PAIRS, rate=SLOW)
    assert verdict.outcome == "pass", str(verdict)
    assert verdict.parts["lost"].measurements["lost"] == 0
