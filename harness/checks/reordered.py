"""Reordered: a host heard a frame of a flow behind one that was sent later."""

from __future__ import annotations

from collections.abc import Mapping

from harness.checks.arrivals import counted, judged
from harness.checks.verdict import Verdict
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail when frames of a flow overtook each other, unless ``reordered`` ones are expected."""
    lines = []
    total = 0
    for batch in history.batches:
        hosts = [point.name for point in batch.ledger.points.values() if point.kind == "host"]
        for sent in batch.evidence.sent:
            for host in hosts if sent.count > 1 else ():
                behind = overtaken(sent.arrivals_at(host))
                total += len(behind)
                if behind:
                    lines.append(
                        f"{counted(len(behind))} of {sent.what} arrived at {host} behind one that "
                        f"was sent later; the first: #{behind[0]}"
                    )
    return judged(history, "reordered", lines, total)


def overtaken(arrivals: Mapping[int, int]) -> list[int]:
    """The numbers that came when a higher one was there already, in order of arrival."""
    highest = -1
    found = []
    for seq, _time in sorted(arrivals.items(), key=lambda pair: (pair[1], pair[0])):
        if seq < highest:
            found.append(seq)
        highest = max(highest, seq)
    return found
