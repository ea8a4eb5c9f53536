"""The identity of a probe: a fixed trailer in the last 24 bytes of its frame.

At the very end it is found without dissecting, in plain, tagged and encapsulated frames alike.
All fields are big-endian::

    offset  0      4    8     12   16      20   22   24
            magic  run  flow  seq  digest  fix  pad

``digest`` is ``crc32(seq, seed)`` with ``seed = crc32(run + flow, crc32(body))``, the body being
the frame before the trailer as it was built. So one crc of 4 bytes a frame ties a sequence number
to a run, a flow and its content.

``fix`` makes the ones-complement sum (RFC 1071) of the trailer 0xffff, which is neutral: an IP,
ICMP, UDP or TCP checksum over a template holds for every sequence number, provided that the
trailer starts at an even distance from the checksummed header. As 2**16 is 1 modulo 0xffff,
``fix = -(magic + run + flow + seq + digest) % 0xffff`` (Python's ``%``). ``pad`` is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

MAGIC = 0xA9D3C5E7
MAGIC_BYTES = MAGIC.to_bytes(4, "big")
TRAILER = Struct(">IIIIIHH")
TRAILER_SIZE = TRAILER.size
BLANK_TRAILER = TRAILER.pack(0, 0, 0, 0, 0, 0xFFFF, 0)
"""24 neutral bytes: what a checksum may be computed over before the identity is known."""
MAX_SEQ = 0xFFFFFFFF

Buffer = bytes | bytearray | memoryview

_SEQ_DIGEST_FIX = Struct(">IIH")
_SEQ_AT = 12
_BLOCK = 256
_FEW = 8
"""So many frames are stamped faster one by one."""


class Identity(NamedTuple):
    """What a trailer says. All fields are unsigned 32-bit."""

    run: int
    flow: int
    seq: int
    digest: int


class Template(msgspec.Struct, frozen=True, gc=False):
    """One flow's frame, ready to be stamped with any sequence number; make it with :meth:`make`.

    ``frame`` ends in a trailer that has magic, run and flow in place. With ``stamped`` False the
    frame carries no identity and is sent as it is (it is then matched by its content).
    """

    frame: bytes
    run: int
    flow: int
    seed: int
    stamped: bool = True

    @classmethod
    def make(cls, frame: bytes, run: int, flow: int, *, stamped: bool = True) -> Template:
        """A template from a frame that ends in room for a trailer (24 bytes, content ignored).

        Raise ``ValueError`` when the frame is too short or a number is not an unsigned 32-bit one.
        """
        if not 0 <= run <= MAX_SEQ or not 0 <= flow <= MAX_SEQ:
            raise ValueError(f"run {run} and flow {flow} must be unsigned 32-bit numbers")
        if not stamped:
            return cls(frame, run, flow, 0, stamped=False)
        if len(frame) < 14 + TRAILER_SIZE:
            raise ValueError(
                f"a frame of {len(frame)} bytes has no room for an Ethernet header and the "
                f"{TRAILER_SIZE} bytes of a probe's identity"
            )
        body = frame[:-TRAILER_SIZE]
        trailer = TRAILER.pack(MAGIC, run, flow, 0, 0, 0, 0)
        return cls(body + trailer, run, flow, crc32(trailer[4:_SEQ_AT], crc32(body)))

    @property
    def trailer_offset(self) -> int:
        """Where the trailer starts in ``frame``; -1 when there is none."""
        return len(self.frame) - TRAILER_SIZE if self.stamped else -1

    @property
    def body(self) -> bytes:
        """The frame without its trailer."""
        return self.frame[:-TRAILER_SIZE] if self.stamped else self.frame

    def stream_spec(self) -> dict[str, int]:
        """What a sender needs beside ``frame`` to stamp by itself: for sequence number ``seq`` it
        packs ``>IIH`` at ``sequence_offset``, of ``seq``, ``digest = crc32(seq as 4 bytes,
        digest_seed)`` and ``-(fixed_sum + seq + digest) % 0xffff``.

        Raise ``ValueError`` when the frame carries no identity.
        """
        if not self.stamped:
            raise ValueError("a frame that is sent as it is can not be sent as a stream of probes")
        return {
            "sequence_offset": self.trailer_offset + _SEQ_AT,
            "digest_seed": self.seed,
            "fixed_sum": MAGIC + self.run + self.flow,
        }


def stamp(template: Template, seq: int) -> bytes:
    """The frame with sequence number ``seq``. Raise ``ValueError`` when that is not 32-bit."""
    if not template.stamped:
        return template.frame
    _check_range(seq, 1)
    digest = crc32(seq.to_bytes(4, "big"), template.seed)
    fix = -(MAGIC + template.run + template.flow + seq + digest) % 0xFFFF
    frame = bytearray(template.frame)
    _SEQ_DIGEST_FIX.pack_into(frame, template.trailer_offset + _SEQ_AT, seq, digest, fix)
    return bytes(frame)


def stamp_many(template: Template, first_seq: int, count: int) -> bytes:
    """``count`` frames back to back, numbered from ``first_seq``.

    Raise ``ValueError`` when a number would not fit 32 bits.
    """
    if not template.stamped:
        return template.frame * count
    end = first_seq + count
    if count <= _FEW:
        return b"".join([stamp(template, seq) for seq in range(first_seq, end)])
    _check_range(first_seq, count)
    return b"".join(
        _stamp_block(template, base, max(first_seq - base, 0), min(end - base, _BLOCK))
        for base in range(first_seq & -_BLOCK, end, _BLOCK)
    )


def read(buffer: Buffer, end: int, start: int = 0) -> Identity | None:
    """The identity of the frame in ``buffer[start:end]``, or None when it carries none.

    A trailer that is not at the end (the frame was padded on the way) is searched for, from the
    end. One whose sum is not neutral was damaged, and counts as none.
    """
    at = locate(buffer, end, start)
    return None if at < 0 else Identity(*TRAILER.unpack_from(buffer, at)[1:5])


def locate(buffer: Buffer, end: int, start: int = 0) -> int:
    """Where the trailer of the frame in ``buffer[start:end]`` starts, or -1."""
    at = end - TRAILER_SIZE
    if at < start:
        return -1
    if is_trailer(buffer, at):
        return at
    data = bytes(memoryview(buffer)[start:end])
    found = data.rfind(MAGIC_BYTES)
    while found >= 0:
        if found + TRAILER_SIZE <= len(data) and is_trailer(data, found):
            return start + found
        found = data.rfind(MAGIC_BYTES, 0, found + 3)
    return -1


def is_trailer(buffer: Buffer, at: int) -> bool:
    """Whether the 24 bytes at ``at`` are an undamaged trailer."""
    magic, run, flow, seq, digest, fix, pad = TRAILER.unpack_from(buffer, at)
    return bool(magic == MAGIC and (magic + run + flow + seq + digest + fix + pad) % 0xFFFF == 0)


def _check_range(first_seq: int, count: int) -> None:
    if first_seq < 0 or first_seq + count - 1 > MAX_SEQ:
        raise ValueError(
            f"sequence numbers {first_seq} to {first_seq + count - 1} do not fit 32 bits"
        )


def _stamp_block(template: Template, base: int, first: int, stop: int) -> bytearray:
    """Stamp ``base + first`` up to ``base + stop``, ``base`` being a multiple of 256.

    Numbers that share their upper 24 bits are stamped as one: each field of the whole block is
    computed as one long integer of 32-bit lanes, and written column by column, for setting every
    n-th byte of a buffer is one call.
    """
    seqs = _ONES * base + _RAMP
    # A crc is affine: within the block it differs by a constant of the lowest byte.
    digests = _ONES * crc32(base.to_bytes(4, "big"), template.seed) ^ _CRC_OF_LOW
    constant = (MAGIC + template.run + template.flow - 1) % 0xFFFF + 1  # never 0: no lane is
    total = _ONES * constant + _halves(seqs)
    total = _halves(_halves(total + _halves(digests)))
    fixes = _ONES * 0xFFFF - total
    count, size = stop - first, len(template.frame)
    out = bytearray(template.frame * count)
    at = template.trailer_offset + _SEQ_AT
    for lanes, skip in ((seqs, 0), (digests, 0), (fixes, 2)):
        raw = lanes.to_bytes(4 * _BLOCK, "big")
        for byte in range(skip, 4):
            out[at::size] = raw[4 * first + byte : 4 * stop : 4]
            at += 1
    return out


def _halves(lanes: int) -> int:
    """In every 32-bit lane, the sum of its two halves."""
    return (lanes & _LOW_HALVES) + (lanes >> 16 & _LOW_HALVES)


def _lanes(values: Iterable[int]) -> int:
    return int.from_bytes(b"".join(value.to_bytes(4, "big") for value in values), "big")


_ONES = _lanes([1] * _BLOCK)
_LOW_HALVES = _lanes([0xFFFF] * _BLOCK)
_RAMP = _lanes(range(_BLOCK))
_CRC_OF_LOW = _lanes(crc32(n.to_bytes(4, "big")) ^ crc32(bytes(4)) for n in range(_BLOCK))
