"""What a measurement hands in: figures, and rows of the table that they stand in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Say = Callable[[str], None]
"""Tells whoever waits what is being done."""

_DECIMALS = {"s": 3, "ms": 3}


@dataclass(frozen=True)
class Figure:
    """Values of one kind, one from each repetition. ``unit`` is that of each: ``s``, ``ms``,
    ``/s``, ``MB``."""

    values: tuple[float, ...]
    unit: str

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "s") -> Figure:
        """The figure of some values. Raise ``ValueError`` when there are none."""
        if not values:
            raise ValueError("a figure needs at least one value")
        return cls(tuple(values), unit)

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        text = f"{self._one(self.median)} {self.unit}"
        return text if low == high else f"{text} ({self._one(low)} to {self._one(high)})"

    def _one(self, value: float) -> str:
        return f"{value:,.{_DECIMALS.get(self.unit, 0)}f}"

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"median": self.median, "unit": self.unit, "values": list(self.values)}


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, here and with the peer, and what that means."""

    what: str
    ours: Figure | None
    peer: Figure | None = None
    words: str = ""

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "harness": None if self.ours is None else self.ours.data(),
            "peer": None if self.peer is None else self.peer.data(),
            "words": self.words,
        }


@dataclass
class Section:
    """The rows of one measurement. ``peer`` is the peer's name, with its version."""

    title: str
    peer: str = ""
    rows: list[Row] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"title": self.title, "peer": self.peer, "rows": [row.data() for row in self.rows]}


def growth(what: str, sizes: Sequence[int], costs: Sequence[float]) -> str:
    """In words how ``costs`` grow with ``sizes`` (both ascending, of ``what``): from the first to
    the last, and judged by the last step, where what every run costs weighs least."""
    whole = (
        f"{sizes[-1] / sizes[0]:,.0f} times the {what}: {costs[-1] / costs[0]:,.1f} times as long"
    )
    more, longer = sizes[-1] / sizes[-2], costs[-1] / costs[-2]
    judged = "worse than linear" if longer > 1.2 * more else "no worse than linear"
    return f"{whole}; last step {more:.1f} times, {longer:.1f} times as long: {judged}"
