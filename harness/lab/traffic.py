"""Background traffic: frames that flow while something is done to a switch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.lab.errors import LabError
from harness.lab.recording import read_states
from harness.nodes.base import NodeError
from harness.ovs.errors import OvsError
from harness.traffic.batch import Batch, Unknown
from harness.traffic.frames import probe_frame
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.sightings import Sighting

if TYPE_CHECKING:
    from harness.lab.lab import Lab


class Traffic:
    """Streams between pairs of hosts, from entering the context to leaving it.

    Before they begin every pair is probed once: where those probes were heard is where the flow
    belongs. For who judges the history the same is done once they have ended, and the states of
    the switches are noted before and after. The questions can be asked once the context is left.
    """

    def __init__(
        self, lab: Lab, *, rate: float, pairs: Iterable[tuple[str, str]] | None, size: int
    ) -> None:
        if rate <= 0:
            raise LabError(f"a rate is more than 0 frames a second, not {rate}")
        self._lab = lab
        self._rate = rate
        self._size = size
        self._pairs = list(pairs) if pairs is not None else None
        self._streams: list[tuple[Flow, int]] = []
        self._batch: Batch | None = None

    def __enter__(self) -> Traffic:
        lab = self._lab
        if self._pairs is None:
            reach = lab.probe_all().reach
            self._pairs = [(a, b) for a in reach for b in sorted(reach.unicast[a])]
        if not self._pairs:
            raise LabError("no two hosts can hear each other: there is no traffic to make")
        flooded, before = self._reach()
        self._states = read_states(lab.switches)
        self._ledger = lab.engine.ledger()
        flows = self._flows(self._ledger)
        for flow, heard in zip(flows, before, strict=True):
            flow.before, flow.flooded = heard, flooded[flow.source]
        rate = self._rate / len(flows)
        lab.engine.begin(self._ledger)
        try:
            for flow in flows:
                self._streams.append((flow, lab.engine.start_stream(flow, rate)))
        except BaseException:
            lab.engine.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        engine = self._lab.engine
        try:
            if kind is not None and not issubclass(kind, Exception):
                # Ctrl-C: nobody will ask, and a drain may take its time.
                return
            for flow, number in self._streams:
                engine.stop_stream(flow, number)
            reason = engine.drain.finish()
            self._batch = self._lab.judge(engine.conclude(self._ledger, reason))
        except Exception:
            # What went wrong inside the context says more than that the traffic then ended badly.
            if kind is None:
                raise
        finally:
            engine.end()
        if kind is None and self._batch is not None:
            self._look_after(self._batch)

    def _look_after(self, batch: Batch) -> None:
        """Note what the switches are and do now. That it can't be known is no failure here: then
        nobody who judges the history takes it for known."""
        self._lab.recorder.keep(self._states, read_states(self._lab.switches))
        if batch.unknown:
            return
        with suppress(NodeError, OvsError):
            # A switch that has restarted knows no tunnel's end, and drops the first frames there.
            self._lab.meet_neighbours()
        with suppress(LabError, NodeError, OvsError, Unknown):
            for sent, heard in zip(batch.ledger.flows, self._reach()[1], strict=True):
                sent.after = heard

    def _reach(self) -> tuple[dict[str, frozenset[str]], list[frozenset[str]]]:
        """Who hears the broadcasts of each host that takes part, and then each pair's frames."""
        lab = self._lab
        names = dict.fromkeys(name for pair in self._pairs or () for name in pair)
        flooded = {sent.source: frozenset(sent.heard_at) for sent in lab.announce(*names)}
        ledger = lab.engine.ledger()
        phase = [(flow, 1) for flow in self._flows(ledger)]
        pairs = lab.judge(lab.engine.exchange(ledger, [phase]))
        return flooded, [frozenset(sent.heard_at) for sent in pairs]

    def _flows(self, ledger: Ledger) -> list[Flow]:
        lab = self._lab
        return [
            ledger.flow(a, probe_frame(lab.mac(a), lab.mac(b), size=self._size), to=[b])
            for a, b in self._pairs or ()
        ]

    # -- questions

    @property
    def batch(self) -> Batch:
        """Everything that was sent and seen. Raise :class:`LabError` while the traffic flows."""
        if self._batch is None:
            raise LabError("the traffic has not ended: ask after the `with` block")
        return self._batch

    @property
    def sent(self) -> int:
        """How many frames were sent."""
        return sum(flow.count for flow in self.batch)

    @property
    def lost(self) -> int:
        """How many frames the host they were for did not hear."""
        return sum(len(flow.missing_at(host)) for flow in self.batch for host in flow.to)

    @property
    def leaked(self) -> list[Sighting]:
        """Frames at hosts that they were not for, and that did not hear their like before."""
        return [
            seen
            for flow in self.batch
            for seen in flow.leaked
            if seen.point not in (flow.before or ())
        ]

    @property
    def duplicates(self) -> list[Sighting]:
        """Frames that a host heard twice."""
        return self.batch.duplicates

    @property
    def outage(self) -> int:
        """The longest time in ns for which a host did not hear what was sent to it."""
        return max(flow.outage for flow in self.batch)
