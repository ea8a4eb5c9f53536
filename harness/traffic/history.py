"""A history: everything that was done and seen in a lab, as data that can be judged again.

It holds no live thing. What was sent and captured stands in it as it does on disk; its batches are
matched anew from that, so that a history read back is judged exactly as the one that was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import msgspec

from harness.traffic import pcapng, ring
from harness.traffic.batch import Batch
from harness.traffic.earlier import Earlier
from harness.traffic.frames import TPIDS, Blank, Tag
from harness.traffic.gaps import Gap
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.operations import Event, FramesOut, Operation, operations
from harness.traffic.pcapng import Packet, Place
from harness.traffic.sightings import Point

Data = dict[str, Any]
"""What JSON has: numbers, texts, lists, and mappings with text keys."""


class SentFlow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A :class:`~harness.traffic.ledger.Flow`: ``frame`` is its template, ``count`` the frames
    that were sent. The sets of host names are in alphabetical order."""

    number: int
    source: str
    to: tuple[str, ...]
    frame: bytes
    stamped: bool
    count: int
    before: tuple[str, ...] | None = None
    after: tuple[str, ...] | None = None
    flooded: tuple[str, ...] | None = None


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which gap it is: see :class:`~harness.traffic.gaps.Gap`."""

    after: int
    until: int | None
    began_ns: int


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch, or (with ``gap``) what was captured beside batches. Of the history's flows and
    packets the next ``flows`` and ``packets`` belong to it. ``reason`` says why not everything is
    accounted for, ``drops`` and ``overflows`` what was lost without a switch's doing (see
    :class:`~harness.traffic.batch.Batch`)."""

    first_flow: int
    flows: int
    packets: int
    reason: str = ""
    drops: dict[str, int] = {}
    overflows: dict[str, int] = {}
    gap: Span | None = None


class StatePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a switch before and after something was done, as plain data, each with when it
    was read, in ns. ``unknown`` says why one of them (None) could not be read."""

    switch: str
    before_ns: int
    after_ns: int
    before: Data | None
    after: Data | None
    unknown: str = ""


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a history is of, and how it is divided.

    ``run`` is the number in the frames' identity, ``kernels`` the MAC addresses of interfaces that
    have IP addresses, ``unseen`` why it is not known whose they are, nor what arrived after the
    last batch. ``expected`` names what the scenario said that it expects, ``expected_logs``
    regular expressions for what daemons may log; ``unread`` says for switches why their logs could
    not be read.
    """

    run: int
    seed: int
    target: str
    points: tuple[Point, ...]
    places: tuple[Place, ...]
    segments: tuple[Segment, ...]
    expected: tuple[str, ...] = ()
    expected_logs: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    unseen: str = ""
    unread: dict[str, str] = {}
    measurements: Data = {}


class History(msgspec.Struct, frozen=True, dict=True, kw_only=True):
    """Everything that was done and seen in a lab. Histories compare with ``==``.

    ``topology`` is the YAML of the network; ``logs`` maps switch to daemon to what it logged.
    """

    about: About
    topology: str = ""
    events: tuple[Event, ...] = ()
    flows: tuple[SentFlow, ...] = ()
    packets: tuple[Packet, ...] = ()
    states: tuple[StatePair, ...] = ()
    logs: dict[str, dict[str, str]] = {}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """What was done, in the order in which it began."""
        return operations(self.events)

    @property
    def batches(self) -> tuple[Batch, ...]:
        """What was sent, and what was seen of it. Raise ``ValueError`` when the data contradict
        themselves."""
        return self._judged[0]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was seen beside batches. Raises as :attr:`batches` does."""
        return self._judged[1]

    @cached_property
    def kernels(self) -> frozenset[bytes]:
        """The MAC addresses of interfaces whose kernels speak by themselves."""
        return frozenset(bytes.fromhex(mac.replace(":", "")) for mac in self.about.kernels)

    @cached_property
    def _judged(self) -> tuple[tuple[Batch, ...], tuple[Gap, ...]]:
        about = self.about
        flows, packets = iter(self.flows), iter(self.packets)
        times = _times(self.events)
        earlier = Earlier()
        batches, gaps = [], []
        for segment in about.segments:
            ledger = Ledger(about.run, about.points, first_flow=segment.first_flow, earlier=earlier)
            for record in islice(flows, segment.flows):
                _add_flow(ledger, record, times.get(record.number, []))
            for place, block in _blocks(islice(packets, segment.packets), about.places):
                ledger.take(place.point, block, place.port)
            reason = segment.reason
            batch = Batch(
                ledger,
                drained=not reason,
                reason=reason,
                drops=segment.drops,
                overflows=segment.overflows,
            )
            if segment.gap is None:
                batches.append(batch)
                earlier.add(ledger.flows)
            else:
                span = segment.gap
                gaps.append(Gap(batch, span.after, span.until, span.began_ns))
        return tuple(batches), tuple(gaps)


def _times(events: Iterable[Event]) -> dict[int, list[tuple[int, int]]]:
    """For each flow the times of its bursts, as a flow has them."""
    times: dict[int, list[tuple[int, int]]] = {}
    for event in events:
        if isinstance(event, FramesOut):
            times.setdefault(event.flow, []).append((event.first_seq, event.time_ns))
    return {flow: sorted(marks) for flow, marks in times.items()}


def _add_flow(ledger: Ledger, record: SentFlow, times: list[tuple[int, int]]) -> None:
    flow = ledger.flow(record.source, Blank(record.frame, record.stamped), to=record.to)
    if flow.number != record.number:
        raise ValueError(f"flow {record.number} stands where flow {flow.number} belongs")
    flow.count, flow.times = record.count, times
    flow.before, flow.after = _set(record.before), _set(record.after)
    flow.flooded = _set(record.flooded)


def _blocks(packets: Iterable[Packet], places: Sequence[Place]) -> Iterator[tuple[Place, bytes]]:
    """Packets as blocks of a capture ring, one for each place."""
    found: dict[int, list[ring.Unpacked]] = {}
    for packet in packets:
        found.setdefault(packet.interface, []).append(_unpacked(packet))
    for number, frames in found.items():
        yield places[number], ring.pack(frames)


def _unpacked(packet: Packet) -> ring.Unpacked:
    kind = ring.OUTGOING if packet.direction == "out" else ring.HOST
    data, wire_len = packet.data, packet.wire_len
    if len(data) < 16 or int.from_bytes(data[12:14], "big") not in TPIDS:
        return ring.Unpacked(data, packet.time_ns, kind, wire_len=wire_len)
    # A ring has the outermost tag beside the frame.
    tag = Tag.from_tci(int.from_bytes(data[12:14], "big"), int.from_bytes(data[14:16], "big"))
    return ring.Unpacked(data[:12] + data[16:], packet.time_ns, kind, tag, wire_len - 4)


# -- what a lab holds, as such data


def places_of(ledgers: Iterable[Ledger], known: Iterable[tuple[str, str | None]]) -> list[Place]:
    """All places of capture: the ``known`` ones, and those that only a ledger has."""
    found = dict.fromkeys(Place(*place) for place in known)
    for ledger in ledgers:
        found.update(dict.fromkeys(Place(block.point.name, block.port) for block in ledger.blocks))
    return list(found)


def segment_of(
    one: Batch | Gap, places: Mapping[Place, int]
) -> tuple[Segment, list[SentFlow], list[Packet]]:
    """A batch or a gap as data."""
    batch = one.batch if isinstance(one, Gap) else one
    gap = Span(one.after, one.until, one.began_ns) if isinstance(one, Gap) else None
    flows = [_record(flow) for flow in batch.ledger.flows]
    packets = pcapng.packets(batch.ledger, places)
    segment = Segment(
        first_flow=batch.ledger.first_flow,
        flows=len(flows),
        packets=len(packets),
        reason=batch.reason,
        drops=batch.drops,
        overflows=batch.overflows,
        gap=gap,
    )
    return segment, flows, packets


def frames_out(flow: Flow) -> Iterator[FramesOut]:
    """When a flow's frames were sent. One of which nothing was sent has no times."""
    ends = [first for first, _time in flow.times[1:]] + [flow.count]
    for (first, time_ns), end in zip(flow.times, ends, strict=False):
        yield FramesOut(time_ns, flow.number, first, end - first)


def _record(flow: Flow) -> SentFlow:
    template = flow.template
    return SentFlow(
        number=flow.number,
        source=flow.source,
        to=tuple(sorted(flow.to)),
        frame=template.frame,
        stamped=template.stamped,
        count=flow.count,
        before=_names(flow.before),
        after=_names(flow.after),
        flooded=_names(flow.flooded),
    )


def _names(hosts: frozenset[str] | None) -> tuple[str, ...] | None:
    return None if hosts is None else tuple(sorted(hosts))


def _set(hosts: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if hosts is None else frozenset(hosts)
