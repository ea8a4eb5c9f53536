"""Unaccounted: frames that nobody sent, or that came when they were proved to be gone."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.arrivals import missed
from harness.checks.verdict import Verdict, verdict
from harness.traffic.batch import Batch
from harness.traffic.gaps import Gap
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail for every frame that a host heard and nobody sent, unless ``strays`` are expected, and
    for every late one, in batches and between them."""
    expected = "strays" in history.about.expected
    lines = [
        line
        for batch in history.batches
        for line in _of_batch(batch.evidence, strays_expected=expected)
    ]
    lines += [
        line for gap in history.gaps for line in _of_gap(history, gap, strays_expected=expected)
    ]
    unseen = [f"{gap}: {gap.batch.unknown}" for gap in history.gaps if gap.batch.unknown]
    if history.about.unseen:
        unseen.append(f"what arrived beside batches is not known: {history.about.unseen}")
    return verdict(lines, [*missed(history), *unseen], {"unaccounted": len(lines)})


def _of_batch(batch: Batch, *, strays_expected: bool) -> Iterator[str]:
    late = batch.late
    yield from (f"late: {seen.summary()}" for seen in late)
    if not strays_expected:
        yield from (
            f"sent by nobody: {seen.summary()}" for seen in batch.strays if seen not in late
        )


def _of_gap(history: History, gap: Gap, *, strays_expected: bool) -> Iterator[str]:
    yield from (f"late: {gap.summary(seen)}" for seen in gap.late)
    # Without knowing whose kernels speak there nobody can be accused.
    if not strays_expected and not history.about.unseen:
        strays = gap.strays(history.kernels)
        yield from (f"sent by nobody: {gap.summary(seen)}" for seen in strays)
