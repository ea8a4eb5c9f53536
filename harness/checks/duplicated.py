"""Duplicated: a host heard a frame that it had heard before."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.arrivals import by_host, counted, judged
from harness.checks.verdict import Verdict
from harness.traffic.batch import Sent
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail when a host heard a frame more than once, unless ``duplicates`` are expected."""
    flows = [sent for batch in history.batches for sent in batch.evidence.sent]
    lines = [line for sent in flows for line in _lines(sent)]
    return judged(history, "duplicates", lines, sum(len(sent.duplicates) for sent in flows))


def _lines(sent: Sent) -> Iterator[str]:
    for host, frames in by_host(seen.point for seen in sent.duplicates).items():
        first = next(seen for seen in sent.duplicates if seen.point == host)
        yield (
            f"{counted(frames)} of {sent.what} arrived at {host} that had arrived there before; "
            f"the first: {first.summary()}"
        )
