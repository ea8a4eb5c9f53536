"""A comparison that failed, in words: what arrived, where, with which tags, and what should have.

pytest's ``pytest_assertrepr_compare`` hands its two operands here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from harness.traffic.batch import Change, HeardAt, Sent
from harness.traffic.matrix import Reach
from harness.traffic.sightings import Sighting

_MOST = 20
"""Lines shown of one list: enough to see a pattern, few enough to read."""


def explain(left: object, right: object) -> list[str] | None:
    """The lines of an explanation of ``left != right``; None when neither is of this room."""
    if isinstance(left, Reach) and isinstance(right, Reach):
        return ["who heard whom is not as expected:", *_most(left.difference(right))]
    if isinstance(left, HeardAt) and isinstance(right, Collection):
        return _heard(left, right)
    if isinstance(right, HeardAt) and isinstance(left, Collection):
        return _heard(right, left)
    for frames, expected in ((left, right), (right, left)):
        if _is_report(frames) and isinstance(frames, list) and isinstance(expected, list):
            extra = [one for one in frames if one not in expected]
            lines = [one.summary() for one in extra]
            return [f"{len(extra)} frames more than the {len(expected)} expected:", *_most(lines)]
    return None


def _is_report(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Sighting | Change) for one in value)
    )


def _heard(heard: HeardAt, expected: Collection[object]) -> list[str]:
    sent: Sent = heard.sent
    names = {str(name) for name in expected}
    more, less = sorted(heard - names), sorted(names - heard)
    lines = [f"{sent} was heard at {_names(heard)}; expected: {_names(names)}"]
    for host in more:
        lines.append(f"{host} heard it and should not have:")
        lines += _most(f"  {one.summary()}" for one in sent.sightings if one.point == host)
    if less:
        lines.append(f"{_names(less)} did not hear it; it was seen here:")
        seen = _most(f"  {one.summary()}" for one in sent.sightings)
        lines += seen or ["  nowhere"]
    return lines


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"


def _most(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    if len(every) <= _MOST:
        return every
    return [*every[:_MOST], f"… and {len(every) - _MOST} more"]
