"""Who sent what, and which of it was seen where: every captured frame finds its sender here.

The loop over frames makes no object of its own for a frame: a *hit* is one integer, the number of
the captured block in its upper bits and the frame's header offset in the lower 32. Whoever asks
for a sighting later gets it from there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from harness.traffic import ring
from harness.traffic.earlier import Earlier, is_answer, what_of
from harness.traffic.frames import Blank, untagged
from harness.traffic.identity import MAGIC_BYTES, TRAILER, TRAILER_SIZE, Template, locate
from harness.traffic.sightings import Point, Sighting, guess_start, place

_SEQ_DIGEST = Struct(">4sI")
FEATURE_PROBE = bytes(12) + b"\x12\x34"
"""The one frame that ovs-vswitchd sends by itself when it starts on a datapath of the kernel's: it
finds out whether a datapath can truncate what it puts out by having it put this frame out at its
port 1 (``check_trunc_action()`` in ofproto/ofproto-dpif.c). On a datapath that has just been made
there is none; one that outlived the last ovs-vswitchd has somebody there, who hears it."""
_KEY_SIZE = 12  # magic, run and flow: what all frames of one flow share in their trailers


Place = tuple[str, str | None]
"""An attachment point, and on a wire the port that is seen from."""


class Captured(NamedTuple):
    """A block of a capture ring, and where it was captured."""

    point: Point
    port: str | None
    data: bytes
    ahead: int = 0
    """By how many ns the clock there is ahead of the harness's."""

    def time_of(self, frame: ring.RingFrame) -> int:
        """When one of its frames was seen, in ns of the harness's real-time clock: whoever wants
        to know asks here."""
        return frame[4] - self.ahead


class Oddity(NamedTuple):
    """What is known of a hit that is not simply its template with a number."""

    seq: int | None = None
    start: int = 0
    ethernet: bool = True
    changed: bool = False
    note: str = ""


class Flow(msgspec.Struct, eq=False):
    """Frames that share one template. ``to`` are the host points that are meant to hear it.

    Who sends adds to ``count``, the frames sent so far, and to ``times``.
    """

    number: int
    source: str
    to: frozenset[str]
    template: Template
    bare: bytes
    """The template without tags and trailer."""
    count: int = 0
    hits: list[int] = []
    times: list[tuple[int, int]] = []
    """(first sequence number, when it was handed to the kernel, in ns of the real-time clock) of
    each burst, ascending."""
    before: frozenset[str] | None = None
    """The hosts that hear its like by the state before whatever is done while it is sent; None
    where nobody found out."""
    after: frozenset[str] | None = None
    """The same by the state after."""
    flooded: frozenset[str] | None = None
    """The hosts that hear broadcasts of its source: where a switch that has forgotten an address
    floods (IEEE 802.1Q-2022, 8.8.1)."""

    def sent_at(self, seq: int) -> int | None:
        """When ``seq`` was handed to the kernel, in ns, or None when nobody said."""
        at = bisect_right(self.times, seq, key=lambda mark: mark[0])
        return self.times[at - 1][1] if at else None

    @property
    def what(self) -> str:
        """The flow in words."""
        return what_of(self.number, self.source, self.to)


class Ledger:
    """Collects what one batch sends and what is captured meanwhile.

    ``run`` is an unsigned 32-bit number that no other run on the same network has; ``first_flow``
    the number of the first flow, so that batches of one run are told apart; ``earlier`` knows the
    flows of the batches before it; ``ahead`` by how many ns the clocks where frames are captured
    are ahead of the harness's, if they are.
    """

    def __init__(
        self,
        run: int,
        points: Iterable[Point],
        *,
        first_flow: int = 1,
        earlier: Earlier | None = None,
        ahead: Mapping[Place, int] | None = None,
    ) -> None:
        self.run = run
        self.points = {point.name: point for point in points}
        self.flows: list[Flow] = []
        self.blocks: list[Captured] = []
        self.strays: list[int] = []
        """Hits that no flow claims."""
        self.late: list[int] = []
        """Those of them that carry the identity of a flow of an earlier batch."""
        self.feature_probes: list[int] = []
        """Hits that are :data:`FEATURE_PROBE`, and no strays."""
        self.odd: dict[int, Oddity] = {}
        self.first_flow = first_flow
        self._earlier = earlier or Earlier()
        self._ahead = {} if ahead is None else ahead
        self._by_key: dict[bytes, tuple[bytes, int, list[int], Flow]] = {}
        self._by_content: dict[bytes, Flow] = {}
        self._by_macs: dict[bytes, list[Flow]] | None = None

    def flow(self, source: str, frame: Blank | bytes, *, to: Iterable[str] = ()) -> Flow:
        """Register a flow from the host point ``source``; plain ``bytes`` are those of
        :func:`~harness.traffic.frames.probe_frame`, with a blank trailer.

        Raise ``ValueError`` for an unknown point, or for a frame without identity that another
        flow of the batch sends too, as the two could not be told apart.
        """
        meant = frozenset(to)
        for name in (source, *meant):
            self.point(name, "host")
        data, stamped = frame if isinstance(frame, Blank) else (frame, True)
        number = self.first_flow + len(self.flows)
        template = Template.make(data, self.run, number, stamped=stamped)
        flow = Flow(number, source, meant, template, untagged(template.body))
        if not stamped:
            other = self._by_content.setdefault(flow.bare, flow)
            if other is not flow:
                raise ValueError(
                    f"{other.source} and {source} send the same frame without an identity in one "
                    "batch: which of them arrives could not be told; send them one after the other"
                )
        else:
            key = template.frame[-TRAILER_SIZE:][:_KEY_SIZE]
            self._by_key[key] = (flow.bare, template.seed, flow.hits, flow)
        self.flows.append(flow)
        self._by_macs = None
        return flow

    def point(self, name: str, kind: str | None = None) -> Point:
        """The attachment point called ``name``. Raise ``ValueError`` when there is none."""
        point = self.points.get(name)
        if point is None or (kind is not None and point.kind != kind):
            names = sorted(p.name for p in self.points.values() if kind in (None, p.kind))
            what = "attachment point" if kind is None else kind
            raise ValueError(f"no {what} is called {name!r}; there are: {', '.join(names)}")
        return point

    def take(self, point: str, block: bytes, port: str | None = None) -> None:
        """Match the frames of one retired ring block, ``block[:blk_len]``, captured at ``point``.

        Raise ``ValueError`` for an unknown point or a damaged block.
        """
        where = self.point(point)
        base = len(self.blocks) << 32
        self.blocks.append(Captured(where, port, block, self._ahead.get((point, port), 0)))
        wire = where.kind == "wire"
        unsent = ring.OUTGOING if not wire else -1
        known = self._by_key.get
        starts = block.startswith
        unpack = _SEQ_DIGEST.unpack_from
        for frame in ring.walk(block):
            if frame[5] == unsent:  # what a host sends itself did not arrive there
                continue
            first = frame[1]
            at = first + frame[2] - TRAILER_SIZE
            found = known(block[at : at + 12])
            if found is not None:
                bare, seed, hits, _ = found
                seq, digest = unpack(block, at + _KEY_SIZE)
                if at - first == len(bare) and starts(bare, first) and crc32(seq, seed) == digest:
                    hits.append(base + frame[0])
                    continue
            self._odd(base + frame[0], ring.restore(block, frame), wire=wire)

    def _odd(self, hit: int, data: bytes, *, wire: bool) -> None:
        """Find the sender of a frame that is not simply a template with a number."""
        at = locate(data, len(data))
        if at < 0:
            self._by_bytes(hit, data, wire=wire)
            return
        found = self._by_key.get(data[at : at + _KEY_SIZE])
        if found is None:
            self._foreign(hit, data, at)
            return
        bare, seed, _, flow = found
        seq, digest = TRAILER.unpack_from(data, at)[3:5]
        if crc32(seq.to_bytes(4, "big"), seed) != digest:
            self._stray(hit, f"carries a forged or damaged identity of {flow.what}")
            return
        spot = place(data, at, bare, wire=wire)
        if spot is not None:
            self._claim(flow, hit, Oddity(seq, spot.start, spot.ethernet))
        elif is_answer(data[:at], bare):
            self._stray(hit, f"an answer to {flow.what}", seq)
        else:
            start = guess_start(data, at, bare, wire=wire)
            self._claim(flow, hit, Oddity(seq, start, changed=True))

    def _foreign(self, hit: int, data: bytes, at: int) -> None:
        """A frame with the identity of a flow that is not of this batch."""
        _, run, number, seq, *_ = TRAILER.unpack_from(data, at)
        if run != self.run:
            self._stray(hit, "carries the identity of another run")
        elif number >= self.first_flow:
            self._stray(hit, f"carries the identity of flow {number}, not of this batch")
        elif self._earlier.is_answer(number, data[:at]):
            self._stray(hit, f"an answer to {self._earlier.what(number)}", seq)
        else:
            self.late.append(hit)
            self._stray(hit, f"carries the identity of {self._earlier.what(number)}", seq)

    def _by_bytes(self, hit: int, data: bytes, *, wire: bool) -> None:
        """A frame without identity: one that was sent so, one cut short, or nobody's."""
        plain = untagged(data)
        flow = self._by_content.get(plain)
        if flow is not None:
            self._claim(flow, hit, Oddity())
            return
        for bare, flow in self._by_content.items():
            end = len(data) - _padding(plain, bare)
            spot = place(data, end, bare, wire=wire)
            if spot is not None:
                self._claim(flow, hit, Oddity(None, spot.start, spot.ethernet))
                return
        if data == FEATURE_PROBE:
            self.feature_probes.append(hit)
            self.odd[hit] = Oddity(note="ovs-vswitchd tries whether the datapath can truncate")
            return
        candidates = self._cut_short(plain)
        if len(candidates) == 1:
            self._claim(candidates[0], hit, Oddity(changed=True, note="cut short"))
        elif candidates:
            self._stray(hit, "cut short; it may be of more than one flow")
        elif MAGIC_BYTES in data:
            self._stray(hit, "carries a damaged identity")
        else:
            self._stray(hit, "carries no identity")

    def _cut_short(self, plain: bytes) -> list[Flow]:
        """The flows whose frames begin with ``plain`` and are longer."""
        if self._by_macs is None:
            self._by_macs = {}
            for flow in self.flows:
                self._by_macs.setdefault(flow.bare[:12], []).append(flow)
        return [
            flow
            for flow in self._by_macs.get(plain[:12], ())
            if 14 <= len(plain) < len(flow.bare) + TRAILER_SIZE * flow.template.stamped
            and plain[: len(flow.bare)] == flow.bare[: len(plain)]
        ]

    def _claim(self, flow: Flow, hit: int, oddity: Oddity) -> None:
        flow.hits.append(hit)
        self.odd[hit] = oddity

    def _stray(self, hit: int, note: str, seq: int | None = None) -> None:
        self.strays.append(hit)
        self.odd[hit] = Oddity(seq, note=note)

    # What a hit stands for.

    def point_of(self, hit: int) -> Point:
        """Where the frame was captured."""
        return self.blocks[hit >> 32].point

    def seq_of(self, flow: Flow, hit: int) -> int | None:
        """The sequence number of a hit of ``flow``; None when its frame does not tell."""
        odd = self.odd.get(hit)
        if odd is not None:
            return odd.seq if odd.seq is not None or flow.count != 1 else 0
        block = self.blocks[hit >> 32].data
        frame = ring.frame_at(block, hit & 0xFFFFFFFF)
        at = frame[1] + frame[2] - TRAILER_SIZE + _KEY_SIZE
        return int.from_bytes(block[at : at + 4], "big")

    def time_of(self, hit: int) -> int:
        """The kernel's time stamp in ns."""
        captured = self.blocks[hit >> 32]
        return captured.time_of(ring.frame_at(captured.data, hit & 0xFFFFFFFF))

    def sighting(self, hit: int, flow: Flow | None = None) -> Sighting:
        """The sighting of a hit of ``flow``, or of a stray."""
        captured = self.blocks[hit >> 32]
        frame = ring.frame_at(captured.data, hit & 0xFFFFFFFF)
        odd = self.odd.get(hit, Oddity())
        return Sighting(
            point=captured.point.name,
            port=captured.port,
            direction="out" if frame[5] == ring.OUTGOING else "in",
            time_ns=captured.time_of(frame),
            data=ring.restore(captured.data, frame),
            wire_len=frame[3] + (4 if frame[6] else 0),
            seq=odd.seq if flow is None else self.seq_of(flow, hit),
            start=odd.start,
            has_ethernet=odd.ethernet,
            note=odd.note,
        )

    def sightings(self, hits: Sequence[int], flow: Flow | None = None) -> list[Sighting]:
        """The sightings of hits, in order of time."""
        return sorted((self.sighting(hit, flow) for hit in hits), key=lambda seen: seen.time_ns)


def _padding(plain: bytes, bare: bytes) -> int:
    """How many zero bytes the way appended to ``bare`` to make it ``plain``."""
    extra = len(plain) - len(bare)
    return extra if extra > 0 and plain.startswith(bare) and not any(plain[-extra:]) else 0
