"""The one way to wait: look first, then again, less and less often, until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.1


class NeverHappenedError(AssertionError):
    """What was waited for did not come about in time."""


def eventually(
    look: Callable[[], T], until: Callable[[T], object] = bool, *, within: float, what: str
) -> T:
    """Call ``look`` until what it returns satisfies ``until``; return that.

    Raise :class:`NeverHappenedError` after ``within`` seconds, saying ``what`` was waited for,
    what was seen last, and what was seen before that, if it was something else.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    last = look()
    before: list[T] = []
    while not until(last):
        left = deadline - time.monotonic()
        if left <= 0:
            earlier = f", and before that {before[-1]!r}" if before else ", as all the time"
            raise NeverHappenedError(
                f"{what}: not within {within:g} s; seen last: {last!r}{earlier}"
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)
        now = look()
        if now != last:
            before = [last]
        last = now
    return last
