"""Captured blocks as sightings, as lines of text, and as a capture file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from harness.live.messages import Answer, Frames, Missed
from harness.traffic import pcapng, ring
from harness.traffic.dissect import dissect
from harness.traffic.sightings import Sighting

Place = tuple[str, str | None]


class Reader:
    """Sightings in what a keeper says of a capture, at most ``limit`` of them (None: all)."""

    def __init__(self, places: list[Place], answers: Iterator[Answer], limit: int | None) -> None:
        self._places, self._answers, self._limit = places, answers, limit
        self.seen = 0
        self.missed = 0

    def bursts(self) -> Iterator[list[tuple[int, Sighting]]]:
        """What came at once: index of the place, and sighting."""
        for answer in self._answers if self._limit != 0 else ():
            if isinstance(answer, Missed):
                self.missed += answer.frames
            if not isinstance(answer, Frames):
                continue
            left = None if self._limit is None else self._limit - self.seen
            place = self._places[answer.place]
            found = [(answer.place, one) for one in islice(sightings(answer.block, place), left)]
            self.seen += len(found)
            yield found
            if self.seen == self._limit:
                return


def sightings(block: bytes, place: Place) -> Iterator[Sighting]:
    """The frames of a block of a capture ring."""
    point, port = place
    for frame in ring.walk(block):
        yield Sighting(
            point=point,
            port=port,
            direction="out" if frame[5] == ring.OUTGOING else "in",
            time_ns=frame[4],
            data=ring.restore(block, frame),
            wire_len=frame[3] + (4 if frame[6] else 0),
        )


def prepare() -> None:
    """Load scapy, which takes longer than many a capture, before the first frame is there."""
    dissect(bytes(60))


def text(seen: Sighting) -> str:
    """One line: time of day, place, direction, tags, and what scapy makes of the frame."""
    seconds, ns = divmod(seen.time_ns, 1_000_000_000)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    tags = ", ".join(str(tag) for tag in seen.tags) or "untagged"
    addresses = f"{seen.data[6:12].hex(':')} > {seen.data[:6].hex(':')}"
    what = seen.packet.summary()
    if not what.startswith(addresses):
        what = f"{addresses} {what}"
    where = label((seen.point, seen.port))
    return f"{clock}.{ns:09} {where} {seen.direction}  {tags}, {seen.wire_len} bytes: {what}"


def label(place: Place) -> str:
    """A place in words."""
    point, port = place
    return point if port is None else f"{point} at {port}"


def record(file: BinaryIO, places: list[Place], reader: Reader) -> None:
    """Write a capture file, each burst as it comes."""
    interfaces = [
        pcapng.Interface(label(place), f"{'host' if place[1] is None else 'wire'} {place[0]}")
        for place in places
    ]
    pcapng.write(file, interfaces, _packets(file, reader))


def _packets(file: BinaryIO, reader: Reader) -> Iterator[pcapng.Packet]:
    file.flush()
    for burst in reader.bursts():
        for place, seen in burst:
            yield pcapng.Packet(seen.time_ns, place, seen.data, seen.wire_len, seen.direction)
        file.flush()
