"""What the drain waits for, where no switch has to take part."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.lab.drain import SPELL_PER_LATENCY, Drain
from harness.nodes.channel import unwatch, watch


class Answered:
    """What a node finds when it is asked for its queues."""

    def __init__(self, **more: int) -> None:
        self._found = {"sockets": [], "backlog": 0, **more}

    def result(self) -> dict[str, Any]:
        return self._found

    def blob(self) -> bytes:
        return b""


class Quiet:
    """A node in which nothing happens; ``answers`` are what it says each time it is asked."""

    patience = 1.0

    def __init__(self, answers: Iterator[Answered]) -> None:
        self._answers = answers
        self.asked: list[int | None] = []
        """How often its processor had been idle, for every time that it was to be so again."""

    def queues(self, _threads: object, idle: int | None) -> Answered:
        self.asked.append(idle)
        return next(self._answers)


@pytest.fixture
def somebody_speaks() -> Iterator[None]:
    """There is always something to be taken in."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        watch(ours, lambda _events: None)
        yield
        unwatch(ours)


def drain_of(node: Quiet) -> Drain:
    nodes: Any = {"s1": node}
    return Drain(nodes, {})


@pytest.mark.usefixtures("somebody_speaks")
def test_the_quiet_spell_lasts_however_much_is_said_meanwhile() -> None:
    drain = drain_of(Quiet(Answered() for _ in range(2)))
    drain.learn_latency(0.05)
    began = time.monotonic()
    assert drain.finish() == ""
    assert time.monotonic() - began >= SPELL_PER_LATENCY * 0.05


def test_a_processor_of_its_own_has_to_have_been_idle() -> None:
    node = Quiet(Answered(idle=count) for count in (4, 4, 4, 5))
    drain = drain_of(node)
    # It would be waited for if there was a spell.
    drain.learn_latency(1e9)
    assert drain.finish() == ""
    assert node.asked == [None, 4, 4, 4]


def test_one_that_is_never_idle_is_named() -> None:
    drain = drain_of(Quiet(iter(lambda: Answered(idle=4), None)))
    assert drain.finish(0.01) == "the processor of s1 is never idle"
