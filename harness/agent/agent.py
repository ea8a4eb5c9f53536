"""The agent: runs inside a node and serves one stream. Standard library only, Python 3.9 and later.

It knows four things: run a command, read and write a file (a unix socket that speaks JSON-RPC is
one), make and move network interfaces, and send and capture frames. It knows nothing of Open
vSwitch. It ends, and as the first process of its PID namespace takes everything in the node with
it, when its stream ends.

The stream carries messages both ways: two big-endian 32-bit lengths (of the whole body, and of the
JSON at its start), the JSON, then raw bytes (the *blob*). A request has an ``id`` and an ``op``;
its answer has the same ``id`` and ``ok`` or ``error``. Captured blocks come as messages with an
``event``. Everything is done in one thread: many commands, streams and captures are under way at
once because none of them is waited for. (Only what the kernel itself makes us wait for, opening
and closing captures, is done in threads of its own.)
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes

# Imported for their effect: once the root file system has changed, no module can be loaded.
import encodings.ascii
import encodings.latin_1  # noqa: F401
import errno
import fcntl
import heapq
import json
import mmap
import os
import re
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
import time
import traceback
import zlib
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Callable, Dict, List, Optional, Tuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEADER = struct.Struct("!II")
MESSAGE_LIMIT = 1 << 30
OUTPUT_LIMIT = 16 << 20
"""Of a command's output on each stream, the last so many bytes are kept."""
PRINT_LIMIT = 256 << 20
"""A command that prints more on one stream is killed: its output is kept in memory."""
PRINT_WATCH = 0.05
"""Seconds between looks at how much the commands under way have printed."""
UNSENT_LIMIT = 256 << 20

CLONE_NEWNET = 0x40000000

Request = Dict[str, Any]
LinkMessage = Tuple[int, int, bytes, str]
"""Type, flags and body of a netlink message, and what it does in words."""
PacketSocket = Tuple[int, int, int, Optional[int]]
"""Inode, interface index, bytes that wait to be read, frames dropped (None: not known)."""
Job = Callable[[], Any]
SIDE_BY_SIDE = 64
"""Threads at most that wait for the kernel at the same time."""

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Raise OSError naming ``what`` when a libc call returned a negative result."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


# -------- rtnetlink (rtnetlink(7))

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_SETNEIGHTBL = 16, 17, 19, 20, 67
NLM_REQUEST, NLM_ACK, NLM_EXCL, NLM_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFLA_BR_GROUP_FWD_MASK, IFLA_BR_MCAST_SNOOPING = 9, 23
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_CAP_ACK = 270, 11, 10
NDTA_NAME, NDTA_PARMS, NDTPA_IFINDEX, NDTPA_DELAY_PROBE_TIME = 1, 6, 1, 7
NLM_F_ACK_TLVS, NLM_F_CAPPED = 0x200, 0x100
NLMSGERR_ATTR_MSG = 1
A_DAY = 24 * 3600 * 1000
"""In milliseconds."""
LINKS_AT_ONCE = 64
"""Messages per netlink datagram: their acknowledgements must fit in the receive buffer."""


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def text(name: str) -> bytes:
    """A zero-terminated string."""
    return name.encode() + b"\0"


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a MAC address in colon notation."""
    return bytes.fromhex(mac.replace(":", ""))


def link_message(
    name: str,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool | None = None,
    more: bytes = b"",
) -> bytes:
    """An ifinfomsg with the attributes that every kind of link has."""
    change = 0 if up is None else IFF_UP
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, IFF_UP if up else 0, change)
    body += attribute(IFLA_IFNAME, text(name))
    if mac is not None:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if mtu is not None:
        body += attribute(IFLA_MTU, struct.pack("=I", mtu))
    return body + more


def card_message(card: Request) -> bytes:
    """An ifinfomsg that gives the interface ``card`` a ``name``, a ``mac`` and an ``mtu``."""
    index = socket.if_nametoindex(card["card"])
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    body += attribute(IFLA_IFNAME, text(card["name"]))
    body += attribute(IFLA_ADDRESS, mac_bytes(card["mac"]))
    return body + attribute(IFLA_MTU, struct.pack("=I", card["mtu"]))


def link_info(kind: bytes, data: bytes) -> bytes:
    """What kind of link, and that kind's own settings."""
    return attribute(
        IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind) + attribute(IFLA_INFO_DATA, data)
    )


def neighbours_believed(family: int, index: int, what: str) -> LinkMessage:
    """Has an interface use what it knows of its neighbours for a day before it asks whether they
    are still there (arp(7), ``delay_first_probe_time``). It would otherwise ask five seconds after
    it has last heard of them, in the middle of something else."""
    cache = "arp_cache" if family == socket.AF_INET else "ndisc_cache"
    parameters = attribute(NDTPA_IFINDEX, struct.pack("=I", index))
    parameters += attribute(NDTPA_DELAY_PROBE_TIME, struct.pack("=Q", A_DAY))
    body = struct.pack("=Bxxx", family) + attribute(NDTA_NAME, text(cache))
    return (RTM_SETNEIGHTBL, 0, body + attribute(NDTA_PARMS, parameters), what)


class Netlink:
    """An rtnetlink socket in the network namespace it was made in."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.socket.bind((0, 0))
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.sequence = 0

    def request(self, messages: list[LinkMessage]) -> None:
        """Carry out ``(type, flags, body, what)`` in order; raise OSError for the first refused."""
        for start in range(0, len(messages), LINKS_AT_ONCE):
            self._request(messages[start : start + LINKS_AT_ONCE])

    def _request(self, messages: list[LinkMessage]) -> None:
        packet = bytearray()
        first = self.sequence + 1
        for kind, flags, body, _what in messages:
            self.sequence += 1
            length = 16 + len(body)
            packet += struct.pack(
                "=IHHII", length, kind, flags | NLM_REQUEST | NLM_ACK, self.sequence, 0
            )
            packet += body + bytes(-length % 4)
        self.socket.send(packet)
        failure: OSError | None = None
        waiting = len(messages)
        while waiting:
            for number, sequence, said in self._errors(self.socket.recv(1 << 16)):
                waiting -= 1
                if number and failure is None:
                    what = messages[sequence - first][3]
                    reason = said or os.strerror(-number)
                    failure = OSError(-number, f"{what}: {reason}")
        if failure is not None:
            raise failure

    @staticmethod
    def _errors(data: bytes) -> list[tuple[int, int, str]]:
        found = []
        offset = 0
        while offset < len(data):
            length, kind, flags, sequence, _pid = struct.unpack_from("=IHHII", data, offset)
            if kind == NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", data, offset + 16)
                said = ""
                if flags & NLM_F_ACK_TLVS and flags & NLM_F_CAPPED:
                    said = Netlink._message(data[offset + 36 : offset + length])
                found.append((number, sequence, said))
            offset += (length + 3) & ~3
        return found

    @staticmethod
    def _message(attributes: bytes) -> str:
        while len(attributes) >= 4:
            length, kind = struct.unpack_from("=HH", attributes)
            if kind == NLMSGERR_ATTR_MSG:
                return attributes[4:length].rstrip(b"\0").decode(errors="replace")
            attributes = attributes[(length + 3) & ~3 :]
        return ""


# -------- looks: what is read again and again


def slurp(path: str) -> bytes:
    """The content of a file of /proc: like open(), with a third of its system calls."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(descriptor, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(descriptor)


# -------- packet sockets (sock_diag(7), packet_diag.h)

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_DUMP, NLMSG_DONE = 4, 20, 0x300, 3
PACKET_SHOW_INFO, PACKET_SHOW_MEMINFO = 0x01, 0x10
PACKET_DIAG_INFO, PACKET_DIAG_MEMINFO = 0, 6
MEMINFO_RMEM, MEMINFO_DROPS = 0, 8


def packet_sockets() -> list[PacketSocket]:
    """The packet sockets of this network namespace: inode, interface index, bytes that wait to be
    read, frames dropped for want of room (None where the kernel has no packet_diag)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        show = PACKET_SHOW_INFO | PACKET_SHOW_MEMINFO
        body = struct.pack("=BBHIIII", socket.AF_PACKET, 0, 0, 0, show, 0, 0)
        head = struct.pack(
            "=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, NLM_REQUEST | NLM_DUMP, 1, 0
        )
        diag.send(head + body)
        found: list[PacketSocket] = []
        while True:
            data = diag.recv(1 << 18)
            offset = 0
            while offset < len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    return packet_sockets_without_drops()
                (inode,) = struct.unpack_from("=I", data, offset + 20)
                index, waiting, drops = _diag_numbers(data[offset + 32 : offset + length])
                found.append((inode, index, waiting, drops))
                offset += (length + 3) & ~3


def _diag_numbers(attributes: bytes) -> tuple[int, int, int]:
    index = waiting = drops = 0
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == PACKET_DIAG_INFO:
            (index,) = struct.unpack_from("=I", attributes, 4)
        elif kind == PACKET_DIAG_MEMINFO:
            words = struct.unpack_from(f"={(length - 4) // 4}I", attributes, 4)
            waiting, drops = words[MEMINFO_RMEM], words[MEMINFO_DROPS]
        attributes = attributes[(length + 3) & ~3 :]
    return index, waiting, drops


def packet_sockets_without_drops() -> list[PacketSocket]:
    """The same from /proc/net/packet: sk RefCnt Type Proto Iface R Rmem User Inode."""
    with open("/proc/thread-self/net/packet") as file:
        lines = [line.split() for line in file][1:]
    return [(int(line[8]), int(line[4]), int(line[6]), None) for line in lines]


def backlog_drops() -> int:
    """Frames that the backlogs of all processors had no room for (net.core.netdev_max_backlog),
    since the machine started."""
    lines = slurp("/proc/thread-self/net/softnet_stat").splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


def count_idling() -> bool:
    """Have the kernel count how often its processor had nothing to do. False where it can't, or
    where there are several: then none of them says anything of the others."""
    with contextlib.suppress(FileNotFoundError):
        with open("/proc/sys/kernel/sched_schedstats", "w") as file:
            file.write("1")
        return os.cpu_count() == 1
    return False


def times_idle() -> int:
    """How often that was so far (/proc/schedstat: cpuN yields 0 schedules idles …)."""
    lines = slurp("/proc/schedstat").splitlines()
    return sum(int(line.split()[4]) for line in lines if line.startswith(b"cpu"))


NETLINK_GENERIC = b"16"


def netlink_unread() -> int:
    """Bytes that wait to be read in the generic netlink sockets of this network namespace
    (/proc/net/netlink: sk Eth Pid Groups Rmem …)."""
    lines = [line.split(None, 5) for line in slurp("/proc/thread-self/net/netlink").splitlines()]
    return sum(int(line[4]) for line in lines[1:] if line[1] == NETLINK_GENERIC)


def threads_of(pid: int, name: str) -> list[tuple[str, int]]:
    """The threads of a process whose names begin with ``name``: what state each is in (proc(5),
    ``State``), and how many times a processor was taken from it so far."""
    found = []
    wanted = b"Name:\t" + name.encode()
    for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = slurp(f"/proc/{pid}/task/{thread}/status")
            if status.startswith(wanted):
                fields = dict(line.split(b":\t", 1) for line in status.splitlines())
                kinds = (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")
                switches = sum(int(fields[kind]) for kind in kinds)
                found.append((fields[b"State"][:1].decode(), switches))
    return found


# -------- frames (packet(7), AF_PACKET)

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


def attach(port: socket.socket, interface: str, protocol: int) -> None:
    """Bind a packet socket; raise OSError naming the interface."""
    try:
        port.bind((interface, protocol))
    except OSError as error:
        raise OSError(error.errno, f"{interface}: {error.strerror or error}") from None


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


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint))


class Sender:
    """Sends frames with sendmmsg(2), up to :attr:`AT_ONCE` in one call."""

    AT_ONCE = 256

    def __init__(self) -> None:
        self.vectors = (_IoVec * self.AT_ONCE)()
        self.headers = (_MMsgHdr * self.AT_ONCE)()
        base = ctypes.addressof(self.vectors)
        size = ctypes.sizeof(_IoVec)
        for number, message in enumerate(self.headers):
            message.header.iov = base + number * size
            message.header.iovlen = 1
        self.words = memoryview(self.vectors).cast("B").cast("Q")

    def send(self, port: socket.socket, buffer: bytearray, lengths: list[int]) -> int:
        """Send back-to-back frames of ``lengths`` from ``buffer``; return how many went out.

        Fewer than asked means that the next one was refused; its error is raised when it is
        the first. The kernel took every frame that is counted.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        done = 0
        position = address
        while done < len(lengths):
            some = lengths[done : done + self.AT_ONCE]
            words = self.words
            for number, length in enumerate(some):
                words[2 * number] = position
                words[2 * number + 1] = length
                position += length
            sent = 0
            while sent < len(some):
                first = ctypes.byref(self.headers, sent * ctypes.sizeof(_MMsgHdr))
                result = libc.sendmmsg(port.fileno(), first, len(some) - sent, 0)
                if result < 0:
                    number = ctypes.get_errno()
                    if number == errno.EINTR:
                        continue
                    if done + sent:
                        return done + sent
                    raise OSError(number, os.strerror(number))
                sent += result
            done += len(some)
        return done


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
        self.frames = frames
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


IDENTITY = struct.Struct("!IIH")


class Stream:
    """Frames made from one template, each with its own sequence number, sent at a steady rate."""

    def __init__(self, port: socket.socket, frame: bytes, spec: Request) -> None:
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


# -------- JSON-RPC sockets

ANSWER_LIMIT = 256 << 20
"""Characters of an answer at most: it is kept in memory."""
DEPTH_LIMIT = 256
"""Brackets within each other at most. What reads or writes JSON here and in the harness is
recursive, and has less than 1000 levels for everything."""
RPC_UNSENT_LIMIT = 64 << 20
"""Bytes that wait for a server that does not read, before it is asked no more."""
CONNECT_AGAIN, CONNECT_SELDOM = 0.001, 0.05
"""Seconds after the first and between the later attempts to connect to a busy server."""
ESCAPED = re.compile(r"\\.", re.DOTALL)
NO_BRACKET = re.compile(r"[^][{}]+")
BLANK = re.compile(r"[ \t\n\r]*")


class JsonObjects:
    """Cuts a stream of JSON objects, which nothing need separate, where they end.

    Each character is looked at once as it comes, however many pieces an object comes in, and once
    more when its object is complete.
    """

    def __init__(self) -> None:
        # A character may come in two pieces.
        self.characters = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.decoder = json.JSONDecoder()
        self.pieces: list[str] = []
        """The beginning of an object that is not complete."""
        self.size = self.depth = 0
        self.carried = ""
        """What the pieces end in the middle of: a string, or an escape sequence in one."""

    def feed(self, data: bytes) -> Iterator[Request]:
        """The objects that ``data`` completes. Raise ConnectionError for what is no object."""
        piece = self.characters.decode(data)
        complete = self._scan(piece)
        self.size += len(piece)
        if self.size > ANSWER_LIMIT:
            raise ConnectionError("the answer is too long")
        self.pieces.append(piece)
        if complete or len(self.pieces) == 1:
            yield from self._decode(complete)

    def _scan(self, piece: str) -> int:
        """How many times the outermost bracket is closed in ``piece``."""
        bare = ESCAPED.sub("", self.carried + piece)
        parts = bare.split('"')
        in_string = len(parts) % 2 == 0
        self.carried = ('"' if in_string else "") + ("\\" if bare.endswith("\\") else "")
        complete = 0
        for bracket in NO_BRACKET.sub("", "".join(parts[::2])):
            if bracket in "{[":
                self.depth += 1
                if self.depth > DEPTH_LIMIT:
                    raise ConnectionError("the answer is nested too deeply")
            else:
                self.depth -= 1
                complete += self.depth == 0
        return complete

    def _decode(self, count: int) -> Iterator[Request]:
        """Take ``count`` objects off the pieces, and look at what the next one begins with."""
        text = "".join(self.pieces)
        position = self._skip(text, 0)
        for _ in range(count):
            try:
                message, position = self.decoder.raw_decode(text, position)
            except ValueError:
                raise ConnectionError("the other side does not speak JSON-RPC") from None
            position = self._skip(text, position)
            yield message
        rest = text[position:]
        self.pieces = [rest] if rest else []
        self.size = len(rest)

    @staticmethod
    def _skip(text: str, position: int) -> int:
        """Where the next object begins: after the blanks at ``position``."""
        position = BLANK.match(text, position).end()  # type: ignore[union-attr]
        if position < len(text) and text[position] != "{":
            raise ConnectionError("the other side does not speak JSON-RPC")
        return position


AnswerTaker = Callable[[Optional[Request], Optional[Exception]], None]
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

    def _put(self, asked: int, message: Request) -> None:
        if self.unsent > RPC_UNSENT_LIMIT:
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

    def receive(self) -> Iterator[tuple[AnswerTaker, Request]]:
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


class Conversation:
    """Requests to one server, each asked as soon as those are answered that it comes after."""

    def __init__(
        self,
        requests: List[Request],
        timeout: float,
        ask: Callable[[Request, float, AnswerTaker], None],
        done: Callable[[Any, Optional[Exception]], None],
    ) -> None:
        """``done`` gets all answers in order, or the first reason why there is none."""
        self.requests, self.timeout = requests, timeout
        self.ask, self.done = ask, done
        self.answers: List[Optional[Request]] = [None] * len(requests)
        self.begun: set[int] = set()
        self.over = False
        self.go_on()

    def go_on(self) -> None:
        for place, request in enumerate(self.requests):
            due = all(self.answers[other] is not None for other in request["after"])
            if due and place not in self.begun and not self.over:
                self.begun.add(place)
                try:
                    self.ask(request, self.timeout, partial(self.take, place))
                except (OSError, ValueError) as error:
                    self.end(error)

    def take(self, place: int, answer: Optional[Request], error: Optional[Exception]) -> None:
        self.answers[place] = answer
        if error is not None:
            self.end(error)
        elif all(self.answers):
            self.end(None)
        else:
            self.go_on()

    def end(self, error: Optional[Exception]) -> None:
        if not self.over:
            self.over = True
            self.done(self.answers, error)


# -------- commands and files


def read_regular(path: str) -> bytes:
    """The content of a regular file: a pipe could have to be waited for, a device have no end."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


class Command:
    """A command under way. Its output goes to memory files, so that nothing can block on a pipe."""

    def __init__(
        self, request: int, argv: list[str], env: dict[str, str] | None, stdin: bytes
    ) -> None:
        self.request = request
        self.followed = False
        """Whether what it prints is told as it comes."""
        self.told = [0, 0]
        self.timed_out = self.too_much = False
        self.files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
        if stdin:
            rest = memoryview(stdin)
            while rest:
                rest = rest[os.write(self.files[0], rest) :]
            os.lseek(self.files[0], 0, os.SEEK_SET)
        self.started = time.monotonic()
        environment = dict(os.environ)
        environment.update(env or {})
        try:
            self.pid = os.posix_spawnp(
                argv[0],
                argv,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(self.files)],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ),
            )
        except (OSError, ValueError):
            self.close()
            raise

    def sizes(self) -> list[int]:
        """How many bytes the command wrote to its standard output and error so far."""
        return [os.fstat(fd).st_size for fd in self.files[1:]]

    def fresh(self) -> Iterator[tuple[int, bytes]]:
        """What the command wrote since the last call, and on which descriptor: 1 or 2."""
        for place, size in enumerate(self.sizes()):
            told = self.told[place]
            data = os.pread(self.files[place + 1], max(0, size - told), told)
            self.told[place] += len(data)
            if data:
                yield place + 1, data

    def output(self) -> tuple[bytes, bytes]:
        """What the command wrote to its standard output and error so far, or the end of it."""
        return tuple(self._content(fd) for fd in self.files[1:])  # type: ignore[return-value]

    @staticmethod
    def _content(fd: int) -> bytes:
        size = os.fstat(fd).st_size
        return os.pread(fd, min(size, OUTPUT_LIMIT), max(0, size - OUTPUT_LIMIT))

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)


# -------- agent


class Inside:
    """Within this context the thread is in another network namespace."""

    def __init__(self, home: int, there: int | None) -> None:
        self.home, self.there = home, there

    def __enter__(self) -> None:
        if self.there is not None:
            check(libc.setns(self.there, CLONE_NEWNET), "setns")

    def __exit__(self, *_: object) -> None:
        if self.there is not None:
            check(libc.setns(self.home, CLONE_NEWNET), "setns back")


class Agent:
    """Serves one stream until it ends."""

    def __init__(self, channel: socket.socket | Device) -> None:
        self.channel = channel
        channel.setblocking(False)
        self.inbox = bytearray()
        self.outbox: list[memoryview] = []
        self.unsent = 0
        self.selector = selectors.DefaultSelector()
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.spaces: dict[str, int] = {}
        self.netlinks: dict[str | None, Netlink] = {}
        self.commands: dict[int, Command] = {}
        self.watching = False
        """Whether somebody will look at how much the commands have printed."""
        self.captures: dict[int, Capture] = {}
        self.harvest: list[tuple[int, bytes]] = []
        self.syncing: list[tuple[int, list[int]]] = []
        self.ports: dict[int, socket.socket] = {}
        self.streams: dict[int, Stream] = {}
        self.rpcs: dict[tuple[str, int], JsonRpc] = {}
        self.timers: list[tuple[float, int, Job]] = []
        self.timer_number = 0
        self.numbers = 0
        self.sender = Sender()
        self.finished: list[Job] = []
        self.finishing = threading.Lock()
        self.counts_idling = False
        self.operations = {
            name[3:]: getattr(self, name) for name in dir(self) if name.startswith("op_")
        }

    # -- the stream

    def serve(self) -> None:
        """Answer until the stream ends."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        finished_read, self.finished_wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(finished_read, selectors.EVENT_READ, (self._finish, finished_read))
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(wake_read, selectors.EVENT_READ, (self._reap, wake_read))
        self.selector.register(self.channel, selectors.EVENT_READ, (self._receive, None))
        try:
            while True:
                for key, _events in self.selector.select(self._patience()):
                    action, argument = key.data
                    action(argument)
                self._tick()
                if self.harvest:
                    self._bring_in()
                if self.outbox:
                    self._flush()
        except EOFError:
            # The kernel would close them one by one, and wait for a grace period each time.
            jobs: list[Job] = [capture.close for capture in self.captures.values()]
            for thread in self._side_by_side(jobs, lambda _: None):
                thread.join()

    def _patience(self) -> float | None:
        if self.syncing:
            return 0.0005
        soon = [stream.next_time() for stream in self.streams.values() if not stream.finished]
        if self.timers:
            soon.append(self.timers[0][0])
        if not soon:
            return None
        return max(0.0, min(soon) - time.monotonic())

    def _tick(self) -> None:
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            _when, _number, action = heapq.heappop(self.timers)
            action()
        for stream in self.streams.values():
            if not stream.finished:
                count = stream.due(now)
                if count:
                    stream.push(self.sender, count)
        if self.syncing:
            self.syncing = [entry for entry in self.syncing if not self._synced(*entry)]

    def after(self, seconds: float, action: Job) -> None:
        """Call ``action`` once, ``seconds`` from now."""
        self.timer_number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.timer_number, action))

    def _receive(self, _: object) -> None:
        try:
            data = self.channel.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self.inbox += data
        while len(self.inbox) >= 8:
            length, split = HEADER.unpack_from(self.inbox)
            if length > MESSAGE_LIMIT or split > length:
                raise EOFError
            if len(self.inbox) < 8 + length:
                break
            request = json.loads(bytes(self.inbox[8 : 8 + split]))
            blob = bytes(self.inbox[8 + split : 8 + length])
            del self.inbox[: 8 + length]
            self._dispatch(request, blob)

    def _dispatch(self, request: Request, blob: bytes) -> None:
        number = request.pop("id")
        name = request.pop("op")
        operation = self.operations.get(name)
        if operation is None:
            self.fail(number, f"the agent knows no operation {name!r}")
            return
        self._attempt(number, lambda: operation(number, request, blob))

    def _attempt(self, number: int, job: Job) -> None:
        """Do what was requested, now or later; whatever is raised is the answer."""
        try:
            job()
        except (OSError, ValueError) as error:
            self.refuse(number, error)
        except Exception:  # noqa: BLE001 - the caller is told where, and the node lives on
            # A defect of the agent's own.
            self.fail(number, "the agent failed: " + traceback.format_exc(limit=-4))

    def reply(self, number: int, answer: object = None, blob: bytes = b"") -> None:
        """Answer a request."""
        self._post({"id": number, "ok": answer}, blob)

    def fail(self, number: int, said: str, error_number: int = 0) -> None:
        """Answer a request with an error."""
        self._post({"id": number, "error": said, "errno": error_number})

    def refuse(self, number: int, error: Exception) -> None:
        """Answer a request with what the system said: OSError, or ValueError for a name or setting
        that it cannot take (one with a NUL character, say)."""
        if isinstance(error, OSError):
            said = error.strerror or str(error)
            if error.filename:
                said = f"{error.filename}: {said}"
            self.fail(number, said, error.errno or 0)
        else:
            self.fail(number, str(error), errno.EINVAL)

    def _post(self, message: Request, blob: bytes = b"") -> None:
        head = json.dumps(message).encode()
        self.outbox.append(memoryview(HEADER.pack(len(head) + len(blob), len(head)) + head))
        if blob:
            self.outbox.append(memoryview(blob))
        self.unsent += HEADER.size + len(head) + len(blob)

    def _flush(self, _: object = None) -> None:
        try:
            while self.outbox:
                sent = self.channel.sendmsg(self.outbox[:64])
                self.unsent -= sent
                while sent:
                    if sent >= len(self.outbox[0]):
                        sent -= len(self.outbox.pop(0))
                    else:
                        self.outbox[0] = self.outbox[0][sent:]
                        sent = 0
            events = selectors.EVENT_READ
        except BlockingIOError:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
        except ConnectionError as error:
            raise EOFError from error
        if self.selector.get_key(self.channel).events != events:
            self.selector.modify(self.channel, events, (self._receive, None))

    # -- commands and files

    def op_hello(self, number: int, request: Request, blob: bytes) -> None:
        self.reply(number, {"pid": os.getpid(), "python": list(sys.version_info[:3])})

    def op_awake(self, number: int, request: Request, blob: bytes) -> None:
        """Become a machine of one's own, having been a twin of another: with a name, an id, network
        cards, the right time, and in ``blob`` something random that nobody else has."""
        time.clock_settime_ns(time.CLOCK_REALTIME, request["time_ns"])
        with open("/dev/urandom", "wb") as device:
            fcntl.ioctl(device, RNDADDENTROPY, struct.pack("=ii", 8 * len(blob), len(blob)) + blob)
            fcntl.ioctl(device, RNDRESEEDCRNG)
        set_hostname(request["name"])
        with open("/etc/machine-id", "w") as file:
            file.write(request["machine_id"] + "\n")
        for card in request["cards"]:
            # What is captured here has to be what is on the wire: each segment by itself.
            turn_off(card["card"], ETHTOOL_SGRO)
        changes = [
            (RTM_NEWLINK, 0, card_message(card), f"set {card['card']}") for card in request["cards"]
        ]
        self.netlink(None).request(changes)
        self.reply(number)

    def op_change_root(self, number: int, request: Request, blob: bytes) -> None:
        """Run everything from now on in what is mounted at ``root``. What runs already stays."""
        os.chroot(request["root"])
        os.chdir("/")
        self.reply(number)

    def op_clock(self, number: int, request: Request, blob: bytes) -> None:
        """Set the clock forward by ``step`` nanoseconds, if any; answer with the time."""
        if request["step"]:
            time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + request["step"])
        self.reply(number, time.time_ns())

    def op_spaces(self, number: int, request: Request, blob: bytes) -> None:
        """This process's descriptors of the node's own network namespace and of those in it."""
        self.reply(number, {"home": self.home, "spaces": self.spaces})

    def op_run(self, number: int, request: Request, blob: bytes) -> None:
        with self.inside(request.get("netns")):
            command = Command(number, request["argv"], request.get("env"), blob)
        command.followed = request.get("follow", False)
        self.commands[command.pid] = command
        if not self.watching:
            self.watching = True
            self.after(PRINT_WATCH, self._watch_output)
        if request["timeout"] is not None:
            self.after(request["timeout"], lambda: self._overdue(command))

    def op_run_end(self, number: int, request: Request, blob: bytes) -> None:
        """Kill a command that is no longer wanted; ``run`` is the id of the request to run it."""
        for command in self.commands.values():
            if command.request == request["run"]:
                os.killpg(command.pid, signal.SIGKILL)
        self.reply(number)

    def _overdue(self, command: Command) -> None:
        if self.commands.get(command.pid) is command:
            command.timed_out = True
            os.killpg(command.pid, signal.SIGKILL)

    def _watch_output(self) -> None:
        for command in self.commands.values():
            self._tell(command)
            if max(command.sizes()) > PRINT_LIMIT and not command.too_much:
                command.too_much = True
                os.killpg(command.pid, signal.SIGKILL)
        self.watching = bool(self.commands)
        if self.watching:
            self.after(PRINT_WATCH, self._watch_output)

    def _tell(self, command: Command) -> None:
        """Pass on what a followed command wrote since the last time."""
        for descriptor, data in command.fresh() if command.followed else ():
            self._post({"event": "output", "run": command.request, "descriptor": descriptor}, data)

    def _reap(self, wake: int) -> None:
        os.read(wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.child_ended(pid, status)

    def child_ended(self, pid: int, status: int) -> None:
        """A child process has ended: one of the commands, or an orphan of theirs."""
        command = self.commands.pop(pid, None)
        if command is not None:
            self._ended(command, status)

    def _ended(self, command: Command, status: int) -> None:
        self._tell(command)
        left_out = [max(0, size - OUTPUT_LIMIT) for size in command.sizes()]
        out, err = (b"", b"") if command.followed else command.output()
        command.close()
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        self.reply(
            command.request,
            {
                "status": code,
                "timed_out": command.timed_out,
                "too_much": command.too_much,
                "left_out": left_out,
                "seconds": time.monotonic() - command.started,
                "out": len(out),
            },
            out + err,
        )

    def op_read(self, number: int, request: Request, blob: bytes) -> None:
        lengths: list[int] = []
        errors: list[str | None] = []
        content = []
        with self.inside(request.get("netns")):
            for path in request["paths"]:
                try:
                    content.append(read_regular(path))
                    errors.append(None)
                except OSError as error:
                    content.append(b"")
                    errors.append(error.strerror)
                lengths.append(len(content[-1]))
        self.reply(number, {"lengths": lengths, "errors": errors}, b"".join(content))

    def op_try_open(self, number: int, request: Request, blob: bytes) -> None:
        """Whether a file can be opened for reading and writing: null, or the system's words."""
        try:
            os.close(os.open(request["path"], os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            self.reply(number, error.strerror)
        else:
            self.reply(number)

    def op_write(self, number: int, request: Request, blob: bytes) -> None:
        with self.inside(request.get("netns")):
            # A pipe that nobody reads is an error, and nothing to wait for.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(request["path"], flags, request["mode"]), "wb") as file:
                file.write(blob)
        self.reply(number)

    def op_jsonrpc(self, number: int, request: Request, blob: bytes) -> None:
        self._ask_server(
            request["path"], request, request["timeout"], partial(self._tell_answer, number)
        )

    def op_jsonrpc_all(self, number: int, request: Request, blob: bytes) -> None:
        """Several ``requests`` to one server, each as soon as those are answered that it is to come
        ``after``, given as their places in the list. All answers, in order."""
        ask = partial(self._ask_server, request["path"])
        Conversation(
            request["requests"], request["timeout"], ask, partial(self._tell_answer, number)
        )

    def _tell_answer(self, number: int, answer: Any, error: Optional[Exception]) -> None:
        if error is None:
            self.reply(number, answer)
        else:
            self.refuse(number, error)

    def _ask_server(self, path: str, asked: Request, timeout: float, taker: AnswerTaker) -> None:
        # A server may answer the questions of one connection one after the other; a second
        # connection (another ``line``) is heard while the first one waits.
        key = (path, asked.get("line", 0))
        rpc = self.rpcs.get(key)
        if rpc is not None and rpc.ended:
            # Whoever listened there has gone; perhaps somebody else listens now.
            self._hang_up(rpc, ConnectionError("the socket was closed by the other side"))
            rpc = None
        begin = rpc is None
        if rpc is None:
            rpc = self.rpcs[key] = JsonRpc(*key)
        question = rpc.ask(asked["method"], asked["params"], taker)
        self.after(timeout, partial(self._unanswered, rpc, question))
        if begin:
            self._connect(rpc)
        elif rpc.connected:
            self._push(rpc)

    def _connect(self, rpc: JsonRpc) -> None:
        """Connect; where too many wait to be, as long as somebody wants an answer."""
        if self.rpcs.get(rpc.key) is not rpc:
            return
        if not rpc.waiting:
            self._hang_up(rpc, ConnectionError("nobody asks"))
            return
        try:
            connected = rpc.connect()
        except (OSError, ValueError) as error:
            self._hang_up(rpc, error)
            return
        if not connected:
            self.after(rpc.patience, partial(self._connect, rpc))
            return
        self.selector.register(rpc.socket, selectors.EVENT_READ, (self._converse, rpc))
        self._converse(rpc)

    def _converse(self, rpc: JsonRpc) -> None:
        """Take in what a JSON-RPC server says, and tell it what it has room for."""
        if self.rpcs.get(rpc.key) is not rpc:
            # Hung up on in this very turn.
            return
        try:
            for taker, message in rpc.receive():
                taker({"result": message.get("result"), "error": message.get("error")}, None)
        except OSError as error:
            if self.rpcs.get(rpc.key) is rpc:
                self._hang_up(rpc, error)
            return
        self._push(rpc)

    def _push(self, rpc: JsonRpc) -> None:
        """Tell a JSON-RPC server what it has room for. Takes nothing in: who gets an answer may
        ask the next question at once, in the middle of what is being taken in."""
        if self.rpcs.get(rpc.key) is not rpc:
            return
        try:
            rpc.push()
        except OSError as error:
            self._hang_up(rpc, error)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if rpc.outbox else 0)
        if self.selector.get_key(rpc.socket).events != events:
            self.selector.modify(rpc.socket, events, (self._converse, rpc))

    def _hang_up(self, rpc: JsonRpc, error: Exception) -> None:
        del self.rpcs[rpc.key]
        if rpc.connected:
            self.selector.unregister(rpc.socket)
        rpc.socket.close()
        # Forgotten, or their timers would answer them a second time.
        waiting, rpc.waiting = rpc.waiting, {}
        for taker in waiting.values():
            taker(None, error)

    def _unanswered(self, rpc: JsonRpc, asked: int) -> None:
        taker, why = rpc.forget(asked)
        if taker is not None:
            said = "no answer in time" + (f": {why}" if why else "")
            taker(None, OSError(errno.ETIMEDOUT, said))

    # -- network namespaces, interfaces, addresses

    def inside(self, space: str | None) -> Inside:
        """The context of a named network namespace; None is the node's own."""
        if space is None:
            return Inside(self.home, None)
        if space not in self.spaces:
            raise OSError(errno.ENOENT, f"no network namespace {space!r} in this node")
        return Inside(self.home, self.spaces[space])

    def op_space_add(self, number: int, request: Request, blob: bytes) -> None:
        """Make network namespaces, loopback up, without IPv6 until an address asks for it."""
        try:
            for name in request["names"]:
                check(libc.unshare(CLONE_NEWNET), "unshare")
                self.spaces[name] = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                quieten()
        finally:
            check(libc.setns(self.home, CLONE_NEWNET), "setns back")
        self.reply(number)

    def op_space_remove(self, number: int, request: Request, blob: bytes) -> None:
        for name in request["names"]:
            self.let_go(name)
        self.reply(number)

    def let_go(self, space: str) -> None:
        """Close all of ours that keeps a network namespace alive: a socket in it does, too."""
        netlink = self.netlinks.pop(space, None)
        if netlink is not None:
            netlink.socket.close()
        os.close(self.spaces.pop(space))

    def netlink(self, space: str | None) -> Netlink:
        """The rtnetlink socket of a namespace."""
        if space not in self.netlinks:
            with self.inside(space):
                self.netlinks[space] = Netlink()
        return self.netlinks[space]

    def op_link(self, number: int, request: Request, blob: bytes) -> None:
        """Carry out a list of changes to interfaces in one namespace."""
        space = request.get("netns")
        found: list[tuple[str | None, LinkMessage]] = []
        for change in request["changes"]:
            found += self._link_change(change, space)
        for place, messages in groupby(found, itemgetter(0)):
            self.netlink(place).request([message for _place, message in messages])
        self.reply(number)

    def _link_change(
        self, change: Request, space: str | None
    ) -> list[tuple[str | None, LinkMessage]]:
        """The messages that make a change in a namespace, each with where it is to be sent."""
        if change["do"] == "veth":
            return self._veth(change, space)
        return [(space, self._link_message(change))]

    @staticmethod
    def _link_message(change: Request) -> LinkMessage:
        action, name = change["do"], change["name"]
        what = f"{action} {name}"
        if action == "bridge":
            info = attribute(IFLA_BR_MCAST_SNOOPING, b"\0")
            # The most that a bridge forwards of the reserved group addresses (802.1Q 8.6.3).
            info += attribute(IFLA_BR_GROUP_FWD_MASK, struct.pack("=H", 0xFFF8))
            body = link_message(name, mtu=change.get("mtu"), up=True)
            body += link_info(b"bridge", info)
            return (RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body, what)
        if action == "remove":
            return (RTM_DELLINK, 0, link_message(name), what)
        if action == "set":
            body = link_message(
                name, mac=change.get("mac"), mtu=change.get("mtu"), up=change.get("up")
            )
            if "master" in change:
                master = socket.if_nametoindex(change["master"])
                body += attribute(IFLA_MASTER, struct.pack("=I", master))
            return (RTM_NEWLINK, 0, body, what)
        raise OSError(errno.EINVAL, f"the agent knows no link action {action!r}")

    def _veth(self, change: Request, space: str | None) -> list[tuple[str | None, LinkMessage]]:
        """A pair: ``peer`` is made where it belongs and set up; ``name`` stays here and is set up,
        or goes to ``space``, where somebody else sets it up."""
        mtu = change.get("mtu")
        what = f"veth {change['name']}"
        # The driver can't set up the end that VETH_INFO_PEER names: the pair is not joined yet.
        own = link_message(change["name"], mac=change.get("mac"), mtu=mtu)
        there = self._space(change.get("space", space))
        own += attribute(IFLA_NET_NS_FD, struct.pack("=I", there))
        peer = link_message(change["peer"], mac=change.get("peer_mac"), mtu=mtu, up=True)
        peer += link_info(b"veth", attribute(VETH_INFO_PEER, own))
        # To be sent where the peer goes: kernels before 6.15 look there, where the socket is, for
        # another interface of that name.
        made = (RTM_NEWLINK, NLM_CREATE | NLM_EXCL, peer, what)
        messages: list[tuple[str | None, LinkMessage]] = [(change["peer_space"], made)]
        if "space" not in change:
            up = link_message(change["name"], up=True)
            messages.append((space, (RTM_NEWLINK, 0, up, what)))
        return messages

    def op_address(self, number: int, request: Request, blob: bytes) -> None:
        """Give addresses (``10.0.0.1/24``) to interfaces: changes of name and address."""
        messages = []
        with self.inside(request.get("netns")):
            for name, address in request["addresses"]:
                ip, _, length = address.partition("/")
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                if family == socket.AF_INET6:
                    enable_ipv6(name)
                packed, index = socket.inet_pton(family, ip), socket.if_nametoindex(name)
                body = struct.pack("=BBBBI", family, int(length), 0x02, 0, index)
                body += attribute(1, packed) + attribute(2, packed)
                what = f"{address} on {name}"
                messages.append((RTM_NEWADDR, NLM_CREATE | NLM_EXCL, body, what))
                messages.append(neighbours_believed(family, index, what))
        self.netlink(request.get("netns")).request(messages)
        self.reply(number)

    def op_no_offload(self, number: int, request: Request, blob: bytes) -> None:
        """Turn transmit checksumming off: a frame then carries its real checksum on the wire."""
        with self.inside(request.get("netns")):
            for name in request["names"]:
                turn_off(name, ETHTOOL_STXCSUM)
        self.reply(number)

    # -- frames

    def op_port(self, number: int, request: Request, blob: bytes) -> None:
        """Open sockets to send through: list of [namespace or null, interface]."""
        ports = []
        try:
            for space, interface in request["at"]:
                with self.inside(space):
                    ports.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                attach(ports[-1], interface, 0)
        except OSError:
            for port in ports:
                port.close()
            raise
        opened = []
        for port in ports:
            self.numbers += 1
            self.ports[self.numbers] = port
            opened.append(self.numbers)
        self.reply(number, opened)

    def op_send(self, number: int, request: Request, blob: bytes) -> None:
        """Send ``batch``: [port, [length, …]] each, frames back to back in the blob."""
        position = 0
        bursts = []
        for port, lengths in request["batch"]:
            frames = bytearray(blob[position : position + sum(lengths)])
            position += len(frames)
            bursts.append(Burst(self.ports[port], frames, lengths))
        self._send_bursts(number, bursts)

    def _send_bursts(self, number: int, bursts: list[Burst]) -> None:
        waiting = [burst for burst in bursts if not burst.push(self.sender)]
        if waiting:
            again = partial(self._send_bursts, number, bursts)
            self.after(0.001, lambda: self._attempt(number, again))
            return
        self.reply(number, [[one.sent, one.began, one.error] for one in bursts])

    def op_stream_start(self, number: int, request: Request, blob: bytes) -> None:
        self.numbers += 1
        self.streams[self.numbers] = Stream(self.ports[request["port"]], blob, request)
        self.reply(number, self.numbers)

    def op_stream_stop(self, number: int, request: Request, blob: bytes) -> None:
        """End a stream (wait for it to finish first, with ``wait``) and say what it sent, when."""
        stream = self.streams[request["stream"]]
        if request.get("wait") and not stream.finished:
            again = partial(self.op_stream_stop, number, request, blob)
            self.after(0.001, lambda: self._attempt(number, again))
            return
        del self.streams[request["stream"]]
        marks = struct.pack(f"<{len(stream.marks)}Q", *stream.marks)
        self.reply(number, {"sent": stream.sent - stream.first, "error": stream.error}, marks)

    def op_capture(self, number: int, request: Request, blob: bytes) -> None:
        """Open captures: list of [namespace or null, interface, direction]. The kernel hands over
        a block of a ring when it is full, or ``retire`` milliseconds after its first frame."""
        ring = request["blocks"], request["block_size"], request["retire"]
        places = [(self._space(space), *rest) for space, *rest in request["at"]]
        self._side_by_side(
            [partial(self._open_capture, place, ring) for place in places],
            lambda found: self._opened(number, found),
        )

    def _space(self, name: str | None) -> int:
        there = self.inside(name).there
        return self.home if there is None else there

    @staticmethod
    def _open_capture(place: tuple[int, str, str], ring: tuple[int, int, int]) -> Capture:
        # A thread of its own: its network namespace is its own too.
        space, interface, direction = place
        check(libc.setns(space, CLONE_NEWNET), "setns")
        return Capture(interface, direction, *ring)

    def _opened(self, number: int, found: list[Any]) -> None:
        failures = [item for item in found if isinstance(item, Exception)]
        if failures:
            others = [item for item in found if isinstance(item, Capture)]
            jobs: list[Job] = [capture.close for capture in others]
            self._side_by_side(jobs, lambda _: self.refuse(number, failures[0]))
            return
        opened = []
        for capture in found:
            self.numbers += 1
            self.captures[self.numbers] = capture
            key = (self._captured, self.numbers)
            self.selector.register(capture.socket, selectors.EVENT_READ, key)
            opened.append(self.numbers)
        self.reply(number, opened)

    def _side_by_side(
        self, jobs: list[Job], finish: Callable[[list[Any]], None]
    ) -> list[threading.Thread]:
        """Do jobs that mostly wait for the kernel in threads of their own, then call ``finish`` in
        this one with their results, an exception standing for a job that failed."""
        if not jobs:
            finish([])
            return []
        results: list[object] = [None] * len(jobs)
        todo = list(enumerate(jobs))
        threads: list[threading.Thread] = []

        def work() -> None:
            while True:
                try:
                    place, job = todo.pop()
                except IndexError:
                    break
                try:
                    results[place] = job()
                except Exception as error:  # noqa: BLE001 - the caller gets it
                    results[place] = error
            with self.finishing:
                threads.remove(threading.current_thread())
                last = not threads
            if last:
                self.finished.append(lambda: finish(results))
                os.write(self.finished_wake, b".")

        with self.finishing:
            started = [threading.Thread(target=work) for _ in jobs[:SIDE_BY_SIDE]]
            threads += started
            for thread in started:
                thread.start()
        return started

    def _finish(self, wake: int) -> None:
        os.read(wake, 4096)
        while self.finished:
            self.finished.pop(0)()

    def _captured(self, key: int) -> None:
        if self.unsent > UNSENT_LIMIT:
            # The harness does not read. The ring fills, and the kernel counts what it drops.
            return
        capture = self.captures[key]
        blocks = capture.take()
        if not blocks:
            # The interface went down: the socket is ready until somebody has asked why. When the
            # interface comes up again, so does the capture (packet(7), ENETDOWN).
            capture.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.harvest += [(key, block) for block in blocks]

    def _bring_in(self) -> None:
        """Send off all blocks that were taken in this turn, as one message."""
        lengths = [[key, len(block)] for key, block in self.harvest]
        self._post({"event": "frames", "blocks": lengths}, b"".join(b for _key, b in self.harvest))
        self.harvest.clear()

    def op_queues(self, number: int, request: Request, blob: bytes) -> None:
        """What waits, unread, in packet sockets that are not the agent's own, the frames that the
        kernel's backlogs had no room for, how often the processor was idle (where that is counted),
        and in the blob the counters of the interfaces (/proc/net/dev). With ``threads``, a process
        and the beginning of its threads' names, also what those threads do, and what waits in
        generic netlink sockets."""
        own = {os.fstat(item.fileno()).st_ino for item in self.ports.values()}
        own |= {os.fstat(item.socket.fileno()).st_ino for item in self.captures.values()}
        sockets = [found for found in packet_sockets() if found[0] not in own]
        answer: Request = {"sockets": sockets, "backlog": backlog_drops()}
        if request["threads"] is not None:
            answer["unread"] = netlink_unread()
            answer["threads"] = threads_of(*request["threads"])
        if self.counts_idling:
            answer["idle"] = times_idle()
        self.reply(number, answer, slurp("/proc/thread-self/net/dev"))

    def op_capture_sync(self, number: int, request: Request, blob: bytes) -> None:
        """Answer when every frame that the kernel counted so far has been handed over."""
        keys = request["captures"]
        for key in keys:
            self.captures[key].count()
        self.syncing.append((number, keys))

    def _synced(self, number: int, keys: list[int]) -> bool:
        if not self.captures.keys() >= set(keys):
            self.fail(number, "a capture was ended meanwhile")
            return True
        for key in keys:
            if not self.captures[key].complete:
                self._captured(key)
        if not all(self.captures[key].complete for key in keys):
            return False
        if self.harvest:
            self._bring_in()
        self.reply(number, [[self.captures[key].packets, self.captures[key].drops] for key in keys])
        return True

    def op_capture_close(self, number: int, request: Request, blob: bytes) -> None:
        captures = [self.captures.pop(key) for key in request["captures"]]
        for capture in captures:
            self.selector.unregister(capture.socket)
        # The kernel waits for grace periods here too.
        self._side_by_side([item.close for item in captures], lambda _: self.reply(number))


SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCETHTOOL = 0x8913, 0x8914, 0x8946
ETHTOOL_STXCSUM, ETHTOOL_SGRO = 0x17, 0x2C


def quieten() -> None:
    """Loopback up and IPv6 off in the network namespace the thread is in.

    Internal ports and veth would otherwise make neighbour and multicast noise of their own.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
    settle("all/disable_ipv6", "1")


def keep_up() -> None:
    """Have as much of the processor as Open vSwitch's daemons, which ovs-ctl starts with a niceness
    of -10, so that what they do does not keep frames from being seen. Whatever is started from
    here has the usual niceness (sched(7), ``SCHED_RESET_ON_FORK``)."""
    policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(0, policy, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, -10)


def enable_ipv6(interface: str) -> None:
    """Let one interface have IPv6 addresses, and only those it is given: no link-local one, no
    router solicitation, no duplicate address detection, so that an address works at once. Those
    that are made from now on too: a reload of the kernel module makes a switch's anew."""
    for name, value in (
        ("addr_gen_mode", "1"),
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("router_solicitations", "0"),
        ("disable_ipv6", "0"),
    ):
        settle(f"default/{name}", value)
        settle(f"{interface}/{name}", value)


def settle(name: str, value: str) -> None:
    """Write an IPv6 setting, where the kernel has IPv6."""
    try:
        with open("/proc/sys/net/ipv6/conf/" + name, "w") as file:
            file.write(value)
    except FileNotFoundError:
        pass


def turn_off(interface: str, setting: int) -> None:
    """Turn a setting of ethtool's off (linux/ethtool.h)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        value = ctypes.create_string_buffer(struct.pack("II", setting, 0))
        request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
"""linux/random.h"""


def set_hostname(name: str) -> None:
    """The node's own name (its UTS namespace), resolvable from its own /etc/hosts."""
    encoded = name.encode()
    check(libc.sethostname(encoded, len(encoded)), "sethostname")
    write_anew("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n", 0o644)


def write_anew(path: str, content: str, mode: int) -> None:
    """Write a file that was not there: what the image has there may be somebody else's, and is not
    ours to write to, even as root in a user namespace."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)


def ignore_what_ports_hear() -> None:
    """Keep the node's kernel from answering what arrives at interfaces that are a switch's ports.

    A user-space datapath reads a copy of each frame, and the kernel hears it as well: without this
    it answers ARP for any of the node's addresses on any port, past the switch (ip-sysctl,
    ``arp_ignore`` and ``rp_filter``).
    """
    for name in ("arp_ignore", "rp_filter"):
        with open(f"/proc/sys/net/ipv4/conf/all/{name}", "w") as file:
            file.write("1")


class Device:
    """A character device as a stream: a port of a virtual machine's serial line."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def setblocking(self, _flag: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        return self.fd

    def recv(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def sendmsg(self, buffers: list[memoryview]) -> int:
        return os.writev(self.fd, buffers)


def main() -> None:
    """Serve the device that is named, or the stream on file descriptor 0."""
    os.environ.clear()
    os.environ.update(PATH=PATH, HOME="/root", LC_ALL="C", TERM="dumb")
    if len(sys.argv) == 1:
        Agent(socket.socket(fileno=os.dup(0))).serve()
        return
    # The first process of a machine that is a node and nothing else.
    quieten()
    ignore_what_ports_hear()
    keep_up()
    os.umask(0o022)
    agent = Agent(Device(sys.argv[1]))
    agent.counts_idling = count_idling()
    agent.serve()


if __name__ == "__main__":
    main()
