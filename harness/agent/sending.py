"""Sending: frames go out of ports, as fast as these take them or at a steady rate."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
import zlib
from functools import partial
from typing import List, Optional

from .loop import Loop
from .packets import attach
from .requests import Fields, Operations, Request
from .sendmmsg import Sender
from .spaces import Spaces

SEND_AGAIN = 0.001
"""Seconds after which what had to wait is tried again."""
IDENTITY = struct.Struct("!IIH")


class Patience:
    """With a device that takes no frames (ENOBUFS). One whose queue is full will soon; so will one
    end of a veth pair when the other end is down: once the kernel has noticed that there is no
    carrier, it takes them, to drop them. One that leads to a smaller MTU never will."""

    SECONDS = 5.0

    def __init__(self) -> None:
        self.since: float | None = None

    def bears(self, refused: OSError) -> bool:
        """Whether to try again later."""
        now = time.monotonic()
        if self.since is None:
            self.since = now
        return refused.errno == errno.ENOBUFS and now - self.since < self.SECONDS


class Burst:
    """Frames that are to go out of a port as fast as it takes them."""

    def __init__(self, port: socket.socket, frames: bytearray, lengths: list[int]) -> None:
        self.port = port
        self.frames = memoryview(frames)
        self.lengths = lengths
        self.patience = Patience()
        self.sent = 0
        self.began = 0
        self.error: str | None = None

    def push(self, sender: Sender) -> bool:
        """Send what is left. Return whether nothing is left that may go out later."""
        try:
            while self.error is None and self.sent < len(self.lengths):
                if not self.sent:
                    self.began = time.time_ns()
                left = self.frames[sum(self.lengths[: self.sent]) :]
                self.sent += sender.send(self.port, left, self.lengths[self.sent :])
        except OSError as refused:
            if self.patience.bears(refused):
                return False
            self.error = refused.strerror
        return True


class Stream:
    """Frames made from one template, each with its own sequence number, sent at a steady rate."""

    def __init__(self, port: socket.socket, frame: bytes, spec: Fields) -> None:
        self.port = port
        self.length = len(frame)
        self.offset = spec["sequence_offset"]
        self.seed = spec["digest_seed"]
        self.sum = spec["fixed_sum"]
        self.rate: Optional[float] = spec.get("rate")
        self.count = spec.get("count")
        self.sent = spec.get("first", 0)
        self.first = self.sent
        self.buffer = bytearray(frame * Sender.AT_ONCE)
        self.lengths = [self.length] * Sender.AT_ONCE
        self.started = time.monotonic()
        self.marks: list[int] = []
        self.patience = Patience()
        self.error: str | None = None

    def due(self, now: float) -> int:
        """How many frames should go out now."""
        wanted = Sender.AT_ONCE
        if self.rate is not None:
            wanted = int((now - self.started) * self.rate) + 1 - (self.sent - self.first)
        if self.count is not None:
            wanted = min(wanted, self.count - (self.sent - self.first))
        return max(0, min(wanted, Sender.AT_ONCE))

    def next_time(self) -> float:
        """When the next frame is due, on the monotonic clock."""
        if self.rate is None:
            return 0.0
        due: float = self.started + (self.sent - self.first) / self.rate
        return due

    @property
    def finished(self) -> bool:
        return self.error is not None or (
            self.count is not None and self.sent - self.first >= self.count
        )

    def fill(self, count: int) -> None:
        """Patch sequence numbers, digests and the sum-keeping word into the next frames."""
        put, crc, buffer, seed = IDENTITY.pack_into, zlib.crc32, self.buffer, self.seed
        position, fixed = self.offset, self.sum
        for sequence in range(self.sent, self.sent + count):
            digest = crc(sequence.to_bytes(4, "big"), seed)
            put(buffer, position, sequence, digest, -(fixed + sequence + digest) % 0xFFFF)
            position += self.length

    def push(self, sender: Sender, count: int) -> None:
        """Send ``count`` frames, noting when."""
        self.fill(count)
        now = time.time_ns()
        try:
            done = sender.send(self.port, self.buffer, self.lengths[:count])
        except OSError as refused:
            if not self.patience.bears(refused):
                self.error = f"after {self.sent - self.first} frames: {refused.strerror}"
            return
        self.patience = Patience()
        self.marks += (self.sent, now)
        self.sent += done


class Sending:
    """Opens ports and sends through them."""

    def __init__(self, loop: Loop, spaces: Spaces) -> None:
        self._loop, self._spaces = loop, spaces
        self._sender = Sender()
        self._ports: dict[int, socket.socket] = {}
        self._streams: dict[int, Stream] = {}
        self._number = 0
        self.operations: Operations = {
            "port": self.open,
            "send": self.send,
            "stream_start": self.start_stream,
            "stream_stop": self.stop_stream,
        }

    def inodes(self) -> set[int]:
        """Of the sockets."""
        return {os.fstat(port.fileno()).st_ino for port in self._ports.values()}

    def next_times(self) -> List[float]:
        """When a frame of each stream that goes on is due, on the monotonic clock."""
        return [one.next_time() for one in self._streams.values() if not one.finished]

    def push_due(self, now: float) -> None:
        """Send what is due by now."""
        for stream in self._streams.values():
            if not stream.finished:
                count = stream.due(now)
                if count:
                    stream.push(self._sender, count)

    def open(self, request: Request) -> None:
        """Open sockets to send through: list of [namespace or null, interface]."""
        ports = []
        try:
            for space, interface in request["at"]:
                with self._spaces.inside(space):
                    ports.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                attach(ports[-1], interface, 0)
        except OSError:
            for port in ports:
                port.close()
            raise
        opened = []
        for port in ports:
            self._number += 1
            self._ports[self._number] = port
            opened.append(self._number)
        request.reply(opened)

    def send(self, request: Request) -> None:
        """Send ``batch``: [port, [length, …]] each, frames back to back in the blob."""
        position = 0
        bursts = []
        for port, lengths in request["batch"]:
            frames = bytearray(request.blob[position : position + sum(lengths)])
            position += len(frames)
            bursts.append(Burst(self._ports[port], frames, lengths))
        self._push_bursts(request, bursts)

    def _push_bursts(self, request: Request, bursts: List[Burst]) -> None:
        waiting = [burst for burst in bursts if not burst.push(self._sender)]
        if waiting:
            again = partial(self._push_bursts, request, bursts)
            self._loop.after(SEND_AGAIN, partial(request.attempt, again))
            return
        request.reply([[one.sent, one.began, one.error] for one in bursts])

    def start_stream(self, request: Request) -> None:
        """Send frames made from the blob; see :class:`Stream`."""
        port = self._ports[request["port"]]
        self._number += 1
        self._streams[self._number] = Stream(port, request.blob, request.fields)
        request.reply(self._number)

    def stop_stream(self, request: Request) -> None:
        """End a stream (wait for it to finish first, with ``wait``) and say what it sent, when."""
        stream = self._streams[request["stream"]]
        if request.get("wait") and not stream.finished:
            again = partial(self.stop_stream, request)
            self._loop.after(SEND_AGAIN, partial(request.attempt, again))
            return
        del self._streams[request["stream"]]
        marks = struct.pack(f"<{len(stream.marks)}Q", *stream.marks)
        request.reply({"sent": stream.sent - stream.first, "error": stream.error}, marks)
