"""Looks: what the kernel counts, and where frames wait, read again and again."""

from __future__ import annotations

import contextlib
import os
import time

from .captures import Captures
from .packets import packet_sockets
from .requests import Fields, Operations, Request
from .sending import Sending

NETLINK_GENERIC = b"16"
REST, NAP = 0.02, 0.0005
"""Seconds that are waited at most for a processor to have nothing to do, and between two looks
whether it had."""


class Looks:
    """Looks at everything at once."""

    def __init__(self, sending: Sending, captures: Captures) -> None:
        self._sending, self._captures = sending, captures
        self.counts_idling = False
        """Whether the kernel counts how often its processor has nothing to do."""
        self.operations: Operations = {"queues": self.queues}

    def queues(self, request: Request) -> None:
        """What waits, unread, in packet sockets that are not the agent's own, the frames that the
        kernel's backlogs had no room for, how often the processor was idle (where that is counted),
        and in the blob the counters of the interfaces (/proc/net/dev). With ``threads``, a process
        and the beginning of its threads' names, also what those threads do, and what waits in
        generic netlink sockets. With ``idle``, how often the processor had been idle by an earlier
        look, not before it was again, if that is soon."""
        if self.counts_idling and request["idle"] is not None:
            rest(request["idle"])
        own = self._sending.inodes() | self._captures.inodes()
        sockets = [found for found in packet_sockets() if found[0] not in own]
        answer: Fields = {"sockets": sockets, "backlog": backlog_drops()}
        if request["threads"] is not None:
            answer["unread"] = netlink_unread()
            answer["threads"] = threads_of(*request["threads"])
        if self.counts_idling:
            answer["idle"] = times_idle()
        request.reply(answer, slurp("/proc/thread-self/net/dev"))


def slurp(path: str) -> bytes:
    """The content of a file of /proc: like open(), with a third of its system calls."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(descriptor, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(descriptor)


def backlog_drops() -> int:
    """Frames that the backlogs of all processors had no room for (net.core.netdev_max_backlog),
    since the machine started."""
    lines = slurp("/proc/thread-self/net/softnet_stat").splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


def count_idling() -> bool:
    """Have the kernel count how often its processor had nothing to do. False where it can't, or
    where there are several: then none of them says anything of the others."""
    with contextlib.suppress(FileNotFoundError):
        with open("/proc/sys/kernel/sched_schedstats", "w") as file:
            file.write("1")
        return os.cpu_count() == 1
    return False


def times_idle() -> int:
    """How often that was so far (/proc/schedstat: cpuN yields 0 schedules idles …)."""
    lines = slurp("/proc/schedstat").splitlines()
    return sum(int(line.split()[4]) for line in lines if line.startswith(b"cpu"))


def rest(idle: int) -> None:
    """Let the processor run out of what it has to do, if it has not since that count. Who asks
    again and again without this keeps it busy with answers."""
    end = time.monotonic() + REST
    while times_idle() == idle and time.monotonic() < end:
        time.sleep(NAP)


def netlink_unread() -> int:
    """Bytes that wait to be read in the generic netlink sockets of this network namespace
    (/proc/net/netlink: sk Eth Pid Groups Rmem …)."""
    lines = [line.split(None, 5) for line in slurp("/proc/thread-self/net/netlink").splitlines()]
    return sum(int(line[4]) for line in lines[1:] if line[1] == NETLINK_GENERIC)


def threads_of(pid: int, name: str) -> list[tuple[str, int]]:
    """The threads of a process whose names begin with ``name``: what state each is in (proc(5),
    ``State``), and how many times a processor was taken from it so far."""
    found = []
    wanted = b"Name:\t" + name.encode()
    for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = slurp(f"/proc/{pid}/task/{thread}/status")
            if status.startswith(wanted):
                fields = dict(line.split(b":\t", 1) for line in status.splitlines())
                kinds = (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")
                switches = sum(int(fields[kind]) for kind in kinds)
                found.append((fields[b"State"][:1].decode(), switches))
    return found
