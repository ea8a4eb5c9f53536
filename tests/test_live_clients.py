"""The keeper's side of a connection, without a keeper: whatever comes in, nothing gets stuck."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from harness.live import messages
from harness.live.clients import Client
from harness.nodes.channel import pump, unwatch, watch


class Served:
    """A client, its far end, and what it has asked."""

    def __init__(self) -> None:
        self.far, near = socket.socketpair()
        self.asked: list[bytes] = []
        self.hung_up = 0
        self.client = Client(near, lambda _client, line: self.asked.append(line))
        self.client.gone = self.count

    def count(self) -> None:
        self.hung_up += 1

    def read(self) -> list[messages.Answer]:
        """What has been sent to the far end so far."""
        while pump(0):
            pass
        self.far.setblocking(False)
        data = b""
        while True:
            try:
                more = self.far.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                # Reset: what this side had sent was not all read.
                break
            if not more:
                break
            data += more
            pump(0)
        return [messages.parse_answer(line) for line in data.splitlines()]

    def feed(self, data: bytes) -> None:
        """Send from the far end, as far as anybody reads it."""
        self.far.setblocking(False)
        rest = memoryview(data)
        while rest and not self.client.closed:
            try:
                rest = rest[self.far.send(rest) :]
            except BlockingIOError:
                pump(0)
            except ConnectionError:
                return
        while pump(0):
            pass


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.client.gone = None
    made.client.close()
    made.far.close()


def test_a_request_in_pieces(served: Served) -> None:
    for piece in (b'{"ask"', b': "lo', b'ok"}', b"\n"):
        served.feed(piece)
    assert served.asked == [b'{"ask": "look"}']


def test_a_connection_carries_one_request(served: Served) -> None:
    served.feed(b"one\n")
    served.feed(b"two\n")
    assert served.asked == [b"one"]
    assert served.read() == [messages.Failed("a connection carries one request")]
    assert served.client.closed


def test_a_huge_line_is_refused_before_it_ends(served: Served) -> None:
    served.feed(b"x" * (messages.LONGEST_REQUEST + (1 << 18)))
    assert served.asked == []
    assert served.read() == [messages.Failed("a request is at most 1048576 bytes long")]
    assert served.client.closed


def test_hanging_up_is_told_once(served: Served) -> None:
    served.feed(b"ask\n")
    served.far.close()
    while pump(0):
        pass
    assert served.client.closed
    served.client.close()
    assert served.hung_up == 1


def test_the_last_line_of_an_answer_ends_the_connection(served: Served) -> None:
    served.client.send(messages.Output(1, b"said"))
    served.client.send(messages.done(0))
    served.client.send(messages.Output(1, b"too late"))
    assert served.read() == [messages.Output(1, b"said"), messages.done(0)]
    assert served.client.closed
    assert served.hung_up == 1


def test_a_reader_that_is_slow_gets_everything_in_the_end(served: Served) -> None:
    big = messages.Output(1, b"x" * 3_000_000)
    for _ in range(3):
        served.client.send(big)
    assert served.client.unsent > 3_000_000
    served.client.send(messages.done())
    assert not served.client.closed
    assert served.read() == [big, big, big, messages.done()]
    assert served.client.closed


def test_who_has_gone_is_sent_nothing(served: Served) -> None:
    served.far.close()
    served.client.send(messages.Output(1, b"said"))
    served.client.send(messages.Output(1, b"said"))
    assert served.client.closed
    assert served.hung_up == 1


def test_a_defect_in_what_is_asked_ends_one_connection(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_client: Client, _line: bytes) -> None:
        raise ZeroDivisionError

    served.client._asked = fail
    served.feed(b"x\n")
    assert served.client.closed
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_one_callback_ends_is_not_called_in_the_same_turn() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called = []

    def end(number: int) -> None:
        called.append(number)
        for near, _far in pairs:
            unwatch(near)

    for number, (near, far) in enumerate(pairs):
        watch(near, lambda _events, number=number: end(number))  # type: ignore[misc]
        far.send(b"x")
    assert pump(0)
    assert len(called) == 1
    assert not pump(0)
    for pair in pairs:
        for one in pair:
            one.close()


def test_watching_again_replaces_callback_and_events() -> None:
    near, far = socket.socketpair()
    got: list[tuple[str, int]] = []
    watch(near, lambda events: got.append(("first", events)))
    watch(
        near,
        lambda events: got.append(("second", events)),
        selectors.EVENT_READ | selectors.EVENT_WRITE,
    )
    far.send(b"x")
    assert pump(0)
    unwatch(near)
    assert got == [("second", selectors.EVENT_READ | selectors.EVENT_WRITE)]
    near.close()
    far.close()
