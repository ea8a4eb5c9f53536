"""How a node's clock stands to ours."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.nodes import clock

Question = tuple[int, int, int]
"""When it was asked, what the clock there said, when the answer came."""


class Told:
    """A channel to a node that tells these times."""

    def __init__(self, times: list[int]) -> None:
        self._times = iter(times)

    def ask(self, op: str, arguments: dict[str, int], *, what: str) -> Told:
        assert (op, arguments) == ("clock", {"step": 0})
        assert what
        return self

    def result(self) -> int:
        return next(self._times)


@pytest.mark.parametrize(
    ("questions", "ahead"),
    [
        ([(100, 105, 110)] * 5, 0),
        ([(100, 1105, 110)] * 5, 1000),
        ([(1000, 105, 1010)] * 5, -900),
        # The fastest counts.
        ([(100, 900, 300), (400, 1405, 410), *[(500, 9999, 600)] * 3], 1000),
    ],
)
def test_the_fastest_question_tells(
    questions: list[Question], ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: Iterator[int] = iter([when for one in questions for when in (one[0], one[2])])
    monkeypatch.setattr(time, "time_ns", lambda: next(ours))
    told = Told([one[1] for one in questions])
    assert clock.ahead(told) == ahead  # type: ignore[arg-type]
