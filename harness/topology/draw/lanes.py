"""Parallel lines: which of them may share a lane."""

from __future__ import annotations

Span = tuple[float, float]


def span(one: float, other: float) -> Span:
    """From the left to the right of two places."""
    return min(one, other), max(one, other)


def lanes(spans: list[Span]) -> list[int]:
    """The lowest lane for each span in which it meets no other; short spans choose first."""
    taken: list[list[Span]] = []
    found = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], i)):
        left, right = spans[index]
        lane = next(
            (
                number
                for number, others in enumerate(taken)
                if all(right + 10.0 < other[0] or other[1] + 10.0 < left for other in others)
            ),
            len(taken),
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((left, right))
        found[index] = lane
    return found
