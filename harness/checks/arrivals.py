"""What the checkers of single frames have in common: they find facts, and know what they missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks.verdict import Verdict, verdict
from harness.traffic.history import History


def missed(history: History) -> list[str]:
    """Why not everything that arrived in batches was seen."""
    return [batch.unknown for batch in history.batches if batch.unknown]


def judged(history: History, what: str, lines: Sequence[str], frames: int) -> Verdict:
    """Fail for any of ``lines``, unless the scenario has said that it expects ``what``; of
    ``frames`` that were found, and those that may have been missed."""
    failures = () if what in history.about.expected else lines
    return verdict(failures, missed(history), {what: frames})


def counted(frames: int) -> str:
    """``1 frame``, ``2 frames`` …"""
    return "1 frame" if frames == 1 else f"{frames} frames"


def by_host(points: Iterable[str]) -> dict[str, int]:
    """How often each host occurs, in the order of their names."""
    found: dict[str, int] = {}
    for point in sorted(points):
        found[point] = found.get(point, 0) + 1
    return found
