"""Carries a container's streams: between an engine's connection and a socket of the harness."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress

from harness.agent.loop import Loop

FRAME = struct.Struct(">BxxxI")
"""Before each piece of what a container writes: which stream it is, and how long (Docker Engine
API, "Attach to a container", stream format)."""
STDERR = 2
AT_ONCE = 1 << 18
TURN = 64
"""Pieces that are carried in one direction before others have their turn."""
STDERR_KEPT = 4000


class Demultiplexer:
    """Takes apart what an engine sends of a container's output."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._left = 0
        """Of the present piece, in bytes."""
        self._stream = 0
        self.stderr = bytearray()
        """The end of what was written to standard error."""

    def take(self, data: bytes) -> bytes:
        """Take in more, and return what of it was written to standard output."""
        self._inbox += data
        out = bytearray()
        while self._inbox:
            if not self._left:
                if len(self._inbox) < FRAME.size:
                    break
                self._stream, self._left = FRAME.unpack_from(self._inbox)
                del self._inbox[: FRAME.size]
            piece = self._inbox[: self._left]
            del self._inbox[: len(piece)]
            self._left -= len(piece)
            if self._stream == STDERR:
                self.stderr += piece
                del self.stderr[:-STDERR_KEPT]
            else:
                out += piece
        return bytes(out)


class _Flow:
    """One direction: nothing more is read before what was read has been sent."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        through: Callable[[bytes], bytes],
    ) -> None:
        self.source, self.sink, self._through = source, sink, through
        self.rest = memoryview(b"")

    def run(self) -> bool:
        """Carry on until there is nothing more or no room; True: there may be more. Raise EOFError
        when either side has ended."""
        for _ in range(TURN):
            if not self._push():
                return False
            try:
                data = self.source.recv(AT_ONCE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError as error:
                raise EOFError from error
            if not data:
                raise EOFError
            self.rest = memoryview(self._through(data))
        return True

    def _push(self) -> bool:
        while self.rest:
            try:
                self.rest = self.rest[self.sink.send(self.rest) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError as error:
                raise EOFError from error
        return True


class Pump:
    """Carries both directions until either side ends; then calls ``ended``, once."""

    def __init__(
        self,
        loop: Loop,
        engine: socket.socket,
        harness: socket.socket,
        ended: Callable[[Pump], None],
    ) -> None:
        self.engine, self.harness = engine, harness
        self.output = Demultiplexer()
        self._loop, self._ended = loop, ended
        self._flows = (
            _Flow(engine, harness, self.output.take),
            _Flow(harness, engine, bytes),
        )
        for end in (engine, harness):
            end.setblocking(False)
        self._running = True
        self._run()

    def _run(self, _: object = None) -> None:
        if not self._running:
            return
        try:
            more = [flow.run() for flow in self._flows]
        except EOFError:
            self.close()
            return
        if any(more):
            # What a TLS connection has decrypted already nobody would tell of.
            self._loop.after(0, self._run)
        for flow, back in (self._flows, self._flows[::-1]):
            self._loop.want(flow.source, self._run, read=not flow.rest, room=bool(back.rest))

    def close(self) -> None:
        """End it. Idempotent."""
        if not self._running:
            return
        self._running = False
        for end in (self.engine, self.harness):
            self._loop.want(end, self._run, read=False, room=False)
        with suppress(OSError):
            # An engine takes the end of the connection for the end of the container's input.
            self.engine.shutdown(socket.SHUT_RDWR)
        self._ended(self)
