"""The relay: carries frames between virtual machines. Run as a program, never imported by the
harness itself.

One relay serves the underlays of one lab. Every end of an underlay is a datagram socket, a frame a
datagram; what comes in at one end goes out at all others, in order. It keeps what an end has no
room for yet, so that a slow machine loses nothing, and it counts everything, so that the harness
can tell when nothing is under way.
"""

from __future__ import annotations

import errno
import heapq
import os
import signal
import socket
import sys
import time
from collections import deque
from itertools import count

from harness.agent.agent import Agent
from harness.agent.libc import check, libc
from harness.agent.loop import Loop
from harness.agent.requests import Operations, Request
from harness.nodes.impairment import BadWire, Impairment

FRAME_LIMIT = 1 << 16
"""Bytes of a frame at most."""
KEPT_LIMIT = 64 << 20
"""Bytes that are kept for an end. What comes beyond that is dropped, and counted."""
AT_ONCE = 64
"""Frames taken from one end before another end gets its turn."""
PR_SET_PDEATHSIG = 1
ENDED = (errno.ECONNREFUSED, errno.ENOTCONN)
"""What the system says the first time, and then, of a frame for a machine that has ended."""


class End:
    """One end of an underlay."""

    def __init__(self, plug: socket.socket, loop: Loop) -> None:
        self.plug, self.loop = plug, loop
        self.others: list[End] = []
        """The other ends of the underlay."""
        self.up = True
        """Whether anything comes in and goes out here."""
        self.came = self.went = self.dropped = 0
        self.kept: deque[bytes] = deque()
        self.size = 0
        self.bad: BadWire | None = None
        """What is done to frames that go out here."""
        self.held: list[tuple[float, int, bytes]] = []
        """Frames whose delay is not over: a heap of when that will be, and their numbers."""
        self.numbers = count()
        plug.setblocking(False)

    def take(self) -> bool:
        """Pass on what has come, and say whether there may be more. From a machine that has ended
        nothing comes any more."""
        for _ in range(AT_ONCE):
            try:
                frame = self.plug.recv(FRAME_LIMIT)
            except BlockingIOError:
                return False
            self.came += 1
            for other in self.others if self.up else ():
                other.give(frame)
        return True

    def give(self, frame: bytes) -> None:
        """Put a frame out here, now or when there is room."""
        if self.bad is None:
            self.keep(frame)
            return
        for delay, data in self.bad.fate(frame):
            if delay:
                due = time.monotonic() + delay
                heapq.heappush(self.held, (due, next(self.numbers), data))
                self.loop.after(delay, self._release)
            else:
                self.keep(data)

    def _release(self) -> None:
        # Nothing is left to do if the wire has become another one meanwhile.
        while self.held and self.held[0][0] <= time.monotonic():
            self.keep(heapq.heappop(self.held)[2])
        self.put_out()

    def become(self, bad: BadWire | None) -> None:
        """Do this to frames that go out here. What is delayed goes out now, or it would be
        overtaken by what comes next."""
        while self.held:
            self.keep(heapq.heappop(self.held)[2])
        self.bad = bad

    def keep(self, frame: bytes) -> None:
        """Have a frame wait for room here."""
        if not self.up:
            return
        if self.size > KEPT_LIMIT:
            self.dropped += 1
            return
        self.kept.append(frame)
        self.size += len(frame)

    def put_out(self) -> None:
        """Put out what there is room for, and be told when there is room for more."""
        self._push()
        self.loop.watch_room(self.plug, bool(self.kept))

    def _push(self) -> None:
        while self.kept:
            try:
                self.plug.send(self.kept[0])
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in ENDED:
                    raise
                self.clear()
                return
            self.went += 1
            self.size -= len(self.kept.popleft())

    def begin_anew(self) -> None:
        """Count from 0 on, for another machine is plugged in here."""
        self.came = self.went = self.dropped = 0

    def clear(self) -> None:
        """Forget what is kept."""
        self.kept.clear()
        self.size = 0


class Relay:
    """What an agent can do whose node is the underlays of a lab: lists of ends, by underlay."""

    def __init__(self, loop: Loop, underlays: list[list[socket.socket]]) -> None:
        self.underlays: list[list[End]] = []
        for plugs in underlays:
            ends = [End(plug, loop) for plug in plugs]
            for end in ends:
                end.others = [other for other in ends if other is not end]
                loop.watch(end.plug, _carry, end)
            self.underlays.append(ends)
        self.operations: Operations = {
            "carried": self.carried,
            "plug": self.plug,
            "renew": self.renew,
            "impair": self.impair,
        }

    def carried(self, request: Request) -> None:
        """For each end of each underlay: frames that came in, that went out, that were dropped for
        want of room, and that still wait for some. What has come until now is among them."""
        for ends in self.underlays:
            for end in ends:
                _carry_all(end)
        request.reply(
            [
                [[end.came, end.went, end.dropped, len(end.kept) + len(end.held)] for end in ends]
                for ends in self.underlays
            ]
        )

    def plug(self, request: Request) -> None:
        """Connect an end with its underlay, or part it (``up``): nothing goes in or out then."""
        end = self.underlays[request["underlay"]][request["end"]]
        end.up = request["up"]
        if not end.up:
            end.clear()
        request.reply()

    def renew(self, request: Request) -> None:
        """Another machine will be plugged in at an end: count what goes in and out there anew."""
        end = self.underlays[request["underlay"]][request["end"]]
        _carry_all(end)
        end.begin_anew()
        request.reply()

    def impair(self, request: Request) -> None:
        """Make an underlay a bad wire, or (``impairment`` null) a good one again. What is delayed
        already goes out now."""
        for place, end in enumerate(self.underlays[request["underlay"]]):
            values = request["impairment"]
            bad = None if values is None else Impairment(*values).check()
            end.become(None if bad is None else BadWire(bad, request["seed"] + place))
            end.put_out()
        request.reply()


def _carry_all(end: End) -> None:
    """Pass on what has come at an end, also if it is more than what is taken at once."""
    while _carry(end):
        pass


def _carry(end: End) -> bool:
    """Pass on what has come at an end, and say whether there may be more."""
    more = end.take()
    for one in (end, *end.others):
        one.put_out()
    return more


def main(channel: int, by_main_thread: int, underlays: list[str]) -> None:
    """Serve ``channel``; each of ``underlays`` is the file descriptors of its ends, with commas."""
    if by_main_thread:
        # Otherwise the end of the thread that started us would end us: then the channel tells.
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    plugs = [[socket.socket(fileno=int(fd)) for fd in ends.split(",")] for ends in underlays]
    agent = Agent(socket.socket(fileno=channel))
    agent.offer(Relay(agent.loop, plugs).operations)
    agent.serve()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
