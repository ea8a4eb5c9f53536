"""When a host heard nothing of a flow: the gaps in the numbers of what arrived, as times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple


class Outage(NamedTuple):
    """``lost`` frames in a row did not arrive. In ns of the real-time clock it lasts from the last
    arrival before them (or their first sending) to the first arrival behind them (or the last
    sending)."""

    began_ns: int
    ended_ns: int
    lost: int
    first_seq: int
    """The number of the first frame that was lost."""
    last: bool = False
    """Whether nothing arrived any more."""

    @property
    def length_ns(self) -> int:
        """How long it lasted."""
        return self.ended_ns - self.began_ns


def outages(
    arrivals: Mapping[int, int], count: int, sent_at: Callable[[int], int | None]
) -> list[Outage]:
    """The outages of a flow of ``count`` frames at one host, in order.

    ``arrivals`` maps the numbers that were heard to when they first were, ``sent_at`` tells when
    a number was sent; where it can't, there is no outage to tell of.
    """
    marks = [(-1, sent_at(0)), *sorted(arrivals.items()), (count, sent_at(count - 1))]
    return [
        Outage(before, after, high - low - 1, low + 1, last=high == count)
        for (low, before), (high, after) in pairwise(marks)
        if high > low + 1 and before is not None and after is not None
    ]
