"""A container's streams between an engine and the harness."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.loop import Loop
from harness.nodes.containers.pumps import FRAME, STDERR_KEPT, Demultiplexer, Pump

Pieces = list[tuple[int, bytes]]
PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=10)


def framed(pieces: Pieces) -> bytes:
    return b"".join(FRAME.pack(stream, len(data)) + data for stream, data in pieces)


@given(PIECES, st.integers(1, 30))
def test_streams_are_taken_apart_however_they_come(pieces: Pieces, size: int) -> None:
    taken, data = Demultiplexer(), framed(pieces)
    out = b"".join(taken.take(data[at : at + size]) for at in range(0, len(data), size))
    assert out == b"".join(said for stream, said in pieces if stream == 1)
    assert taken.stderr == b"".join(said for stream, said in pieces if stream == 2)


def test_of_standard_error_the_end_is_kept() -> None:
    taken = Demultiplexer()
    taken.take(framed([(2, b"begin" + bytes(STDERR_KEPT)), (2, b"end")]))
    assert len(taken.stderr) == STDERR_KEPT
    assert taken.stderr.endswith(b"end")


class Running:
    """A pump between two sockets, run by a loop in a thread."""

    def __init__(self) -> None:
        self.engine, engine = socket.socketpair()
        self.harness, harness = socket.socketpair()
        for end in (self.engine, self.harness):
            end.settimeout(30)
        self.loop = Loop()
        self.ended = threading.Event()
        self.pump = Pump(self.loop, engine, harness, lambda _: self.ended.set())
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        while not self.ended.is_set():
            self.loop.wait(0.05)
            self.loop.call_due(time.monotonic())

    def close(self) -> None:
        self.ended.set()
        self._thread.join()
        for end in (self.engine, self.harness, self.pump.engine, self.pump.harness):
            end.close()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.close()


def exactly(end: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = end.recv(count - len(data))
        assert more, f"it ended after {len(data)} bytes"
        data += more
    return bytes(data)


def test_both_directions(running: Running) -> None:
    running.harness.sendall(b"a question")
    assert exactly(running.engine, 10) == b"a question"
    running.engine.sendall(framed([(1, b"an answer")]))
    assert exactly(running.harness, 9) == b"an answer"


def test_who_does_not_read_is_waited_for_and_misses_nothing(running: Running) -> None:
    """Megabytes each way, one after the other, with nobody reading at first."""
    much = bytes(range(256)) * (1 << 14)
    talking = [
        threading.Thread(target=running.engine.sendall, args=[framed([(1, much)])]),
        threading.Thread(target=running.harness.sendall, args=[much]),
    ]
    for thread in talking:
        thread.start()
    # The other direction is not held up by one in which nobody reads.
    assert exactly(running.engine, len(much)) == much
    assert exactly(running.harness, len(much)) == much
    for thread in talking:
        thread.join()


def test_what_was_said_before_the_end_arrives(running: Running) -> None:
    running.engine.sendall(framed([(1, b"last words"), (2, b"and why")]))
    running.engine.close()
    assert exactly(running.harness, 10) == b"last words"
    assert running.ended.wait(30)
    assert running.pump.output.stderr == b"and why"


def test_the_harness_hangs_up(running: Running) -> None:
    running.harness.close()
    assert running.ended.wait(30)
    assert running.engine.recv(1) == b""
