"""The keeper's side of a connection: lines in, lines out, and nobody is waited for."""

from __future__ import annotations

import selectors
import socket
import sys
import traceback
from collections.abc import Callable

from harness.live.messages import LONGEST_REQUEST, Answer, Done, Failed, line
from harness.nodes.channel import unwatch, watch


class Client:
    """One connection. ``asked`` is called with its request's line, once."""

    def __init__(self, stream: socket.socket, asked: Callable[[Client, bytes], None]) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._asked = asked
        self._inbox: bytearray | None = bytearray()
        self._outbox = bytearray()
        self._ending = False
        self.closed = False
        self.gone: Callable[[], None] | None = None
        """Called when the connection ends, by whoever."""
        watch(stream, self._ready)

    @property
    def unsent(self) -> int:
        """Bytes that the client has not read yet, beside what the kernel holds."""
        return len(self._outbox)

    def send(self, message: Answer) -> None:
        """Send a line of the answer; the last one ends the connection."""
        if self.closed or self._ending:
            return
        if isinstance(message, Done | Failed):
            self._ending = True
        self._outbox += line(message)
        self._flush()

    def _ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ and not self.closed:
                self._receive()
        except Exception:  # noqa: BLE001 - whatever a client does, the lab stays up
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            self.close()

    def _receive(self) -> None:
        try:
            data = self._stream.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.close()
        elif self._inbox is None:
            self.send(Failed("a connection carries one request"))
        else:
            self._inbox += data
            if b"\n" in data:
                request, self._inbox = bytes(self._inbox.partition(b"\n")[0]), None
                self._asked(self, request)
            elif len(self._inbox) > LONGEST_REQUEST:
                self._inbox = None
                self.send(Failed(f"a request is at most {LONGEST_REQUEST} bytes long"))

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: self._stream.send(self._outbox)]
        except BlockingIOError:
            watch(self._stream, self._ready, selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        except ConnectionError:
            self.close()
            return
        if self._ending:
            self.close()
        else:
            watch(self._stream, self._ready)

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._outbox.clear()
        unwatch(self._stream)
        self._stream.close()
        if self.gone is not None:
            self.gone()
