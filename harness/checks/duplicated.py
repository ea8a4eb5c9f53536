"""Duplicated: a host heard a frame that it had heard before."""

from __future__ import annotations

from harness.checks.arrivals import by_host, counted, judged
from harness.checks.verdict import Verdict
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail when a host heard a frame more than once, unless ``duplicates`` are expected."""
    lines = []
    total = 0
    for sent in (sent for batch in history.batches for sent in batch.evidence.sent):
        again = sent.duplicates
        total += len(again)
        for host, frames in by_host(seen.point for seen in again).items():
            first = next(seen for seen in again if seen.point == host)
            lines.append(
                f"{counted(frames)} of {sent.what} arrived at {host} that had arrived there "
                f"before; the first: {first.summary()}"
            )
    return judged(history, "duplicates", lines, total)
