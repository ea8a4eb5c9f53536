"""State kept: what a switch was told and given is all there afterwards."""

from __future__ import annotations

from harness.checks.verdict import Verdict, verdict
from harness.topology.differences import differences
from harness.traffic.history import History, StatePair


def check(history: History) -> Verdict:
    """Fail for everything that was lost, is new or has changed between the states before and after
    of a switch, but for what the operations meanwhile were meant to change."""
    failures: list[str] = []
    unknowns = [] if history.states else ["no state was read before and after anything"]
    meant = 0
    for pair in history.states:
        if pair.before is None or pair.after is None:
            unknowns.append(f"{pair.switch}: {pair.unknown}")
            continue
        changes = _changes(history, pair)
        for found in differences(pair.before, pair.after):
            if found.what in changes:
                meant += 1
            else:
                failures.append(f"{pair.switch}: {found.said}")
    return verdict(failures, unknowns, {"states": len(history.states), "meant_changes": meant})


def _changes(history: History, pair: StatePair) -> set[str]:
    """What was meant to change of this switch."""
    return {
        name
        for one in history.operations
        if one.subject in ("", pair.switch) and one.overlaps(pair.before_ns, pair.after_ns)
        for name in one.changes
    }
