"""How much is sent at once, so that no switch loses a frame for want of room."""

from __future__ import annotations

from collections.abc import Sequence

from harness.traffic.identity import stamp_many
from harness.traffic.ledger import Flow

RECEIVE_ROOM = 104 << 10
"""Bytes of a switch's receive queue that a window may fill: net.core.rmem_default is 208 KiB where
nobody changed it, and a queue that overflows loses frames that the switch never saw. Half of it,
for a switch may still have the window before in its hands, where nobody sees it."""
MOST_AT_ONCE = 8192
"""Frames of one window over all hosts: an agent that sends does not empty its rings meanwhile."""


def charge(length: int) -> int:
    """About what a frame of ``length`` bytes takes of a socket's receive buffer (its truesize:
    the kernel rounds the data up to a power of two and adds its own book-keeping)."""
    size = 512
    while size < length + 384:
        size *= 2
    return size + 256


class Window:
    """Frames that are sent at once: no more than the switches' receive queues surely hold."""

    def __init__(self, shared_room: int | None) -> None:
        self.frames: dict[str, list[tuple[Flow, int, bytes]]] = {}
        self._shared = shared_room
        self._used: dict[str, int] = {}
        self._total = 0
        self._count = 0

    def fill(self, phase: Sequence[tuple[Flow, int]]) -> list[tuple[Flow, int]]:
        """Take what fits of every source, its frames in their order; return what is left.

        Sources take turns: a window that holds little of each costs as much to wait for as a full
        one.
        """
        left: list[tuple[Flow, int]] = []
        full: set[str] = set()
        for place, (flow, count) in enumerate(phase):
            cost = charge(len(flow.template.frame))
            if self._is_full(cost):
                return left + list(phase[place:])
            fits = 0 if flow.source in full else self._fits(flow.source, cost, count)
            if fits:
                self._add(flow, fits, cost)
            if fits < count:
                full.add(flow.source)
                left.append((flow, count - fits))
        return left

    def _is_full(self, cost: int) -> bool:
        """Whether no frame of ``cost`` bytes fits any more, whoever sends it."""
        if self._shared is not None and self._used and self._shared - self._total < cost:
            return True
        return self._count >= MOST_AT_ONCE

    def _fits(self, source: str, cost: int, wanted: int) -> int:
        """How many frames of ``cost`` bytes each still fit; at least one into an empty window."""
        room = RECEIVE_ROOM - self._used.get(source, 0)
        if self._shared is not None:
            room = min(room, self._shared - self._total)
        fits = max(0, room) // cost
        return min(wanted, fits if self._used else max(1, fits))

    def _add(self, flow: Flow, count: int, cost: int) -> None:
        """Take ``count`` frames more of ``flow``, its next ones."""
        data = stamp_many(flow.template, flow.count, count)
        flow.count += count
        self.frames.setdefault(flow.source, []).append((flow, count, data))
        self._used[flow.source] = self._used.get(flow.source, 0) + count * cost
        self._total += count * cost
        self._count += count
