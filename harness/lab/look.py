"""One look at everything in a lab that may hold a frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from harness.lab.losses import Socket, SocketDrops, interface_lines
from harness.lab.sites import Carried
from harness.nodes.base import Pending
from harness.nodes.channel import Answer

RECEIVED, SENT = 1, 9
"""Columns of /proc/net/dev, behind the interface's name: frames."""
ASLEEP = "S"
"""The state of a thread that waits for something (proc(5))."""

Threads = list[tuple[str, int]]
"""State and number of context switches of each."""


class Look(msgspec.Struct, frozen=True):
    """What one look found, by node."""

    waiting: int
    """Bytes in receive queues, of ports and of upcalls."""
    counters: dict[str, bytes]
    """As in /proc/net/dev."""
    handlers: dict[str, Threads]
    """The threads that take what the kernel's datapath sends up."""
    carried: dict[tuple[str, str], Carried]
    """What went over underlays, by switch and interface, where that is for the harness to do."""
    drops: dict[str, int]
    """Frames that each switch's receive queues had no room for, so far."""
    backlogs: dict[str, int]
    """Frames that the backlogs of the kernel had no room for, so far, as each node tells."""
    listened: dict[str, set[int]]
    """The interfaces, by index, that each switch reads frames from."""
    idle: dict[str, int]
    """How often the processor of each node that has one of its own had nothing to do, so far."""

    def under_way(self) -> str:
        """What is under way for sure, in words; empty when nothing is."""
        if self.waiting:
            return f"{self.waiting} bytes still wait in receive queues"
        for name, threads in self.handlers.items():
            if any(state != ASLEEP for state, _switches in threads):
                return f"{name} still handles what its datapath sent up"
        return "; ".join(self._between_ends())

    def _between_ends(self) -> Iterator[str]:
        """Frames that have left a switch and not come to where they are counted next."""
        joined = {switch for switch, _interface in self.carried}
        lines = {name: dict(interface_lines(self.counters[name])) for name in joined}
        for (switch, interface), carried in self.carried.items():
            counters = lines[switch].get(interface, "").split()
            if not counters:
                continue
            sent, received = int(counters[SENT]), int(counters[RECEIVED])
            # A driver may count late what it sent (virtio_net does, when it is next used).
            if sent > carried.came:
                yield f"{carried.came} of {sent} frames that {switch} sent by {interface} came out"
            if received != carried.went or carried.kept:
                there = carried.went + carried.kept
                yield f"{switch} got {received} of the {there} frames for its {interface}"

    def busy(self, before: Look) -> list[str]:
        """The nodes with a processor of their own that has had something to do at all times since
        ``before``."""
        return [name for name, count in self.idle.items() if count == before.idle.get(name)]

    def still(self, before: Look) -> bool:
        """Whether nothing has happened since ``before``."""
        return (
            self.counters == before.counters
            and self.handlers == before.handlers
            and self.carried == before.carried
        )


def _at(
    nodes: Collection[str], carried: Mapping[tuple[str, str], Carried]
) -> dict[tuple[str, str], Carried]:
    """What was carried to and from these nodes: others have no power."""
    return {end: counts for end, counts in carried.items() if end[0] in nodes}


def take(
    asked: Mapping[str, Answer],
    carried: Callable[[], Pending | None],
    socket_drops: Mapping[str, SocketDrops],
) -> Look:
    """Make a look of the answers of all nodes, and then of what ``carried`` asks for.

    In this order: a machine passes on what its switch has sent before it takes the next question,
    so that when nodes have answered twice, what was sent before the first time is counted here.
    """
    waiting = 0
    found: dict[str, Any] = {name: answer.result() for name, answer in asked.items()}
    between = carried()
    drops: dict[str, int] = {}
    listened: dict[str, set[int]] = {}
    for name, answer in found.items():
        sockets: list[Socket] = answer["sockets"]
        waiting += sum(unread for _inode, _index, unread, _drops in sockets)
        waiting += answer.get("unread", 0)
        drops[name] = socket_drops[name].see(sockets)
        listened[name] = {index for _inode, index, _unread, _drops in sockets}
    return Look(
        waiting=waiting,
        counters={name: answer.blob() for name, answer in asked.items()},
        handlers={
            name: [(state, switches) for state, switches in answer["threads"]]
            for name, answer in found.items()
            if "threads" in answer
        },
        carried={} if between is None else _at(found, between.result()),
        drops=drops,
        backlogs={name: answer["backlog"] for name, answer in found.items()},
        listened=listened,
        idle={name: answer["idle"] for name, answer in found.items() if "idle" in answer},
    )
