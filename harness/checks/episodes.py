"""Traffic that is known to belong somewhere, and what was done while it flowed."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import msgspec

from harness.traffic.batch import Batch, Sent
from harness.traffic.history import History
from harness.traffic.operations import Operation

NOBODY_KNOWS = "no flow of this history says where it belongs"


class Flow(NamedTuple):
    """What became of a flow, and who hears its like by the state ``before`` and ``after`` whatever
    was done meanwhile (None: nobody found out)."""

    sent: Sent
    before: frozenset[str]
    after: frozenset[str] | None

    @property
    def flooded(self) -> frozenset[str]:
        """The hosts that a switch may flood it to when it has forgotten an address."""
        return self.sent.flooded or frozenset()

    @property
    def what(self) -> str:
        """The flow in words."""
        return self.sent.what


class Episode(msgspec.Struct, frozen=True, dict=True):
    """A batch, and the operations that were under way at any time while it was sent."""

    batch: Batch
    operations: tuple[Operation, ...]

    @cached_property
    def changes(self) -> frozenset[str]:
        """What the operations were meant to change."""
        return frozenset(name for one in self.operations for name in one.changes)

    @property
    def reach_changes(self) -> bool:
        """Whether the hosts that hear a flow were meant to be others afterwards."""
        return "reach" in self.changes

    @cached_property
    def flows(self) -> list[Flow]:
        """The flows that belong somewhere."""
        return _flows(self.batch)

    @cached_property
    def evidence(self) -> list[Flow]:
        """The same, for who asks only what did arrive."""
        return _flows(self.batch.evidence)


def _flows(batch: Batch) -> list[Flow]:
    return [Flow(sent, sent.before, sent.after) for sent in batch.sent if sent.before is not None]


def episodes(history: History) -> list[Episode]:
    """The batches with flows that belong somewhere."""
    found = []
    for batch in history.batches:
        if any(sent.before is not None for sent in batch.sent):
            times = [time for flow in batch.ledger.flows for _seq, time in flow.times]
            during = (
                one for one in history.operations if times and one.overlaps(min(times), max(times))
            )
            found.append(Episode(batch, tuple(during)))
    return found
