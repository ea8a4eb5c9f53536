"""Sends batches of frames through a lab and collects what was seen of them, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec

from harness.lab.clocks import Clocks
from harness.lab.drain import Drain
from harness.lab.errors import LabError
from harness.lab.plan import Endpoint, Plan
from harness.lab.window import RECEIVE_ROOM, Window
from harness.nodes.base import Pending
from harness.nodes.remote import RemoteNode
from harness.traffic.batch import Batch
from harness.traffic.earlier import Earlier
from harness.traffic.gaps import Gaps
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.sightings import Point

RING_BLOCK = 16 << 10
"""Bytes of one block of a capture ring: the largest frame (9,216 bytes and headers) fits."""
RING_BLOCKS = 64
MANY_POINTS = 64
"""With more captures than this their rings are half as large."""
POINTS_PER_RETIRE_MS = 12
"""A block is handed over after this many captures' worth of milliseconds: with many, blocks with
single frames would keep the agent busy. With few, a verdict does not wait long."""
SHORTEST_RETIRE_MS = 2
SLOWEST_PACE = 10_000
"""Frames a second, each counted once for every host that may hear it, that a switch on a busy
machine delivers at least: what a drain's bound is lengthened by."""

Handler = Callable[[str, str | None, bytes], None]
Place = tuple[str, str | None, tuple[str | None, str, str]]
"""Attachment point, port on a wire, and where to capture: namespace, interface, direction."""


class Capture(msgspec.Struct):
    """One capture under way: where, under which number at its node's agent, and how many frames
    it has dropped so far."""

    point: str
    port: str | None
    switch: str
    number: int
    drops: int = 0


class Engine:
    """The sending and capturing half of one lab."""

    def __init__(
        self, plan: Plan, nodes: Mapping[str, RemoteNode], drain: Drain, *, run: int
    ) -> None:
        self.plan = plan
        self.run = run
        self.drain = drain
        self._nodes = nodes
        self._captures: list[Capture] = []
        self._dropped_before: dict[str, int] = {}
        """Frames that captures dropped, by attachment point, which nobody has been told yet."""
        self._ports: dict[str, int] = {}
        self._streams: dict[tuple[str, int], str] = {}
        """Who sends in the background, by switch and the stream's number there."""
        self._next_flow = 1
        self._batches = 0
        self._earlier = Earlier()
        self._clocks = Clocks(nodes)
        self._ahead: dict[tuple[str, str | None], int] = {}
        """By how many ns the clocks are ahead where captures are open."""
        self.gaps = Gaps(run, self.points, self._earlier, self._ahead)
        """What is captured outside batches."""
        self._listener: Handler = self._between
        self._under_way: Ledger | None = None
        self._drained = False
        self.watchers: list[Handler] = []
        """Whoever looks on: they get everything captured, in a batch or not."""
        shared = any(len(wire.ends) > 1 for wire in plan.wires.values())
        self._shared_room = (
            RECEIVE_ROOM // max(switch.replication for switch in plan.switches.values())
            if shared
            else None
        )

    @property
    def points(self) -> list[Point]:
        """All attachment points."""
        hosts = [Point(name, "host") for name in self.plan.endpoints]
        return hosts + [Point(name, "wire") for name in self.plan.wires]

    @property
    def places(self) -> list[tuple[str, str | None]]:
        """Where captures are open: the attachment point, and on a wire the port."""
        return [(capture.point, capture.port) for capture in self._captures]

    # -- set-up

    def open_soon(self, switches: Collection[str], *, inside: bool) -> list[Pending]:
        """Begin to open a capture at every attachment point at these switches: at hosts and on
        wires, or (``inside``) at the switches' internal ports, which exist only once a switch is
        configured. To be waited for."""
        pending: list[Pending] = []
        ring = self._ring()
        for switch, places in self._places(inside=inside).items():
            if switch not in switches:
                continue
            handlers = [partial(self._heard, point, port) for point, port, _where in places]
            where = [where for _point, _port, where in places]
            numbers = self._nodes[switch].open_captures(where, handlers, **ring)
            pending.append(_Opening(numbers, partial(self._opened, switch, places)))
        return pending

    def _ring(self) -> dict[str, int]:
        points = len(self.plan.endpoints) + sum(len(w.ends) for w in self.plan.wires.values())
        return {
            "blocks": RING_BLOCKS if points <= MANY_POINTS else RING_BLOCKS // 2,
            "block_size": RING_BLOCK,
            "retire": max(SHORTEST_RETIRE_MS, points // POINTS_PER_RETIRE_MS),
        }

    def _opened(self, switch: str, places: Sequence[Place], numbers: Sequence[int]) -> None:
        for (point, port, _where), number in zip(places, numbers, strict=True):
            self._captures.append(Capture(point, port, switch, number))

    def _places(self, *, inside: bool) -> dict[str, list[Place]]:
        places: dict[str, list[Place]] = {
            name: [
                (one.name, None, (one.space, one.interface, "in"))
                for one in switch.endpoints
                if one.is_host != inside
            ]
            for name, switch in self.plan.switches.items()
        }
        for wire in () if inside else self.plan.wires.values():
            for end in wire.ends:
                # What a switch puts on the wire, seen where it does: each frame once.
                where = (None, end.interface, "out")
                places[end.switch].append((wire.name, f"{end.switch}:{end.interface}", where))
        return {switch: found for switch, found in places.items() if found}

    def open_ports(self, switches: Iterable[str]) -> None:
        """Open a port to send through at every endpoint at these switches."""
        planned = {name: self.plan.switches[name] for name in switches}
        ports = {
            name: self._nodes[name].open_ports(
                [(one.space, one.interface) for one in switch.endpoints]
            )
            for name, switch in planned.items()
        }
        for switch, answer in ports.items():
            names = (one.name for one in self.plan.switches[switch].endpoints)
            self._ports.update(zip(names, answer.result(), strict=True))
        hosts = {
            name: [one.port for one in switch.endpoints if one.is_host]
            for name, switch in planned.items()
        }
        self.drain.know_ports(hosts)

    def take_leave(self, switch: str) -> None:
        """Read all captures to their end, for a switch's node may end now. Raise :class:`LabError`
        when somebody sends from there in the background: how much, nobody could say any more."""
        sending = sorted(
            {who for (where, _number), who in self._streams.items() if where == switch}
        )
        if sending:
            raise LabError(
                f"{', '.join(sending)} would end with {switch}, and nobody could say what they had "
                "sent: let traffic come from hosts of other switches"
            )
        self._dropped_before = self.sync()

    def lose(self, switch: str) -> None:
        """Take note that a switch's node has ended, with all that was open there."""
        self._captures = [capture for capture in self._captures if capture.switch != switch]
        self.drain.lose(switch)

    def _heard(self, point: str, port: str | None, block: bytes) -> None:
        self._listener(point, port, block)
        for watcher in tuple(self.watchers):
            watcher(point, port, block)

    def _between(self, point: str, port: str | None, block: bytes) -> None:
        """What is captured outside batches."""
        if any(node.ran_in_hosts for node in self._nodes.values()):
            self.gaps.expecting_strays = True
        self.gaps.take(point, port, block)

    # -- batches

    def ledger(self) -> Ledger:
        """An empty ledger for the next batch."""
        return Ledger(
            self.run,
            self.points,
            first_flow=self._next_flow,
            earlier=self._earlier,
            ahead=self._ahead,
        )

    def exchange(self, ledger: Ledger, phases: Sequence[Sequence[tuple[Flow, int]]]) -> Batch:
        """Send ``count`` frames of each flow, one phase after the other, drain, and judge.

        A phase begins when everything of the phase before it has arrived.
        """
        frames = sum(count for phase in phases for _flow, count in phase)
        bound = self.drain.bound + frames * len(self.plan.endpoints) / SLOWEST_PACE
        with self.listening(ledger):
            for number, phase in enumerate(phases):
                if number:
                    reason = self.drain.finish(bound)
                    if reason:
                        return self.conclude(ledger, reason)
                    self.drain.settle()
                self._send_phase(phase, time.monotonic() + bound)
            batch = self.conclude(ledger, self.drain.finish(bound))
        self._note_latencies(batch)
        return batch

    @contextmanager
    def listening(self, ledger: Ledger) -> Iterator[None]:
        """A context in which everything captured goes into ``ledger``: see :meth:`begin`."""
        self.begin(ledger)
        try:
            yield
        finally:
            self.end()

    def begin(self, ledger: Ledger) -> None:
        """Begin a batch: from now on everything captured goes into ``ledger``. :meth:`conclude`
        judges it, :meth:`end` ends it. Raise :class:`LabError` when one is under way already."""
        if self._under_way is not None:
            raise LabError(
                "a batch is under way, traffic perhaps: its frames and those of another one could "
                "not be told apart; send before or after it"
            )
        self._read_clocks()
        self.drain.begin()
        self.look_through_gap(by_batch=True)
        self._under_way, self._drained = ledger, False
        self._listener = lambda point, port, block: ledger.take(point, block, port)

    def end(self) -> None:
        """Listen for nothing in particular again: a gap begins. What was not concluded, or not
        drained, may still be under way, and then the gap says nothing."""
        ledger, self._under_way = self._under_way, None
        self._listener = self._between
        if ledger is None:
            return
        self._next_flow += len(ledger.flows)
        self._batches += 1
        self._earlier.add(ledger.flows)
        if self._drained:
            self.gaps.open(self._next_flow, batches=self._batches)
        else:
            self.gaps.ignore()

    def watch_gaps(self) -> None:
        """From now on look at what arrives outside batches too; what came before is forgotten."""
        self._read_clocks()
        self.sync()
        self.gaps.open(self._next_flow, batches=self._batches)

    def _read_clocks(self) -> None:
        if self._clocks.read():
            for capture in self._captures:
                self._ahead[capture.point, capture.port] = self._clocks.ahead(capture.switch)

    def look_through_gap(self, *, by_batch: bool = False) -> None:
        """Read all captures to their end, and note what has arrived since the last batch;
        ``by_batch`` says whether another one begins here. Nothing while one is under way."""
        if self._under_way is None:
            self.gaps.close(self.sync(), by_batch=by_batch)

    def conclude(self, ledger: Ledger, reason: str) -> Batch:
        """Read all captures to their end and judge what they hold."""
        drops = self.sync()
        self._drained = not reason
        return Batch(
            ledger,
            drained=not reason,
            reason=reason,
            drops=drops,
            overflows=self.drain.overflows,
        )

    def sync(self) -> dict[str, int]:
        """Take in everything that was captured; return the frames dropped since the last time, by
        attachment point."""
        by_switch: dict[str, list[Capture]] = {}
        for capture in self._captures:
            by_switch.setdefault(capture.switch, []).append(capture)
        asked = [
            (captures, self._nodes[switch].sync_captures([one.number for one in captures]))
            for switch, captures in by_switch.items()
        ]
        lost, self._dropped_before = self._dropped_before, {}
        for captures, answer in asked:
            for capture, (_packets, drops) in zip(captures, answer.result(), strict=True):
                fresh, capture.drops = drops - capture.drops, drops
                if fresh:
                    lost[capture.point] = lost.get(capture.point, 0) + fresh
        return lost

    def _note_latencies(self, batch: Batch) -> None:
        # A sample is enough: a batch of thousands would take longer to look through than to send.
        longest = [max(sent.latencies, default=0) for sent in batch.sent[:64]]
        self.drain.learn_latency(max(longest, default=0) / 1e9)

    # -- sending

    def _send_phase(self, phase: Sequence[tuple[Flow, int]], deadline: float) -> None:
        left = list(phase)
        while left:
            window = Window(self._shared_room)
            left = window.fill(left)
            self._send_window(window)
            if left:
                self.drain.pass_on(deadline)

    def _send_window(self, window: Window) -> None:
        by_switch: dict[str, list[str]] = {}
        for source in window.frames:
            by_switch.setdefault(self.plan.endpoints[source].switch, []).append(source)
        asked = []
        for switch, sources in by_switch.items():
            batch = []
            blobs = []
            for source in sources:
                lengths: list[int] = []
                for flow, count, data in window.frames[source]:
                    lengths += [len(flow.template.frame)] * count
                    blobs.append(data)
                batch.append((self._ports[source], lengths))
            asked.append(
                (switch, sources, batch, self._nodes[switch].send_frames(batch, b"".join(blobs)))
            )
        for switch, sources, batch, answer in asked:
            results, ahead = answer.result(), self._clocks.ahead(switch)
            for source, (_port, lengths), (sent, began, error) in zip(
                sources, batch, results, strict=True
            ):
                self.drain.sent(switch, self.plan.endpoints[source].port, sent)
                if sent < len(lengths):
                    raise LabError(
                        f"{source} could not send a frame of {lengths[sent]} bytes: {error}"
                    )
                for flow, count, _data in window.frames[source]:
                    flow.times.append((flow.count - count, began - ahead))

    # -- streams

    def start_stream(self, flow: Flow, rate: float | None, count: int | None = None) -> int:
        """Send frames of ``flow`` in the background; return the stream's number."""
        endpoint = self.plan.endpoints[flow.source]
        spec: dict[str, Any] = {"rate": rate, "count": count, **flow.template.stream_spec()}
        answer = self._node_of(endpoint).start_stream(
            self._ports[flow.source], spec, flow.template.frame
        )
        number: int = answer.result()
        self._streams[endpoint.switch, number] = flow.source
        return number

    def stop_stream(self, flow: Flow, number: int, *, wait: bool = False) -> None:
        """End a stream and note what it sent."""
        endpoint = self.plan.endpoints[flow.source]
        answer = self._node_of(endpoint).stop_stream(number, wait=wait)
        ended = answer.result()
        del self._streams[endpoint.switch, number]
        marks, ahead = memoryview(answer.blob()).cast("Q"), self._clocks.ahead(endpoint.switch)
        flow.times += [
            (seq, began - ahead) for seq, began in zip(marks[::2], marks[1::2], strict=True)
        ]
        flow.count += ended["sent"]
        self.drain.sent(endpoint.switch, endpoint.port, ended["sent"])
        if ended["error"]:
            raise LabError(f"{flow.source} could not go on sending: {ended['error']}")

    def _node_of(self, endpoint: Endpoint) -> RemoteNode:
        return self._nodes[endpoint.switch]


class _Opening:
    """Captures that are being opened; take note of them once they are."""

    def __init__(self, numbers: Pending, opened: Callable[[Sequence[int]], None]) -> None:
        self._numbers, self._opened = numbers, opened

    def result(self, timeout: float | None = None) -> None:
        self._opened(self._numbers.result(timeout))
