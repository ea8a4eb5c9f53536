"""A probe's identity: the trailer, its neutral sum, and the stamping of many frames."""

from __future__ import annotations

import socket
from zlib import crc32

import pytest

from harness.agent.sending import Stream
from harness.traffic.identity import (
    MAGIC_BYTES,
    TRAILER_SIZE,
    Identity,
    Template,
    read,
    stamp,
    stamp_many,
)

BODY = bytes(range(64)) + bytes(TRAILER_SIZE)
TEMPLATE = Template.make(BODY, run=0x01020304, flow=0x0A0B0C0D)

# Reference vectors: sequence number to trailer. A sender that stamps by itself must agree.
VECTORS = {
    0x0: "a9d3c5e7010203040a0b0c0d000000003649c2e37cf90000",
    0x1: "a9d3c5e7010203040a0b0c0d00000001414ef27542610000",
    0x1FF: "a9d3c5e7010203040a0b0c0d000001ff02501c2f55a80000",
    0xFFFFFFFF: "a9d3c5e7010203040a0b0c0dffffffffe8f2e200ab320000",
}


def folded_sum(data: bytes) -> int:
    """The ones-complement sum of RFC 1071."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize(("seq", "trailer"), VECTORS.items())
def test_trailer_is_the_reference_one(seq: int, trailer: str) -> None:
    assert stamp(TEMPLATE, seq)[-TRAILER_SIZE:].hex() == trailer


@pytest.mark.parametrize("seq", [0, 1, 255, 256, 65535, 0x7FFFFFFF, 0xFFFFFFFF])
def test_sum_is_neutral_for_every_number(seq: int) -> None:
    assert folded_sum(stamp(TEMPLATE, seq)[-TRAILER_SIZE:]) == 0xFFFF


def test_digest_ties_number_run_flow_and_content() -> None:
    seed = crc32(bytes.fromhex("010203040a0b0c0d"), crc32(BODY[:-TRAILER_SIZE]))
    identity = read(stamp(TEMPLATE, 7), len(BODY))
    assert identity == Identity(0x01020304, 0x0A0B0C0D, 7, crc32(bytes.fromhex("00000007"), seed))


@pytest.mark.parametrize(
    ("first", "count"),
    [(0, 0), (0, 1), (5, 3), (250, 20), (256, 256), (1000, 3000), (0xFFFFFFF0, 16)],
)
def test_many_are_the_same_as_one_by_one(first: int, count: int) -> None:
    expected = b"".join(stamp(TEMPLATE, seq) for seq in range(first, first + count))
    assert stamp_many(TEMPLATE, first, count) == expected


def test_a_constant_of_zero_stays_neutral() -> None:
    """Magic, run and flow that add up to 0 modulo 0xffff: the one case with two zeros."""
    run = -int.from_bytes(MAGIC_BYTES, "big") % 0xFFFF
    template = Template.make(BODY, run=run, flow=0)
    assert stamp_many(template, 0, 300) == b"".join(stamp(template, seq) for seq in range(300))


def test_the_agent_stamps_the_same_frames() -> None:
    left, right = socket.socketpair()
    with left, right:
        spec = {**TEMPLATE.stream_spec(), "first": 250, "count": 20}
        stream = Stream(left, TEMPLATE.frame, spec)
        stream.fill(20)
        assert bytes(stream.buffer[: 20 * len(BODY)]) == stamp_many(TEMPLATE, 250, 20)


@pytest.mark.parametrize("extra", [b"", b"\0", bytes(21), b"\xa9\xd3" * 5, MAGIC_BYTES + bytes(30)])
def test_read_finds_it_before_padding(extra: bytes) -> None:
    frame = stamp(TEMPLATE, 9) + extra
    found = read(b"junk" + frame + b"more", 4 + len(frame), 4)
    assert found is not None
    assert found.seq == 9


def damaged(at: int) -> bytes:
    frame = bytearray(stamp(TEMPLATE, 9))
    frame[at] ^= 0x40
    return bytes(frame)


@pytest.mark.parametrize(
    "frame",
    [b"", b"short", bytes(TRAILER_SIZE), stamp(TEMPLATE, 9)[:-1], *map(damaged, (-24, -9, -5, -1))],
)
def test_read_says_none(frame: bytes) -> None:
    assert read(frame, len(frame)) is None


def test_a_frame_without_identity_is_sent_as_it_is() -> None:
    template = Template.make(b"x" * 20, 1, 2, stamped=False)
    assert stamp(template, 5) == b"x" * 20
    assert stamp_many(template, 5, 2) == b"x" * 40
    with pytest.raises(ValueError, match="as a stream"):
        template.stream_spec()


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        Template.make(bytes(37), 1, 2)
    with pytest.raises(ValueError, match="32-bit"):
        Template.make(BODY, -1, 2)
    with pytest.raises(ValueError, match="do not fit"):
        stamp_many(TEMPLATE, 0xFFFFFFFF, 2)
    with pytest.raises(ValueError, match="do not fit"):
        stamp(TEMPLATE, -1)
