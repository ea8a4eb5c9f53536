"""The drain: proof that of everything that was sent nothing is under way any more.

A look at every switch finds nothing under way: nothing waits unread in its receive queues; where
the datapath is in the kernel, the threads that handle what it sends up sleep; where underlays are
carried by us, each switch has got as many frames as were carried to it. Then it is asked a
question: where the datapath is in user space the thread that answers also forwards frames, so
whatever it had in hand has left. When another look then finds nothing under way again, no interface
has counted anything since the first, and no such thread has run, in all switches at once, nothing
can be on its way between them either. What the kernel itself may hold (softirq backlogs) is not to
be seen. A node with one processor of its own says whether that had nothing to do in between: then
nothing was held there. For other nodes a quiet spell between the two looks, derived from the
latencies seen in this lab, covers it. At last the counters have to account for every frame: the
switch's receive queues and the kernel's backlogs dropped none, and its datapath has looked up at
least as many as its hosts sent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from harness.lab import look
from harness.lab.look import Look
from harness.lab.losses import SocketDrops, interface_drops, interface_lines
from harness.nodes.base import NodeError, Pending
from harness.nodes.channel import pump
from harness.nodes.remote import RemoteNode
from harness.ovs.datapaths import Datapaths
from harness.ovs.switch import Switch
from harness.ovs.tasks import Task, gather

BOUND = 10.0
"""Seconds after which a drain gives up, for a node with the usual patience: the verdict is then
unknown."""
SHORTEST_SPELL = 0.001
SPELL_PER_LATENCY = 3
LONGEST_SPELL = 1.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.0002, 0.02
"""Seconds between two looks while something is under way."""


class Baseline(msgspec.Struct, frozen=True):
    """Where a switch stood before anything was sent."""

    pid: int
    datapaths: Datapaths


def _answered(switch: Switch, asked: Task[Datapaths]) -> tuple[str, Datapaths]:
    """The switch's name, and what it answered."""
    with death_first([switch]):
        return switch.name, asked.result()


@contextmanager
def death_first(switches: Iterable[Switch]) -> Iterator[None]:
    """If a question fails because a daemon died, raise that instead: it comes with its log."""
    try:
        yield
    except NodeError:
        for switch in switches:
            switch.check_alive()
        raise


class Drain:
    """Watches the switches of one lab."""

    def __init__(
        self,
        nodes: Mapping[str, RemoteNode],
        switches: Mapping[str, Switch],
        carried: Callable[[], Pending | None] = lambda: None,
    ) -> None:
        """``carried`` asks what went over underlays (:meth:`harness.lab.sites.Site.carried`)."""
        self._nodes = nodes
        self._switches = switches
        self._carried = carried
        self.bound = BOUND * max((node.patience for node in nodes.values()), default=1.0)
        """Seconds after which a drain gives up, where nothing else is said."""
        self._latency = 0.0
        self._ports: dict[str, dict[str, int]] = {}
        self._baselines: dict[str, Baseline] = {}
        self._before: Look | None = None
        self._drops = {name: SocketDrops() for name in nodes}
        self._sent: Counter[tuple[str, str]] = Counter()
        self.overflows: dict[str, int] = {}
        """After a drain, the frames that found no room in the receive queues of switches which
        ended or began anew since :meth:`begin`: while they were away, or since."""

    def know_ports(self, ports: Mapping[str, Sequence[str]]) -> None:
        """Take note of the interfaces that each switch has for its hosts."""
        asked = {
            name: self._nodes[name].read_files_soon(
                [f"/sys/class/net/{port}/ifindex" for port in found]
            )
            for name, found in ports.items()
        }
        for name, answer in asked.items():
            indexes = [int(content or 0) for content in answer.result()]
            self._ports[name] = dict(zip(ports[name], indexes, strict=True))

    def sent(self, switch: str, port: str, frames: int) -> None:
        """Take note that so many frames were sent towards a switch's port."""
        self._sent[switch, port] += frames

    def lose(self, switch: str) -> None:
        """Take note that a switch's node ends: should there be another one, it counts from 0 on."""
        self._drops[switch].forget()
        self._baselines.pop(switch, None)

    def learn_latency(self, seconds: float) -> None:
        """Take note of the longest time that a frame took so far in this lab."""
        self._latency = max(self._latency, seconds)

    @property
    def spell(self) -> float:
        """How long the quiet at the end lasts, in seconds."""
        return min(LONGEST_SPELL, max(SHORTEST_SPELL, SPELL_PER_LATENCY * self._latency))

    def look(self, before: Look | None = None) -> Look:
        """Read every switch's queues and counters, all at once; with a look ``before``, when the
        processors had nothing to do since, where nodes have some of their own."""
        idle = before.idle if before else {}
        asked = {
            name: node.queues(self._handlers_of(name), idle.get(name))
            for name, node in self._nodes.items()
        }
        return look.take(asked, self._carried, self._drops)

    def _handlers_of(self, name: str) -> tuple[int, str] | None:
        switch = self._switches.get(name)
        if switch is None or not switch.is_up or switch.datapath != "system":
            return None
        return switch.pid(), "handler"

    def begin(self) -> None:
        """Note where the counters stand before anything is sent. What came before has taught the
        switches what it taught."""
        self._before = self.look()
        self._sent.clear()
        self.overflows.clear()
        self._baselines = {
            name: Baseline(self._switches[name].pid(), found)
            for name, found in self.settle().items()
        }

    def settle(self) -> dict[str, Datapaths]:
        """Have every switch's datapaths catch up with its tables. Returns what they were like
        before, by switch."""
        up = self._up()
        with death_first(up):
            found = gather([switch.settle_soon() for switch in up])
        return {switch.name: one for switch, one in zip(up, found, strict=True)}

    def absorb(self, deadline: float) -> None:
        """Wait until no receive queue holds anything, or until ``deadline``."""
        for seen in self._looks(deadline):
            if not seen.waiting:
                return

    def pass_on(self, deadline: float) -> None:
        """Wait until everything has been passed on as far as it goes, for then there is room for
        more, or until ``deadline``: what is lost for want of room shows when the drain finishes.

        Nodes do not answer at the same moment: between two of them frames may go from one that has
        not been looked at yet to one that has. Then they have been counted when all are looked at
        again.
        """
        before = None
        for seen in self._looks(deadline):
            alone = len(self._nodes) == 1
            if not seen.under_way() and (alone or (before is not None and seen.still(before))):
                return
            before = seen

    def _looks(self, deadline: float) -> Iterator[Look]:
        """One look after the other, the last one at ``deadline``."""
        pause = SHORTEST_PAUSE
        while True:
            yield self.look()
            if time.monotonic() > deadline:
                return
            pump(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def finish(self, bound: float | None = None) -> str:
        """Wait until nothing is under way, at most ``bound`` seconds. Returns why not everything
        is accounted for; empty when it is."""
        deadline = time.monotonic() + (self.bound if bound is None else bound)
        before = self.look()
        pause = SHORTEST_PAUSE
        while True:
            quiet = not before.under_way()
            # Threads that have frames in hand are not to be held up with questions.
            asked = self._ask_datapaths() if quiet else []
            spell = 0.0 if before.idle.keys() == self._nodes.keys() else self.spell
            _wait(spell if quiet else pause)
            datapaths = dict(_answered(*one) for one in asked)
            after = self.look(before if quiet else None)
            rests = after.still(before) and not after.busy(before) and not after.under_way()
            if quiet and rests:
                return self._unaccounted(after, datapaths)
            if time.monotonic() > deadline:
                return self._unfinished(before, after)
            pause = min(2 * pause, LONGEST_PAUSE)
            before = after

    def _ask_datapaths(self) -> list[tuple[Switch, Task[Datapaths]]]:
        """Have every switch's main thread answer, and say what its datapaths looked up."""
        return [(switch, switch.datapaths_soon()) for switch in self._up()]

    def _up(self) -> list[Switch]:
        return [switch for switch in self._switches.values() if switch.is_up]

    def _unaccounted(self, last: Look, datapaths: Mapping[str, Datapaths]) -> str:
        if self._before is None:
            return ""
        reasons = list(_lost_between(self._nodes, self._before, last))
        for (switch, interface), carried in last.carried.items():
            dropped = carried.dropped - self._before.carried[switch, interface].dropped
            if dropped > 0:
                reasons.append(f"{dropped} frames found no room before {interface} of {switch}")
        for name, before in self._baselines.items():
            dropped = last.drops[name] - self._before.drops[name]
            if not self._switches[name].is_up or self._switches[name].pid() != before.pid:
                # Its counters began anew, and what was in its hands when it ended is lost.
                if dropped > 0:
                    self.overflows[name] = dropped
                continue
            if dropped > 0:
                reasons.append(
                    f"{dropped} frames found no room in the receive queues of {name}, so it never "
                    "saw them"
                )
            lost = datapaths[name].counters.lost - before.datapaths.counters.lost
            waited = before.datapaths.waiting or datapaths[name].waiting
            # In user space nothing waits on its way up: there those are lost that no port takes.
            if lost > 0 and self._switches[name].datapath == "system" and not waited:
                reasons.append(f"{lost} frames found no room on their way up to {name}'s tables")
            sent = sum(
                frames
                for (switch, port), frames in self._sent.items()
                if switch == name and self._is_read(name, port, last, datapaths[name])
            )
            seen = datapaths[name].counters.lookups - before.datapaths.counters.lookups
            if seen < sent:
                reasons.append(f"{name} looked up only {seen} of the {sent} frames of its hosts")
        return "; ".join(reasons)

    def _is_read(self, name: str, port: str, last: Look, datapaths: Datapaths) -> bool:
        """Whether a switch's datapath takes what comes in at a port."""
        if self._switches[name].datapath == "system":
            return port in datapaths.ports
        return self._ports[name].get(port) in last.listened[name]

    def _unfinished(self, before: Look, after: Look) -> str:
        under_way = after.under_way()
        if under_way:
            return under_way
        changed = [
            f"{name} ({'; '.join(_changes(before.counters[name], after.counters[name]))})"
            for name in self._nodes
            if before.counters[name] != after.counters[name]
        ]
        if changed:
            return f"frames still flow, at {', '.join(changed)}"
        busy = after.busy(before)
        if busy:
            return f"the processor of {' and of '.join(busy)} is never idle"
        return f"it was never quiet for {1000 * self.spell:.0f} ms"


def _wait(seconds: float) -> None:
    """Take in what agents say for so long, however much that is."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        pump(left)


def _changes(before: bytes, after: bytes) -> list[str]:
    """Which interfaces' lines differ in two readings of /proc/net/dev."""
    old = dict(interface_lines(before))
    return [name for name, line in interface_lines(after) if old.get(name) != line]


def _lost_between(nodes: Iterable[str], before: Look, last: Look) -> Iterator[str]:
    """What the kernel lost between two interfaces for want of room in a backlog, in words.

    An interface counts that among what it drops, beside what is larger than its MTU or came while
    it was down; only the machine's own counter, in which others have a share, says that it was a
    backlog. So both have to have grown.
    """
    for name in nodes:
        dropped = interface_drops(before.counters[name], last.counters[name])
        if last.backlogs[name] > before.backlogs[name] and dropped:
            where = f"{name} ({', '.join(dropped)})"
            yield f"the kernel's backlog had no room for {sum(dropped.values())} frames at {where}"
