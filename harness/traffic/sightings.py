"""A sighting: one frame seen at one attachment point."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from harness.traffic.dissect import dissect
from harness.traffic.frames import TPIDS, Tag, tag_bytes, tags_of

if TYPE_CHECKING:
    from scapy.packet import Packet

Direction = Literal["in", "out"]


class Point(NamedTuple):
    """A place where frames are seen.

    At a ``host`` what arrives at an endpoint counts, and what it sends itself does not. On a
    ``wire`` everything counts that crosses an underlay, whatever it is wrapped in.
    """

    name: str
    kind: Literal["host", "wire"]


class Placement(NamedTuple):
    """Where a sent frame stands in a captured one."""

    start: int
    """Offset of its first byte; more than 0 behind outer headers."""
    ethernet: bool
    """False: a layer 3 tunnel took the Ethernet header away; ``start`` is that of the packet."""


class Sighting(msgspec.Struct, frozen=True, dict=True):
    """One frame seen at one attachment point.

    ``time_ns`` is the kernel's time stamp (real-time clock); ``data`` the frame with the tag that
    the kernel takes out put back; ``wire_len`` its length on the wire in bytes, without FCS.
    ``seq`` is the probe's sequence number, None when it is not known. ``start`` is where the
    probe's own frame starts in ``data``, more than 0 when it is encapsulated. ``note`` says what
    is unusual about the frame, or why nobody claims it.
    """

    point: str
    port: str | None
    direction: Direction
    time_ns: int
    data: bytes
    wire_len: int
    seq: int | None = None
    start: int = 0
    has_ethernet: bool = True
    note: str = ""

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """The frame's VLAN tags, outermost first."""
        return tags_of(self.data)

    @property
    def vlan_ids(self) -> list[int]:
        """The VLAN IDs of :attr:`tags`, outermost first."""
        return [tag.vid for tag in self.tags]

    @property
    def outer(self) -> bytes:
        """The headers that a tunnel put before the probe's frame; empty when there are none."""
        return self.data[: self.start]

    @property
    def inner(self) -> bytes:
        """The probe's own frame: what a tunnel carries, or :attr:`data` itself."""
        return self.data[self.start :]

    @property
    def inner_tags(self) -> tuple[Tag, ...]:
        """The VLAN tags of :attr:`inner`, outermost first."""
        return tags_of(self.inner) if self.has_ethernet else ()

    @property
    def inner_vlan_ids(self) -> list[int]:
        """The VLAN IDs of :attr:`inner_tags`, outermost first."""
        return [tag.vid for tag in self.inner_tags]

    @property
    def truncated(self) -> bool:
        """Whether less was captured than was on the wire."""
        return len(self.data) < self.wire_len

    @cached_property
    def packet(self) -> Packet:
        """The frame dissected by scapy, with its outer headers."""
        return dissect(self.data)

    def summary(self) -> str:
        """One line: where, which way, tags, what it is."""
        where = self.point if self.port is None else f"{self.point} ({self.port})"
        number = "" if self.seq is None else f" #{self.seq}"
        tags = ", ".join(str(tag) for tag in self.tags) or "untagged"
        cut = f", {len(self.data)} of {self.wire_len} bytes captured" * self.truncated
        note = f" [{self.note}]" if self.note else ""
        size = f"{self.wire_len} bytes"
        return f"{self.direction} {where}{number}: {tags}, {size}{cut}: {self._what()}{note}"

    def _what(self) -> str:
        if len(self.data) < 14:
            return f"not a whole Ethernet header: {self.data.hex(' ')}"
        source, target = self.data[6:12].hex(":"), self.data[:6].hex(":")
        said = self.packet.summary()
        # Of an EtherType that it does not know, scapy gives the addresses itself.
        return said if said.startswith(source) else f"{source} > {target} {said}"

    __str__ = summary


def place(data: bytes, end: int, body: bytes, *, wire: bool) -> Placement | None:
    """Find in ``data[:end]`` the untagged ``body`` of a sent frame, whatever tags it got.

    On a ``wire`` it may stand behind outer headers, and may have lost its Ethernet header to a
    layer 3 tunnel. None when it is not there, so when its bytes were changed.
    """
    macs, rest = body[:12], body[12:]
    at = end - len(rest)
    if at >= 12 and data.startswith(rest, at):
        while True:
            if data.startswith(macs, at - 12):
                start = at - 12
                return Placement(start, ethernet=True) if wire or not start else None
            at -= 4
            if at < 12 or int.from_bytes(data[at : at + 2], "big") not in TPIDS:
                break
    packet = rest[2:]
    at = end - len(packet)
    if wire and packet and at > 14 + tag_bytes(data) and data.startswith(packet, at):
        return Placement(at, ethernet=False)
    return None


def guess_start(data: bytes, end: int, body: bytes, *, wire: bool) -> int:
    """Where a frame whose bytes were changed most likely starts: behind outer headers only on a
    wire, and only when both MAC addresses stand there."""
    if not wire:
        return 0
    earliest = end - len(body) - 8
    found = data.find(body[:12], max(0, earliest), end)
    return max(found, 0)


def differing(sent: bytes, got: bytes) -> tuple[tuple[int, int], ...]:
    """The ranges (first, behind last) of bytes in which two frames differ."""
    ranges: list[tuple[int, int]] = []
    size = max(len(sent), len(got))
    for at in range(size):
        if sent[at : at + 1] == got[at : at + 1]:
            continue
        if ranges and ranges[-1][1] == at:
            ranges[-1] = (ranges[-1][0], at + 1)
        else:
            ranges.append((at, at + 1))
    return tuple(ranges)
