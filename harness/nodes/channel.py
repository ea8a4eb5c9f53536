"""One end of an agent's stream: requests out, answers and captured blocks in.

There is no thread. Whoever waits for an answer pumps every channel that has something to say, so
that many agents work at the same time and what they say is taken in the order they said it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections.abc import Callable
from struct import Struct
from typing import Any

from harness.nodes.base import NodeError, NodeLost

HEADER = Struct("!II")
GRACE = 10.0
"""Seconds that an agent may take beyond the time that the operation itself is allowed."""
ENDED = "the node has ended"
MOST_SHOWN = 60
"""Bytes at most of what makes no sense that an error shows."""

_selector = selectors.DefaultSelector()
_owner = os.getpid()


def pump(timeout: float | None) -> bool:
    """Take in what any agent has said; wait at most ``timeout`` seconds. False: nothing came."""
    ready = _selector.select(timeout)
    for key, events in ready:
        # What was called before it in this very turn may have ended this one.
        still = _selector.get_map().get(key.fd)
        if still is None or still.data != key.data:
            # Not an `if` around the last line: CPython 3.11 gives the jump after that no line, and
            # a Ctrl-C that lands on it, as here it often does, has pytest break down.
            continue
        key.data(events)
    return bool(ready)


def watch(
    stream: socket.socket, callback: Callable[[int], None], events: int = selectors.EVENT_READ
) -> None:
    """Have :func:`pump` call ``callback`` when ``stream`` is ready, with the events
    (``selectors.EVENT_READ``, ``EVENT_WRITE``) that it is ready for. Called again for the same
    stream, it replaces both.

    A callback may be called while an agent is waited for, even in the middle of a message to it:
    it must not ask an agent for anything itself.
    """
    if stream.fileno() in _selector.get_map():
        _selector.modify(stream, events, callback)
    else:
        _selector.register(stream, events, callback)


def unwatch(stream: socket.socket) -> None:
    """End what :func:`watch` began, before ``stream`` is closed."""
    _selector.unregister(stream)


class Answer:
    """The answer to one request, once it is there."""

    def __init__(self, channel: Channel, what: str, bound: float) -> None:
        self._channel = channel
        self.what = what
        self._bound = bound
        self._asked = time.monotonic()
        self._done = False
        self._value: Any = None
        self._blob = b""
        self._error: NodeError | None = None
        self.number = 0
        """The request's, on its channel."""
        self.output: Callable[[int, bytes], None] | None = None
        """Called with what a followed command wrote, and on which descriptor: 1 or 2."""
        self._settled: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return self._done

    @property
    def waited(self) -> float:
        """Seconds since the request."""
        return time.monotonic() - self._asked

    def result(self, timeout: float | None = None) -> Any:
        """The answer's value; raise :class:`NodeError` for an error, :class:`NodeLost` when the
        node ended or did not answer within its bound (seconds)."""
        self.wait(timeout)
        return self._value

    def blob(self) -> bytes:
        """The bytes that came with the answer."""
        self.wait(None)
        return self._blob

    def wait(self, timeout: float | None) -> None:
        deadline = self._asked + (self._bound if timeout is None else timeout)
        while not self._done:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NodeLost(self._channel.silent(self))
            pump(left)
        if self._error is not None:
            raise self._error

    def settle(self, value: Any, blob: bytes, error: NodeError | None) -> None:
        self._value, self._blob, self._error = value, blob, error
        self._done = True
        if self._settled is not None:
            self._settled()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once the answer is there; at once, if it is. As with :func:`watch`, the
        callback must not ask an agent for anything."""
        if self._done:
            callback()
        else:
            self._settled = callback


class Channel:
    """A stream to one agent, named in messages after its node."""

    def __init__(self, name: str, stream: socket.socket) -> None:
        self.name = name
        self.stream = stream
        stream.settimeout(GRACE)
        self.events: dict[int, Callable[[bytes], None]] = {}
        self.ended: Callable[[], None] | None = None
        self.lost: str | None = None
        self.last_words: Callable[[], str] = str
        """What is added, for a node that has ended or is silent: what it said elsewhere."""
        self._waiting: dict[int, Answer] = {}
        self._number = 0
        self._inbox = bytearray()
        _selector.register(stream, selectors.EVENT_READ, self.receive)

    def ask(
        self,
        op: str,
        arguments: dict[str, Any],
        blob: bytes = b"",
        *,
        what: str,
        bound: float = 0.0,
    ) -> Answer:
        """Send a request; ``what`` says in words what it is, for when no answer comes."""
        answer = Answer(self, what, bound + GRACE)
        if self.lost is not None:
            said = f"{self.name}: {self.lost}; asked to {what}{self.last_words()}"
            answer.settle(None, b"", NodeLost(said))
            return answer
        self._number += 1
        answer.number = self._number
        self._waiting[self._number] = answer
        head = json.dumps({"id": self._number, "op": op, **arguments}).encode()
        try:
            self._send(HEADER.pack(len(head) + len(blob), len(head)) + head, blob)
        except OSError as error:
            self._broke(error)
        return answer

    def _send(self, head: bytes, blob: bytes) -> None:
        # An agent that is busy sending to us must be heard, or both wait for each other.
        for part in (head, blob):
            rest = memoryview(part)
            while rest:
                try:
                    rest = rest[self.stream.send(rest, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    if not pump(0.01) and self.oldest_wait() > 10 * GRACE:
                        raise

    def oldest_wait(self) -> float:
        """Seconds that the longest unanswered request has waited."""
        return max((answer.waited for answer in self._waiting.values()), default=0.0)

    def receive(self, _events: int = selectors.EVENT_READ) -> None:
        """Take in what the agent said. Never raises: a broken channel fails what waits for it."""
        try:
            data = self.stream.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._broke(error)
            return
        if not data:
            self._fail(ENDED)
            return
        inbox = self._inbox
        inbox += data
        position = 0
        while len(inbox) - position >= HEADER.size:
            length, split = HEADER.unpack_from(inbox, position)
            start = position + HEADER.size
            if len(inbox) > start and inbox[start] != ord("{"):
                said = bytes(inbox[position : position + MOST_SHOWN])
                self._fail(f"what came from it is no agent's: {said!r}")
                return
            if len(inbox) < start + length:
                break
            message = json.loads(inbox[start : start + split])
            blob = bytes(inbox[start + split : start + length])
            position = start + length
            self._take(message, blob)
        del inbox[:position]

    def _take(self, message: dict[str, Any], blob: bytes) -> None:
        if message.get("event") == "output":
            followed = self._waiting.get(message["run"])
            if followed is not None and followed.output is not None:
                followed.output(message["descriptor"], blob)
            return
        if "event" in message:
            position = 0
            for capture, length in message["blocks"]:
                handler = self.events.get(capture)
                if handler is not None:
                    handler(blob[position : position + length])
                position += length
            return
        answer = self._waiting.pop(message["id"], None)
        if answer is None:
            self._fail("its agent answered what nobody had asked")
            return
        error = None
        if "error" in message:
            error = NodeError(f"{self.name}: cannot {answer.what}: {message['error']}")
            error.errno = message.get("errno", 0)
        answer.settle(message.get("ok"), blob, error)

    def silent(self, answer: Answer) -> str:
        """Words for an answer that did not come within its bound."""
        under_way = "; ".join(
            f"{other.what} (for {other.waited:.1f} s)" for other in self._waiting.values()
        )
        said = f"{self.name}: no answer after {answer.waited:.1f} s; under way: {under_way}"
        return said + self.last_words()

    def _broke(self, error: OSError) -> None:
        # A node that ends before it has read everything resets its channel.
        ended = isinstance(error, ConnectionError)
        self._fail(ENDED if ended else f"its channel broke ({error})")

    def _fail(self, reason: str) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        self._forget()
        waiting, self._waiting = self._waiting, {}
        words = self.last_words() if waiting else ""
        for answer in waiting.values():
            said = f"{self.name}: {reason}, asked to {answer.what}{words}"
            answer.settle(None, b"", NodeLost(said))
        if self.ended is not None:
            self.ended()

    def _forget(self) -> None:
        if os.getpid() == _owner:
            _selector.unregister(self.stream)
        self.stream.close()

    def close(self) -> None:
        """Hang up: the agent at the other end, and so its node, ends. Idempotent."""
        if self.lost is None:
            self.ended = None
            self._fail("closed")
