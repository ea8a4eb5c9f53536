"""What is captured while no batch is under way: before the first, between two, after the last.

Nothing of what the harness sends is under way then, so a frame with the identity of an earlier
flow has come late, wherever it is seen. Frames without an identity are another matter: kernels
talk among themselves (see :meth:`Gap.strays`), and switches on wires.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping

from harness.traffic.batch import Batch, Unknown
from harness.traffic.earlier import Earlier
from harness.traffic.frames import tag_bytes
from harness.traffic.identity import MAGIC_BYTES
from harness.traffic.ledger import Ledger, Place
from harness.traffic.sightings import Point, Sighting

MOST_BLOCKS = 256
"""Blocks that are kept of one gap: at most 4 MB, and far more than anybody reads about."""
KERNELS_SPEAK = {b"\x08\x00", b"\x08\x06", b"\x86\xdd"}
"""EtherTypes of what a kernel sends by itself: IPv4, ARP, IPv6."""


class Gap:
    """What one gap holds. ``after`` is the number of the batch before it (0: none), ``until`` that
    of the batch behind it, if there was one; ``began_ns`` when it began (real-time clock)."""

    def __init__(self, batch: Batch, after: int, until: int | None, began_ns: int) -> None:
        self.batch = batch
        self.after, self.until, self.began_ns = after, until, began_ns

    @property
    def ledger(self) -> Ledger:
        """All that was kept of it."""
        return self.batch.ledger

    def check(self) -> None:
        """Raise :class:`~harness.traffic.batch.Unknown` when not all of it was looked at."""
        if self.batch.unknown:
            raise Unknown(f"not known what arrived {self}: {self.batch.unknown}")

    @property
    def late(self) -> list[Sighting]:
        """As of a batch; evidence, which never raises."""
        return self.ledger.sightings(self.ledger.late)

    def strays(self, kernels: Collection[bytes]) -> list[Sighting]:
        """What arrived at hosts and was sent by nobody, late frames aside; evidence, which never
        raises. ``kernels`` are the MAC addresses of interfaces whose kernels have IP addresses:
        they ask for each other and answer whenever they like."""
        late = set(self.ledger.late)
        at_hosts = (
            hit
            for hit in self.ledger.strays
            if hit not in late and self.ledger.point_of(hit).kind == "host"
        )
        seen = self.ledger.sightings(list(at_hosts))
        return [one for one in seen if not _is_a_kernels(one.data, kernels)]

    def summary(self, seen: Sighting) -> str:
        """One line: when and where something was seen, and what it is."""
        elapsed = (seen.time_ns - self.began_ns) / 1e6
        since = f"batch {self.after} ended" if self.after else "the lab was up"
        return f"{self}, {elapsed:.1f} ms after {since}: {seen.summary()}"

    def __str__(self) -> str:
        if self.until is None:
            return f"after batch {self.after}" if self.after else "without any batch"
        if not self.after:
            return "before the first batch"
        return f"between batches {self.after} and {self.until}"


class Gaps:
    """Collects what is captured outside batches, and numbers them.

    Nothing is looked at before :meth:`open` is called for the first time.
    """

    def __init__(
        self,
        run: int,
        points: Iterable[Point],
        earlier: Earlier,
        ahead: Mapping[Place, int] | None = None,
    ) -> None:
        """The arguments are those of :class:`~harness.traffic.ledger.Ledger`."""
        self._run, self._points, self._earlier = run, tuple(points), earlier
        self._ahead = ahead
        self._kinds = {point.name: point.kind for point in self._points}
        self._ledger: Ledger | None = None
        self._first_flow = 1
        self._batches = 0
        self._began_ns = 0
        self._left_out = 0
        self.expecting_strays = False
        """Whether frames without an identity may come from anywhere, so that only those with one
        are worth a look."""
        self.found: list[Gap] = []
        """The gaps that hold anything."""

    def take(self, point: str, port: str | None, block: bytes) -> None:
        """Look through a block of a capture, and keep it if anything in it is worth a report."""
        ledger = self._ledger
        if ledger is None:
            return
        anything = self._kinds[point] == "host" and not self.expecting_strays
        if not anything and MAGIC_BYTES not in block:
            return
        if len(ledger.blocks) >= MOST_BLOCKS:
            self._left_out += 1
            return
        ledger.take(point, block, port)

    def open(self, first_flow: int, *, batches: int) -> None:
        """A gap begins behind so many ``batches``, in none of which was a flow with the number
        ``first_flow`` or a higher one."""
        self._first_flow, self._batches = first_flow, batches
        self._began_ns = time.time_ns()
        self._begin()

    def ignore(self) -> None:
        """A batch has ended of which nobody knows what is still under way: what arrives says
        nothing, up to the next :meth:`open`."""
        self._ledger = None

    def close(self, drops: Mapping[str, int], *, by_batch: bool) -> None:
        """Put what was found so far among :attr:`found`; ``by_batch`` says whether a batch begins
        here. ``drops`` are the frames that each point's capture has lost."""
        ledger = self._ledger
        if ledger is None:
            return
        left_out = f"{self._left_out} blocks more were captured than are looked at"
        reason = left_out if self._left_out else ""
        batch = Batch(ledger, drained=not reason, reason=reason, drops=drops)
        if ledger.strays or batch.unknown:
            until = self._batches + 1 if by_batch else None
            self.found.append(Gap(batch, self._batches, until, self._began_ns))
        self._begin()

    def _begin(self) -> None:
        self._left_out = 0
        self._ledger = Ledger(
            self._run,
            self._points,
            first_flow=self._first_flow,
            earlier=self._earlier,
            ahead=self._ahead,
        )


def _is_a_kernels(data: bytes, macs: Collection[bytes]) -> bool:
    at = 12 + tag_bytes(data)
    return data[6:12] in macs and data[at : at + 2] in KERNELS_SPEAK
