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

    def __init__(self, counters: bytes = b"", waiting: int = 0, **more: int) -> None:
        self._counters = counters
        self._found = {"sockets": [(1, 1, waiting, 0)], "backlog": 0, **more}

    def result(self) -> dict[str, Any]:
        return self._found

    def blob(self) -> bytes:
        return self._counters


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


def drain_of(*nodes: Quiet) -> Drain:
    named: Any = {f"s{number}": node for number, node in enumerate(nodes, 1)}
    return Drain(named, {})


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


def looks_until(drain: Drain, *nodes: Quiet) -> list[int]:
    drain.pass_on(time.monotonic() + 60)
    return [len(node.asked) for node in nodes]


def test_one_switch_has_passed_on_what_does_not_wait_any_more() -> None:
    node = Quiet(iter([Answered(waiting=9), Answered(b"1"), Answered(b"2")]))
    assert looks_until(drain_of(node), node) == [2]


def test_frames_that_pass_between_looks_at_two_switches_are_waited_for() -> None:
    """The second is looked at before the first has passed on to it, and the first after that."""
    first = Quiet(iter([Answered(), Answered(), Answered(), Answered()]))
    second = Quiet(Answered(*seen) for seen in ((b"0",), (b"2", 9), (b"2",), (b"2",)))
    assert looks_until(drain_of(first, second), first, second) == [3, 3]


def test_passing_on_ends_at_its_deadline() -> None:
    waiting = Quiet(iter(lambda: Answered(waiting=9), None))
    began = time.monotonic()
    drain_of(waiting).pass_on(began + 0.05)
    assert time.monotonic() >= began + 0.05
