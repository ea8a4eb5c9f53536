"""Captured blocks as lines of text and as a capture file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from harness.live import frames
from harness.live.messages import Answer, Frames, Missed
from harness.traffic import pcapng, ring
from harness.traffic.frames import Tag, probe_frame
from harness.traffic.ring import Unpacked

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
PLACES: list[frames.Place] = [("wire", "s1:eth1"), ("h2", None)]
SECOND = 1_000_000_000


def block(count: int, *, kind: int = ring.HOST, tag: Tag | None = None, at: int = 0) -> bytes:
    frame = probe_frame(A, B)
    return ring.pack(
        Unpacked(frame, time_ns=at + number, kind=kind, tag=tag) for number in range(count)
    )


def answers() -> Iterator[Answer]:
    yield Frames(0, block(2, kind=ring.OUTGOING, tag=Tag.of(900), at=5 * SECOND))
    yield Missed(4)
    yield Frames(1, block(3, at=6 * SECOND))
    raise AssertionError("read on after the last frame that was wanted")


@pytest.mark.parametrize(("limit", "bursts"), [(1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 3])])
def test_a_reader_ends_with_the_last_frame_wanted(limit: int, bursts: list[int]) -> None:
    reader = frames.Reader(PLACES, answers(), limit)
    assert [len(burst) for burst in reader.bursts()] == bursts
    assert reader.seen == limit
    assert reader.missed == (4 if limit > 2 else 0)


def test_a_line_says_when_where_which_way_with_which_tags() -> None:
    reader = frames.Reader(PLACES, answers(), 5)
    lines = [frames.text(seen) for burst in reader.bursts() for _place, seen in burst]
    assert re.fullmatch(
        rf"\d\d:\d\d:05\.000000001 wire at s1:eth1 out  vlan 900, \d+ bytes: {A} > {B} .*",
        lines[1],
    )
    assert re.fullmatch(
        rf"\d\d:\d\d:06\.000000000 h2 in  untagged, \d+ bytes: {A} > {B} .*", lines[2]
    )


class Flushed(io.BytesIO):
    """Notes how much was there at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def flush(self) -> None:
        self.sizes.append(len(self.getvalue()))


def test_a_capture_file_is_flushed_as_frames_come() -> None:
    file = Flushed()
    frames.record(file, PLACES, frames.Reader(PLACES, answers(), 5))
    assert len(file.sizes) >= 3
    assert sorted(set(file.sizes)) == file.sizes
    assert file.sizes[-1] == len(file.getvalue())
    interfaces, packets = pcapng.read(io.BytesIO(file.getvalue()))
    assert interfaces == [
        pcapng.Interface("wire at s1:eth1", "wire wire"),
        pcapng.Interface("h2", "host h2"),
    ]
    assert [(one.interface, one.direction) for one in packets] == [(0, "out")] * 2 + [(1, "in")] * 3
    assert packets[0].data[12:16] == Tag.of(900).wire
