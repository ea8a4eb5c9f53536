"""What is still known of earlier batches' flows, so that a frame that comes late can be named.

A lab may stay up for days: only the latest flows are kept, and of each only what a report needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.traffic.ledger import Flow

MOST = 16384
"""Flows that are remembered: those of one matrix of 128 hosts, some 3 MB."""


class _Past(NamedTuple):
    source: str
    to: frozenset[str]
    macs: bytes
    """Destination and source, as they stand at the start of the frame."""


class Earlier:
    """The flows of all batches so far."""

    def __init__(self) -> None:
        self._flows: dict[int, _Past] = {}

    def add(self, flows: Iterable[Flow]) -> None:
        """Remember the flows of a batch that has ended."""
        for flow in flows:
            self._flows[flow.number] = _Past(flow.source, flow.to, flow.bare[:12])
        # A dictionary keeps its order: the first are the oldest.
        too_many = max(0, len(self._flows) - MOST)
        for number in list(islice(self._flows, too_many)):
            del self._flows[number]

    def what(self, number: int) -> str:
        """A flow in words; of one that is forgotten only its number."""
        past = self._flows.get(number)
        flow = f"flow {number}" if past is None else what_of(number, past.source, past.to)
        return f"{flow}, sent in an earlier batch"

    def is_answer(self, number: int, data: bytes) -> bool:
        """Whether ``data``, all that stands before the identity, is an answer to a flow."""
        past = self._flows.get(number)
        return past is not None and is_answer(data, past.macs)


def what_of(number: int, source: str, to: Iterable[str]) -> str:
    """A flow in words."""
    return f"flow {number} from {source} to {', '.join(sorted(to)) or 'nobody'}"


def is_answer(data: bytes, bare: bytes) -> bool:
    """Whether ``data`` is addressed to the sender of ``bare``: a host's kernel may answer a probe
    and return its content with it (ICMP echo, ICMP errors)."""
    target, source = bare[:6], bare[6:12]
    return source != target and (data.startswith(source) or source + target in data)
