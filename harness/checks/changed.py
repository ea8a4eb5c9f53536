"""Changed: a frame arrived that is not, VLAN tags apart, as it was sent."""

from __future__ import annotations

from harness.checks.arrivals import by_host, counted, judged
from harness.checks.verdict import Verdict
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail when a frame was seen changed, unless ``changed`` ones are expected."""
    lines = []
    total = 0
    for sent in (sent for batch in history.batches for sent in batch.evidence.sent):
        changes = sent.changed
        total += len(changes)
        for point, frames in by_host(change.sighting.point for change in changes).items():
            first = next(change for change in changes if change.sighting.point == point)
            lines.append(f"{counted(frames)} of {sent.what}; the first: {first.summary()}")
    return judged(history, "changed", lines, total)
