"""The stream to the harness: messages come in, and go out as far as there is room."""

from __future__ import annotations

import json
import struct
from typing import Callable, List, Protocol

from .loop import File, Loop
from .requests import Fields, Request

HEADER = struct.Struct("!II")
MESSAGE_LIMIT = 1 << 30


class ByteStream(Protocol):
    """What a channel needs of a socket. Nothing in it waits."""

    def setblocking(self, flag: bool, /) -> None: ...

    def fileno(self) -> int: ...

    def recv(self, size: int, /) -> bytes: ...

    def sendmsg(self, buffers: List[memoryview], /) -> int: ...


class Channel:
    """Hands on each request that comes. Raises EOFError out of the loop when the stream ends, or
    when what comes makes no sense."""

    def __init__(
        self,
        stream: ByteStream,
        loop: Loop,
        take: Callable[[Request], None],
        sink: File | None = None,
    ) -> None:
        self._stream, self._loop, self._take = stream, loop, take
        self._sink: File = stream if sink is None else sink
        """What has room to write to, or not."""
        self._inbox = bytearray()
        self._outbox: list[memoryview] = []
        self.unsent = 0
        """Bytes for which the stream had no room so far."""
        stream.setblocking(False)
        loop.watch(stream, self._ready)

    def post(self, message: Fields, blob: bytes = b"") -> None:
        """Have a message sent at the end of this turn of the loop, or when there is room."""
        head = json.dumps(message).encode()
        self._outbox.append(memoryview(HEADER.pack(len(head) + len(blob), len(head)) + head))
        if blob:
            self._outbox.append(memoryview(blob))
        self.unsent += HEADER.size + len(head) + len(blob)

    def flush(self) -> None:
        """Send what there is room for."""
        if not self._outbox:
            return
        try:
            while self._outbox:
                sent = self._stream.sendmsg(self._outbox[:64])
                self.unsent -= sent
                while sent:
                    if sent >= len(self._outbox[0]):
                        sent -= len(self._outbox.pop(0))
                    else:
                        self._outbox[0] = self._outbox[0][sent:]
                        sent = 0
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise EOFError from error
        self._loop.watch_room(self._sink, bool(self._outbox))

    def _ready(self, _: object) -> None:
        try:
            data = self._stream.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self._inbox += data
        while len(self._inbox) >= 8:
            length, split = HEADER.unpack_from(self._inbox)
            if length > MESSAGE_LIMIT or split > length:
                raise EOFError
            if len(self._inbox) < 8 + length:
                break
            fields = json.loads(bytes(self._inbox[8 : 8 + split]))
            blob = bytes(self._inbox[8 + split : 8 + length])
            del self._inbox[: 8 + length]
            self._take(Request(fields, blob, self.post))
