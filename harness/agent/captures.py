"""Captures: frames are read from rings that the kernel writes to, and handed over by the block."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from functools import partial
from typing import Any, List, Optional, Tuple

from .channel import Channel
from .libc import CLONE_NEWNET, check, libc
from .loop import Loop
from .packets import attach
from .requests import Job, Operations, Request
from .side_by_side import SideBySide
from .spaces import Spaces

UNSENT_LIMIT = 256 << 20
"""Bytes that wait for the harness to read, before it is handed no more frames."""
SYNC_AGAIN = 0.0005
"""Seconds between looks whether a capture has handed over all that it is to."""
SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 263, 5, 6, 10
PACKET_IGNORE_OUTGOING = 23
TPACKET_V3 = 2
ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
# Classic BPF: accept only what this machine sends out of the interface.
#   ld [pkttype]; jeq #PACKET_OUTGOING, accept, drop; ret #-1; ret #0   (linux/filter.h)
ONLY_OUTGOING = struct.pack(
    "=HBBIHBBIHBBIHBBI",
    *(0x28, 0, 0, 0xFFFFF000 + 4),
    *(0x15, 0, 1, 4),
    *(0x06, 0, 0, 0xFFFFFFFF),
    *(0x06, 0, 0, 0),
)


class Capture:
    """A TPACKET_V3 ring on one interface. Blocks that the kernel retires are copied out whole."""

    def __init__(
        self, interface: str, direction: str, blocks: int, block_size: int, retire: int
    ) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.packets = self.drops = self.read = 0
        self.next = 0
        self.blocks, self.block_size = blocks, block_size
        self.ring: Optional[mmap.mmap] = None
        try:
            self._open(interface, direction, retire)
        except Exception:
            self.close()
            raise

    def _open(self, interface: str, direction: str, retire: int) -> None:
        blocks, block_size = self.blocks, self.block_size
        self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        if direction == "in":
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        elif direction == "out":
            program = ctypes.create_string_buffer(ONLY_OUTGOING)
            self.socket.setsockopt(
                socket.SOL_SOCKET,
                SO_ATTACH_FILTER,
                struct.pack("HxxxxxxP", 4, ctypes.addressof(program)),
            )
        frame_size = 2048
        ring = struct.pack(
            "IIIIIII",
            *(block_size, blocks, frame_size, block_size * blocks // frame_size),
            *(retire, 0, 0),
        )
        # Through ctypes, which lets other threads run: the kernel waits for a grace period here,
        # and many captures that are opened side by side wait for the same one.
        result = libc.setsockopt(self.socket.fileno(), SOL_PACKET, PACKET_RX_RING, ring, len(ring))
        check(result, f"capture at {interface}")
        self.ring = mmap.mmap(self.socket.fileno(), block_size * blocks)
        # The protocol is given last: nothing is captured before the ring and filter are in place.
        attach(self.socket, interface, ETH_P_ALL)

    def take(self) -> list[bytes]:
        """The retired blocks, oldest first, given back to the kernel."""
        assert self.ring is not None
        taken = []
        for _ in range(self.blocks):
            start = self.next * self.block_size
            status, packets, _first, length = struct.unpack_from("=IIII", self.ring, start + 8)
            if not status & 1:
                break
            taken.append(self.ring[start : start + length])
            self.read += packets
            struct.pack_into("=I", self.ring, start + 8, 0)
            self.next = (self.next + 1) % self.blocks
        return taken

    def count(self) -> None:
        """Add up the kernel's counters, which it clears when they are read."""
        data = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)
        packets, drops, _freezes = struct.unpack("III", data)
        self.packets += packets
        self.drops += drops

    @property
    def complete(self) -> bool:
        """Whether every frame that the kernel has counted has been read or was dropped."""
        return self.read >= self.packets - self.drops

    def close(self) -> None:
        if self.ring is not None:
            self.ring.close()
        self.socket.close()


class Captures:
    """Opens captures, hands over what they take, and closes them."""

    def __init__(
        self, loop: Loop, channel: Channel, side_by_side: SideBySide, spaces: Spaces
    ) -> None:
        self._loop, self._channel = loop, channel
        self._side_by_side, self._spaces = side_by_side, spaces
        self._captures: dict[int, Capture] = {}
        self._number = 0
        self._harvest: list[tuple[int, bytes]] = []
        self._syncing: list[tuple[Request, list[int]]] = []
        self.operations: Operations = {
            "capture": self.open,
            "capture_sync": self.sync,
            "capture_close": self.close,
        }

    def inodes(self) -> set[int]:
        """Of the sockets."""
        return {os.fstat(item.socket.fileno()).st_ino for item in self._captures.values()}

    def open(self, request: Request) -> None:
        """Open captures: list of [namespace or null, interface, direction]. The kernel hands over
        a block of a ring when it is full, or ``retire`` milliseconds after its first frame."""
        ring = request["blocks"], request["block_size"], request["retire"]
        places = [(self._spaces.descriptor(space), *rest) for space, *rest in request["at"]]
        self._side_by_side.do(
            [partial(_open_there, place, ring) for place in places],
            partial(self._opened, request),
        )

    def _opened(self, request: Request, found: List[Any]) -> None:
        failures = [item for item in found if isinstance(item, Exception)]
        if failures:
            others = [item for item in found if isinstance(item, Capture)]
            jobs: List[Job] = [capture.close for capture in others]
            self._side_by_side.do(jobs, lambda _: request.refuse(failures[0]))
            return
        opened = []
        for capture in found:
            self._number += 1
            self._captures[self._number] = capture
            self._loop.watch(capture.socket, self._take, self._number)
            opened.append(self._number)
        request.reply(opened)

    def _take(self, key: int) -> None:
        if self._channel.unsent > UNSENT_LIMIT:
            # The harness does not read. The ring fills, and the kernel counts what it drops.
            return
        capture = self._captures[key]
        blocks = capture.take()
        if not blocks:
            # The interface went down: the socket is ready until somebody has asked why. When the
            # interface comes up again, so does the capture (packet(7), ENETDOWN).
            capture.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._harvest += [(key, block) for block in blocks]

    def hand_over(self) -> None:
        """Send off all blocks that were taken in this turn of the loop, as one message."""
        if not self._harvest:
            return
        lengths = [[key, len(block)] for key, block in self._harvest]
        blob = b"".join(block for _key, block in self._harvest)
        self._channel.post({"event": "frames", "blocks": lengths}, blob)
        self._harvest.clear()

    @property
    def syncing(self) -> bool:
        """Whether :meth:`look_again` has to be called soon, after :data:`SYNC_AGAIN`."""
        return bool(self._syncing)

    def sync(self, request: Request) -> None:
        """Answer when every frame that the kernel counted so far has been handed over."""
        keys = request["captures"]
        for key in keys:
            self._captures[key].count()
        self._syncing.append((request, keys))

    def look_again(self) -> None:
        """Answer those who wait for frames, once these have been handed over."""
        if self._syncing:
            self._syncing = [entry for entry in self._syncing if not self._synced(*entry)]

    def _synced(self, request: Request, keys: list[int]) -> bool:
        if not self._captures.keys() >= set(keys):
            request.fail("a capture was ended meanwhile")
            return True
        for key in keys:
            if not self._captures[key].complete:
                self._take(key)
        captures = [self._captures[key] for key in keys]
        if not all(capture.complete for capture in captures):
            return False
        self.hand_over()
        request.reply([[capture.packets, capture.drops] for capture in captures])
        return True

    def close(self, request: Request) -> None:
        """End captures; what was not handed over so far is lost."""
        captures = [self._captures.pop(key) for key in request["captures"]]
        for capture in captures:
            self._loop.leave(capture.socket)
        # The kernel waits for grace periods here too.
        self._side_by_side.do([item.close for item in captures], lambda _: request.reply())

    def end(self) -> None:
        """Close them all, which the kernel would do one by one, waiting for a grace period each
        time."""
        jobs: List[Job] = [capture.close for capture in self._captures.values()]
        for thread in self._side_by_side.do(jobs, lambda _: None):
            thread.join()


def _open_there(place: Tuple[int, str, str], ring: Tuple[int, int, int]) -> Capture:
    # A thread of its own: its network namespace is its own too.
    space, interface, direction = place
    check(libc.setns(space, CLONE_NEWNET), "setns")
    return Capture(interface, direction, *ring)
