"""A unix socket that speaks JSON-RPC 1.0."""

from __future__ import annotations

import errno
import json
import socket
from collections import deque
from typing import Any, Callable, Iterator, List, Optional

from .json_objects import JsonObjects
from .requests import Fields

UNSENT_LIMIT = 64 << 20
"""Bytes that wait for a server that does not read, before it is asked no more."""
CONNECT_AGAIN, CONNECT_SELDOM = 0.001, 0.05
"""Seconds after the first and between the later attempts to connect to a busy server."""
AnswerTaker = Callable[[Optional[Fields], Optional[Exception]], None]
"""Gets the answer to a request, or the reason why there is none."""


class JsonRpc:
    """A unix socket that speaks JSON-RPC 1.0: requests go out, answers are matched by their id.

    Nothing here waits. What can't be sent yet is kept, and goes when :meth:`push` is called.
    """

    def __init__(self, path: str, line: int) -> None:
        self.path = path
        self.key = (path, line)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.connected = False
        self.patience = CONNECT_AGAIN / 2
        """Seconds until connecting should be tried again."""
        self.objects = JsonObjects()
        self.waiting: dict[int, AnswerTaker] = {}
        self.number = 0
        self.outbox: deque[tuple[int, memoryview]] = deque()
        """What is still to be sent, with the number of the question (0: it is an answer)."""
        self.unsent = 0

    def connect(self) -> bool:
        """Connect, or say that this has to be tried again after :attr:`patience`."""
        try:
            self.socket.connect(self.path)
        except BlockingIOError:
            # Too many wait to be accepted. The kernel does not tell when there is room (connect(2),
            # EAGAIN): it has to be tried.
            self.patience = min(2 * self.patience, CONNECT_SELDOM)
            return False
        self.connected = True
        return True

    @property
    def ended(self) -> bool:
        """Whether the other side has hung up."""
        if not self.connected:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def ask(self, method: str, params: List[Any], taker: AnswerTaker) -> int:
        """Have a request sent; ``taker`` is handed back with its answer."""
        asked = self.number + 1
        self._put(asked, {"id": asked, "method": method, "params": params})
        self.number = asked
        self.waiting[asked] = taker
        return asked

    def _put(self, asked: int, message: Fields) -> None:
        if self.unsent > UNSENT_LIMIT:
            raise OSError(errno.ENOBUFS, "it does not read what it is asked")
        data = memoryview(json.dumps(message).encode())
        self.outbox.append((asked, data))
        self.unsent += len(data)

    def push(self) -> None:
        """Send what the other side has room for."""
        while self.outbox and self.connected:
            asked, data = self.outbox.popleft()
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                self.outbox.appendleft((asked, data))
                return
            self.unsent -= sent
            if sent < len(data):
                self.outbox.appendleft((asked, data[sent:]))

    def forget(self, asked: int) -> tuple[Optional[AnswerTaker], str]:
        """Give a question up: to whom its answer would have gone, if it is still due, and what is
        known of why there is none. What has not begun to go out never will."""
        taker = self.waiting.pop(asked, None)
        for place, (question, data) in enumerate(self.outbox):
            if question == asked:
                if len(data) == len(data.obj):  # type: ignore[arg-type]
                    del self.outbox[place]
                    self.unsent -= len(data)
                reads = "it does not read what it is asked"
                return taker, reads if self.connected else "it accepts no connection"
        return taker, ""

    def receive(self) -> Iterator[tuple[AnswerTaker, Fields]]:
        """The answers that are complete. Raise ConnectionError at the end of the stream, and when
        what comes is not JSON-RPC."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the socket was closed by the other side")
        for message in self.objects.feed(data):
            if message.get("method") == "echo":
                # ovsdb-server asks whether we are there, and hangs up on who does not answer.
                answer = {"id": message.get("id"), "result": message.get("params"), "error": None}
                self._put(0, answer)
            elif isinstance(message.get("id"), int) and message["id"] in self.waiting:
                yield self.waiting.pop(message["id"]), message
