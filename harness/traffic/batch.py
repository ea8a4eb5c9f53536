"""What became of one batch of frames: the questions that a scenario asks.

A negative ("nobody else heard it") holds only if every capture was whole and the batch was
drained. Where that is not so, whatever depends on it raises :class:`Unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import msgspec

from harness.traffic.dissect import field_changes
from harness.traffic.frames import untagged
from harness.traffic.identity import TRAILER_SIZE, locate, stamp
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.outages import Outage, outages
from harness.traffic.sightings import Sighting, differing


class Unknown(Exception):
    """The question cannot be answered from what was captured. Unknown is never pass."""


class NotOnce(AssertionError):
    """A frame was not seen exactly once where it should have been."""


class HeardAt(frozenset[str]):
    """The host points that heard a flow. Compares as a set of names; remembers the flow, so that
    a failed comparison can say what arrived there."""

    sent: Sent

    @classmethod
    def of(cls, names: Iterable[str], sent: Sent) -> HeardAt:
        """The names, of one flow."""
        made = cls(names)
        made.sent = sent
        return made


class Change(msgspec.Struct, frozen=True, dict=True):
    """A frame that is not, tags apart, what was sent.

    ``sent`` and ``got`` are without tags; ``ranges`` the (first, behind last) bytes that differ.
    """

    sighting: Sighting
    sent: bytes
    got: bytes

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges of bytes that differ."""
        return differing(self.sent, self.got)

    @cached_property
    def fields(self) -> list[str]:
        """The fields that differ, as ``"IP.ttl 64 -> 63"``."""
        return field_changes(self.sent, self.got)

    def summary(self) -> str:
        """One line: where, and what is different."""
        spans = ", ".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in self.ranges)
        what = "; ".join(self.fields) or "in the payload"
        return f"changed at {self.sighting.point}: {what} (bytes {spans})"

    __str__ = summary


class Sent:
    """One flow of a batch, and everything that was seen of it."""

    def __init__(self, batch: Batch, flow: Flow) -> None:
        self._batch, self._flow, self._ledger = batch, flow, batch.ledger
        self._arrivals: dict[str, tuple[dict[int, int], int]] = {}

    @property
    def source(self) -> str:
        """The host that sent it."""
        return self._flow.source

    @property
    def to(self) -> frozenset[str]:
        """The hosts that are meant to hear it."""
        return self._flow.to

    @property
    def count(self) -> int:
        """How many frames were sent."""
        return self._flow.count

    @property
    def flow(self) -> int:
        """The number in the frames' identity."""
        return self._flow.number

    @property
    def before(self) -> frozenset[str] | None:
        """The hosts that hear its like by the state before, None where nobody found out."""
        return self._flow.before

    @property
    def after(self) -> frozenset[str] | None:
        """The same by the state after."""
        return self._flow.after

    @property
    def flooded(self) -> frozenset[str] | None:
        """The hosts that hear broadcasts of its source, None where nobody found out."""
        return self._flow.flooded

    @property
    def what(self) -> str:
        """The flow in words."""
        return self._flow.what

    def sent_at(self, seq: int) -> int | None:
        """When number ``seq`` was sent, in ns of the real-time clock, or None when nobody said."""
        return self._flow.sent_at(seq)

    def frame(self, seq: int = 0) -> bytes:
        """The bytes that were sent as number ``seq``."""
        return stamp(self._flow.template, seq)

    @property
    def heard_at(self) -> frozenset[str]:
        """The hosts at which at least one frame arrived, a :class:`HeardAt`. Raise
        :class:`Unknown`."""
        self._batch.check()
        return HeardAt.of(self._names("host"), self)

    @property
    def crossed(self) -> frozenset[str]:
        """The wires on which at least one frame was seen. Raise :class:`Unknown`."""
        self._batch.check()
        return frozenset(self._names("wire"))

    @cached_property
    def sightings(self) -> list[Sighting]:
        """Everything that was seen of it, in order of time. This is evidence, not judgement: it
        may be incomplete, and never raises :class:`Unknown`."""
        return self._ledger.sightings(self._flow.hits, self._flow)

    def all_on(self, point: str) -> list[Sighting]:
        """What was seen at one wire or host, in order of time: at a wire, of the time of several
        switches, whose clocks may differ by milliseconds where they have their own. Raise
        :class:`Unknown`, and ``ValueError`` when there is no such point."""
        self._batch.check()
        return self._ledger.sightings(self._hits_at(point), self._flow)

    def count_at(self, point: str) -> int:
        """How many frames were seen at one wire or host. Raises as :meth:`all_on` does."""
        self._batch.check()
        return len(self._hits_at(point))

    def seen_on(self, point: str) -> Sighting:
        """The only sighting at one wire or host. Raise :class:`NotOnce` when there are none or
        more, and as :meth:`all_on` does."""
        seen = self.all_on(point)
        if len(seen) == 1:
            return seen[0]
        shown = "".join(f"\n  {one.summary()}" for one in (seen or self.sightings)[:10])
        if seen:
            raise NotOnce(f"{self} was seen {len(seen)} times on {point}, not once:{shown}")
        where = f"; it was seen here:{shown}" if shown else ", nor anywhere else"
        raise NotOnce(f"{self} was not seen on {point}{where}")

    @property
    def leaked(self) -> list[Sighting]:
        """What arrived at hosts that were not meant to hear it. Raise :class:`Unknown`."""
        self._batch.check()
        meant = self._flow.to
        hits = [hit for hit in self._host_hits if self._ledger.point_of(hit).name not in meant]
        return self._ledger.sightings(hits, self._flow)

    @property
    def duplicates(self) -> list[Sighting]:
        """What arrived at a host that had heard the same frame before; of frames that carry no
        number, what arrived beyond the count that was sent. Raise :class:`Unknown`."""
        self._batch.check()
        by_host: dict[str, list[int]] = {}
        for hit in self._host_hits:
            by_host.setdefault(self._ledger.point_of(hit).name, []).append(hit)
        again = [hit for hits in by_host.values() if len(hits) > 1 for hit in self._again(hits)]
        return self._ledger.sightings(again, self._flow)

    @property
    def changed(self) -> list[Change]:
        """Sightings whose bytes, tags apart, are not what was sent. Raise :class:`Unknown`."""
        self._batch.check()
        odd = self._ledger.odd
        hits = [hit for hit in self._flow.hits if hit in odd and odd[hit].changed]
        return [self._change(seen) for seen in self._ledger.sightings(hits, self._flow)]

    def missing_at(self, host: str) -> list[int]:
        """The sequence numbers that never arrived at ``host``. Raises as :meth:`all_on` does;
        ``ValueError`` also when frames that carry no number make it impossible to say."""
        self._batch.check()
        numbers, without = self._arrived(host)
        if without:
            raise ValueError(f"{self} carries no numbers: count_at() says how many arrived")
        return [seq for seq in range(self.count) if seq not in numbers]

    @cached_property
    def latencies(self) -> list[int]:
        """For each frame that a host heard, ns from sending to its first arrival, by sequence
        number. Frames without a number or a time of sending are left out."""
        first, _without = self._first_arrivals(self._host_hits)
        pairs = ((self._flow.sent_at(seq), first[seq]) for seq in sorted(first))
        return [arrived - left for left, arrived in pairs if left is not None]

    @property
    def latency(self) -> int | None:
        """The median of :attr:`latencies`, in ns; None when there are none."""
        return sorted(self.latencies)[(len(self.latencies) - 1) // 2] if self.latencies else None

    def outages_at(self, host: str) -> list[Outage]:
        """When ``host`` heard nothing while frames were lost, in order. Raises as :meth:`all_on`
        does."""
        return outages(self.arrivals_at(host), self.count, self._flow.sent_at)

    def arrivals_at(self, host: str) -> dict[int, int]:
        """The numbers that ``host`` heard, and when each first was, in ns of the real-time clock.
        Raises as :meth:`all_on` does."""
        return self._arrived(host)[0]

    @property
    def outage(self) -> int:
        """The longest outage of an intended host, in ns; 0 when nothing was lost. Raise
        :class:`Unknown`."""
        self._batch.check()
        every = (one.length_ns for host in self._flow.to for one in self.outages_at(host))
        return max(every, default=0)

    def summary(self) -> str:
        """One line: what was sent, and where it was seen how often."""
        tally: dict[str, int] = {}
        for hit in self._flow.hits:
            name = self._ledger.point_of(hit).name
            tally[name] = tally.get(name, 0) + 1
        seen = ", ".join(f"{name} ({n})" for name, n in sorted(tally.items())) or "nowhere"
        return f"{self}, seen at: {seen}"

    def __str__(self) -> str:
        frames = "frame" if self.count == 1 else "frames"
        return f"{self.count} {frames} of {self._flow.what}"

    def __repr__(self) -> str:
        return f"<Sent {self.summary()}>"

    def _names(self, kind: str) -> set[str]:
        blocks = {hit >> 32 for hit in self._flow.hits}
        points = (self._ledger.blocks[number].point for number in blocks)
        return {point.name for point in points if point.kind == kind}

    @property
    def _host_hits(self) -> list[int]:
        blocks = self._ledger.blocks
        return [hit for hit in self._flow.hits if blocks[hit >> 32].point.kind == "host"]

    def _again(self, hits: list[int]) -> list[int]:
        """Of the hits at one host, those of frames that it had heard before."""
        heard: dict[int | None, int] = {}
        again = []
        for hit in sorted(hits, key=self._ledger.time_of):
            seq = self._ledger.seq_of(self._flow, hit)
            heard[seq] = heard.get(seq, 0) + 1
            if heard[seq] > (self.count if seq is None else 1):
                again.append(hit)
        return again

    def _hits_at(self, point: str) -> list[int]:
        where = self._ledger.point(point)
        blocks = self._ledger.blocks
        return [hit for hit in self._flow.hits if blocks[hit >> 32].point == where]

    def _change(self, seen: Sighting) -> Change:
        sent = untagged(self.frame(seen.seq or 0))
        inner = seen.inner
        at = locate(inner, len(inner))
        return Change(seen, sent, untagged(inner[: at + TRAILER_SIZE] if at >= 0 else inner))

    def _arrived(self, host: str) -> tuple[dict[int, int], int]:
        """The numbers that a host heard with when each first was, and how many frames there tell
        none."""
        self._batch.check()
        if host not in self._arrivals:
            self._arrivals[host] = self._first_arrivals(self._hits_at(host))
        return self._arrivals[host]

    def _first_arrivals(self, hits: Iterable[int]) -> tuple[dict[int, int], int]:
        first: dict[int, int] = {}
        without = 0
        for hit in hits:
            seq = self._ledger.seq_of(self._flow, hit)
            if seq is None:
                without += 1
            else:
                time = self._ledger.time_of(hit)
                first[seq] = min(time, first.get(seq, time))
        return first, without


class Batch:
    """Everything that was sent and seen between two drains.

    ``drops`` are the frames that each point's capture lost, by name; ``drained`` whether it is
    sure that nothing is under way any more, and ``reason`` why not. ``overflows`` are the frames
    that found no room in the receive queues of switches which ended or began anew meanwhile: so
    many of those that were lost the switch may never have seen.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        drained: bool,
        reason: str = "",
        drops: Mapping[str, int] | None = None,
        overflows: Mapping[str, int] | None = None,
    ) -> None:
        self.ledger = ledger
        self.overflows = dict(overflows or {})
        self.drops = dict(drops or {})
        self.reason = "" if drained else reason or "the drain did not end"
        loss = [f"the capture at {name} dropped {n} frames" for name, n in self.drops.items() if n]
        self.unknown = "; ".join([self.reason] * bool(self.reason) + loss)
        """Why nothing can be said about what did not arrive; empty when it can."""
        self.sent: Sequence[Sent] = [Sent(self, flow) for flow in ledger.flows]

    def check(self) -> None:
        """Raise :class:`Unknown` when a negative cannot be proved from this batch."""
        if self.unknown:
            raise Unknown(f"not known where the frames went: {self.unknown}")

    @property
    def evidence(self) -> Batch:
        """The same batch for who asks only what did arrive, which is a fact though more may have:
        nothing of it raises :class:`Unknown`."""
        return Batch(self.ledger, drained=True) if self.unknown else self

    def result(self, flow: Flow) -> Sent:
        """What became of ``flow``, one that the ledger made."""
        return self.sent[flow.number - self.ledger.flows[0].number]

    @property
    def strays(self) -> list[Sighting]:
        """What arrived at hosts and was sent by nobody in this batch. Raise :class:`Unknown`."""
        return self._strays("host")

    @property
    def wire_strays(self) -> list[Sighting]:
        """The same on wires, where a switch's own frames belong (ARP, LACP, BFD …)."""
        return self._strays("wire")

    @property
    def late(self) -> list[Sighting]:
        """What was seen at hosts and on wires of frames that were sent in an earlier batch, and so
        were proved to be no longer under way. Raise :class:`Unknown`."""
        self.check()
        return self.ledger.sightings(self.ledger.late)

    @property
    def leaked(self) -> list[Sighting]:
        """:attr:`Sent.leaked` of all flows, in order of time."""
        return _by_time(seen for sent in self.sent for seen in sent.leaked)

    @property
    def duplicates(self) -> list[Sighting]:
        """:attr:`Sent.duplicates` of all flows, in order of time."""
        return _by_time(seen for sent in self.sent for seen in sent.duplicates)

    @property
    def changed(self) -> list[Change]:
        """:attr:`Sent.changed` of all flows. Raise :class:`Unknown`."""
        self.check()
        if not self.ledger.odd:
            return []
        return [change for sent in self.sent for change in sent.changed]

    def __iter__(self) -> Iterator[Sent]:
        return iter(self.sent)

    def __len__(self) -> int:
        return len(self.sent)

    def _strays(self, kind: str) -> list[Sighting]:
        self.check()
        ledger = self.ledger
        return ledger.sightings([h for h in ledger.strays if ledger.point_of(h).kind == kind])


def _by_time(seen: Iterable[Sighting]) -> list[Sighting]:
    return sorted(seen, key=lambda one: one.time_ns)
