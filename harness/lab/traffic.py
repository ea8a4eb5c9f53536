"""Background traffic: frames that flow while something is done to a switch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.lab.errors import LabError
from harness.traffic.batch import Batch, Sent
from harness.traffic.frames import probe_frame
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.sightings import Sighting

if TYPE_CHECKING:
    from harness.lab.lab import Lab


class Traffic:
    """Streams between pairs of hosts, from entering the context to leaving it.

    Before they begin every pair is probed once: where those probes were heard is where the flow
    belongs. The questions can be asked once the context is left.
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
        self._usual: dict[tuple[str, str], frozenset[str]] = {}
        self._batch: Batch | None = None

    def __enter__(self) -> Traffic:
        lab = self._lab
        if self._pairs is None:
            reach = lab.probe_all().reach
            self._pairs = [(a, b) for a in reach for b in sorted(reach.unicast[a])]
        else:
            lab.announce(*dict.fromkeys(name for pair in self._pairs for name in pair))
        if not self._pairs:
            raise LabError("no two hosts can hear each other: there is no traffic to make")
        for pair, sent in zip(self._pairs, self._probe_pairs().sent, strict=True):
            self._usual[pair] = frozenset(sent.heard_at)
        self._ledger = lab.engine.ledger()
        flows = self._flows(self._ledger)
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

    def _flows(self, ledger: Ledger) -> list[Flow]:
        lab = self._lab
        return [
            ledger.flow(a, probe_frame(lab.mac(a), lab.mac(b), size=self._size), to=[b])
            for a, b in self._pairs or ()
        ]

    def _probe_pairs(self) -> Batch:
        engine = self._lab.engine
        ledger = engine.ledger()
        flows = self._flows(ledger)
        return self._lab.judge(engine.exchange(ledger, [[(flow, 1) for flow in flows]]))

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
            if seen.point not in self._usual[_pair(flow)]
        ]

    @property
    def duplicates(self) -> list[Sighting]:
        """Frames that a host heard twice."""
        return self.batch.duplicates

    @property
    def outage(self) -> int:
        """The longest time in ns for which a host did not hear what was sent to it."""
        return max(flow.outage for flow in self.batch)


def _pair(sent: Sent) -> tuple[str, str]:
    (to,) = sent.to
    return sent.source, to
