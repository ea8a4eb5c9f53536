"""Frames in the blocks of a ``TPACKET_V3`` ring, as the kernel lays them out.

The layout is that of ``linux/if_packet.h``: ``struct tpacket_block_desc``, then for each frame a
``struct tpacket3_hdr``, a ``struct sockaddr_ll`` at the next multiple of 16, and the frame at
``tp_mac``. The kernel takes the outermost VLAN tag out of a frame and keeps it in the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from harness.traffic.frames import Tag

HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING = range(5)
"""``sll_pkttype``: what a frame is to the interface that it was seen on (packet(7))."""

VLAN_VALID = 1 << 4
VLAN_TPID_VALID = 1 << 6

RingFrame = tuple[int, int, int, int, int, int, int, int]
"""header offset, frame offset, captured bytes, wire bytes, kernel time stamp in ns (real-time
clock), ``sll_pkttype``, TPID of the tag that was taken out (0: none), its TCI. Bytes do not count
that tag."""

# version, offset_to_priv, block_status, num_pkts, offset_to_first_pkt, blk_len; seq_num and the
# time stamps of the first and last frame follow.
_BLOCK = Struct("<IIIIII24x")
# tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_status, tp_mac, tp_vlan_tci,
# tp_vlan_tpid, sll_pkttype
_FRAME = Struct("<IIIIIIH6xIH20xB")
_MAC = 80  # where pack() puts a frame: behind both headers, aligned


def walk(block: bytes | memoryview) -> Iterator[RingFrame]:
    """The frames of a retired block, in order. Raise ``ValueError`` when the block is damaged."""
    try:
        _, _, _, count, at, _ = _BLOCK.unpack_from(block)
        size, unpack = len(block), _FRAME.unpack_from
        for _ in range(count):
            skip, sec, nsec, captured, wire, status, mac, tci, tpid, kind = unpack(block, at)
            start = at + mac
            if start + captured > size:
                raise ValueError(f"a frame at {start} ends behind the block's {size} bytes")
            time_ns = sec * 1_000_000_000 + nsec
            if not status & VLAN_VALID:
                yield at, start, captured, wire, time_ns, kind, 0, 0
            else:
                known = tpid if status & VLAN_TPID_VALID else 0x8100
                yield at, start, captured, wire, time_ns, kind, known, tci
            at += skip
    except struct_error as error:
        raise ValueError(f"a damaged capture block of {len(block)} bytes: {error}") from None


def frame_at(block: bytes, header: int) -> RingFrame:
    """The one frame whose header is at ``header``, an offset that :func:`walk` gave."""
    _, sec, nsec, captured, wire, status, mac, tci, tpid, kind = _FRAME.unpack_from(block, header)
    if not status & VLAN_VALID:
        tpid = tci = 0
    elif not status & VLAN_TPID_VALID:
        tpid = 0x8100
    time_ns = sec * 1_000_000_000 + nsec
    return header, header + mac, captured, wire, time_ns, kind, tpid, tci


def restore(block: bytes, frame: RingFrame) -> bytes:
    """The frame as it was on the wire: the tag that the kernel took out is outermost again."""
    _, start, captured, _, _, _, tpid, tci = frame
    if not tpid:
        return block[start : start + captured]
    tag = Tag.from_tci(tpid, tci).wire
    return block[start : start + 12] + tag + block[start + 12 : start + captured]


class Unpacked(NamedTuple):
    """A frame for :func:`pack`. ``tag`` is kept in the header, as the kernel keeps it; ``wire_len``
    without that tag, None for all of ``data``."""

    data: bytes
    time_ns: int = 0
    kind: int = HOST
    tag: Tag | None = None
    wire_len: int | None = None


def pack(frames: Iterable[Unpacked]) -> bytes:
    """A block as a ring would have it, of frames that were captured by other means."""
    body = bytearray()
    count = 0
    for frame in frames:
        size = _MAC + len(frame.data) + -len(frame.data) % 16
        wire = len(frame.data) if frame.wire_len is None else frame.wire_len
        status, tci, tpid = 1, 0, 0
        if frame.tag is not None:
            status |= VLAN_VALID | VLAN_TPID_VALID
            tpid, tci = frame.tag.tpid, int.from_bytes(frame.tag.wire[2:], "big")
        sec, nsec = divmod(frame.time_ns, 1_000_000_000)
        head = (size, sec, nsec, len(frame.data), wire, status, _MAC, tci, tpid, frame.kind)
        body += (_FRAME.pack(*head).ljust(_MAC, b"\0") + frame.data).ljust(size, b"\0")
        count += 1
    return _BLOCK.pack(1, 0, 1, count, _BLOCK.size, _BLOCK.size + len(body)) + body
