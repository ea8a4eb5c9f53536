"""What no scenario has to ask for: frames that should not have arrived, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from harness.traffic.batch import Batch
from harness.traffic.gaps import Gap

Surprise = Literal["strays", "duplicates", "changed", "reordered", "flooding"]
"""What a switch should not do to frames unless its configuration says so. The last two are judged
of a history only (:mod:`harness.checks`)."""
MOST_LINES = 20


class SurpriseError(AssertionError):
    """Frames arrived that nobody sent, or twice, or late, or not as they were sent, and the
    scenario did not say that it expects that."""


def check(
    batches: Sequence[Batch],
    gaps: Sequence[Gap],
    expected: Collection[Surprise],
    kernels: Callable[[], Collection[bytes]],
) -> None:
    """Raise :class:`SurpriseError` when a batch, or a gap beside them, holds what is not
    ``expected``, and :class:`~harness.traffic.batch.Unknown` when that cannot be known of one.

    ``kernels`` gives the MAC addresses of interfaces that have IP addresses.
    """
    lines = [line for batch in batches if not batch.unknown for line in _of_batch(batch, expected)]
    lines += [line for gap in gaps for line in _of_gap(gap, expected, kernels)]
    if lines:
        shown = "\n  ".join(lines[:MOST_LINES])
        more = f"\n  and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
        raise SurpriseError(
            f"frames arrived that should not have (lab.expect(...) where they may):\n  "
            f"{shown}{more}"
        )
    # Also when nobody asked about it: unknown is never pass.
    for batch in batches:
        batch.check()
    for gap in gaps:
        gap.check()


def _of_batch(batch: Batch, expected: Collection[Surprise]) -> list[str]:
    late = batch.late
    # A frame that comes late was sent by somebody: those that nobody sent are no excuse for it.
    lines = [f"late: {seen.summary()}" for seen in late]
    if "strays" not in expected:
        lines += [f"strays: {seen.summary()}" for seen in batch.strays if seen not in late]
    if "duplicates" not in expected:
        lines += [f"duplicates: {seen.summary()}" for seen in batch.duplicates]
    if "changed" not in expected:
        lines += [f"changed: {change.summary()}" for change in batch.changed]
    return lines


def _of_gap(
    gap: Gap, expected: Collection[Surprise], kernels: Callable[[], Collection[bytes]]
) -> list[str]:
    lines = [f"late: {gap.summary(seen)}" for seen in gap.late]
    if "strays" not in expected and gap.strays(()):
        lines += [f"strays: {gap.summary(seen)}" for seen in gap.strays(kernels())]
    return lines
