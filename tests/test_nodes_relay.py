"""The relay: every frame goes to all other ends, in order, and is counted, whatever a machine does
with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.lab.sites import Carried
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import Channel
from harness.nodes.impairment import Impairment
from harness.nodes.programs import spawn, started_by_main_thread
from harness.nodes.relay import AT_ONCE, KEPT_LIMIT
from harness.polling import eventually

BOUND = 20.0


class Wired(NamedTuple):
    """A relay, and the machines' ends of its underlays."""

    channel: Channel
    process: subprocess.Popen[bytes]
    ends: list[list[socket.socket]]

    def carried(self, underlay: int = 0) -> list[Carried]:
        counts = self.channel.ask("carried", {}, what="count").result()
        return [Carried(*end) for end in counts[underlay]]

    def plug(self, end: int, *, up: bool) -> None:
        self.channel.ask("plug", {"underlay": 0, "end": end, "up": up}, what="plug").result()

    def impair(self, impairment: Impairment | None, seed: int = 1) -> None:
        request = {"underlay": 0, "impairment": impairment, "seed": seed}
        self.channel.ask("impair", request, what="impair").result()


Wire = Callable[..., Wired]


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Starts relays, each with underlays of so many ends."""
    with ExitStack() as later:

        def start(*sizes: int) -> Wired:
            channel, theirs = socket.socketpair()
            pairs = [
                [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(size)]
                for size in sizes
            ]
            inner = [[pair[0].fileno() for pair in ends] for ends in pairs]
            process = spawn(
                "harness.nodes.relay",
                [
                    theirs.fileno(),
                    int(started_by_main_thread()),
                    *(",".join(map(str, ends)) for ends in inner),
                ],
                [theirs.fileno(), *chain.from_iterable(inner)],
            )
            theirs.close()
            made = Wired(Channel("relay", channel), process, [])
            for ends in pairs:
                made.ends.append([pair[1] for pair in ends])
                for pair in ends:
                    pair[0].close()
                    pair[1].settimeout(BOUND)
                    later.callback(pair[1].close)
            later.callback(process.wait)
            later.callback(process.kill)
            later.callback(made.channel.close)
            return made

        yield start


def silent(end: socket.socket) -> bool:
    """Whether nothing is there to be read. The relay has to have been asked something since what
    might have come was sent: it answers when it has done what came before."""
    end.setblocking(False)
    try:
        end.recv(1 << 16)
    except BlockingIOError:
        return True
    finally:
        end.settimeout(BOUND)
    return False


def state(pid: int) -> str:
    """A process's state as a letter (proc_pid_stat(5)); empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("ends", [2, 3, 5])
def test_a_frame_goes_to_all_other_ends(wire: Wire, ends: int) -> None:
    wired = wire(ends)
    for sender in range(ends):
        frame = b"from %d" % sender
        wired.ends[0][sender].send(frame)
        for end in range(ends):
            if end != sender:
                assert wired.ends[0][end].recv(100) == frame
    assert wired.carried() == [Carried(1, ends - 1, 0, 0)] * ends
    assert all(map(silent, wired.ends[0]))


def test_underlays_have_nothing_to_do_with_each_other(wire: Wire) -> None:
    wired = wire(2, 3)
    wired.ends[1][2].send(b"second")
    assert wired.ends[1][0].recv(100) == wired.ends[1][1].recv(100) == b"second"
    assert wired.carried(0) == [Carried(0, 0, 0, 0)] * 2
    assert wired.carried(1) == [Carried(0, 1, 0, 0), Carried(0, 1, 0, 0), Carried(1, 0, 0, 0)]
    assert all(map(silent, wired.ends[0]))


@pytest.mark.parametrize("size", [1, 14, 60, 1514, 9014, 9216, 9234, 60000])
def test_frames_of_any_size_are_carried_whole(wire: Wire, size: int) -> None:
    wired = wire(2)
    frame = os.urandom(size)
    wired.ends[0][0].send(frame)
    assert wired.ends[0][1].recv(1 << 16) == frame


def test_frames_stay_in_order(wire: Wire) -> None:
    """More than the kernel has room for on the way, so that the relay keeps some."""
    wired = wire(3)
    one, two, three = wired.ends[0]
    for number in range(5000):
        one.send(b"%d" % number)
    # The third has not read any yet: nobody waits for it.
    assert [int(two.recv(100)) for _ in range(5000)] == list(range(5000))
    assert [int(three.recv(100)) for _ in range(5000)] == list(range(5000))
    assert wired.carried() == [
        Carried(5000, 0, 0, 0),
        Carried(0, 5000, 0, 0),
        Carried(0, 5000, 0, 0),
    ]


def test_what_a_slow_end_has_no_room_for_is_kept_and_counted(wire: Wire) -> None:
    wired = wire(2)
    slow = wired.ends[0][1]
    for number in range(2000):
        wired.ends[0][0].send(b"%1000d" % number)
    eventually(lambda: wired.carried()[0].came, lambda came: came == 2000, within=BOUND, what="all")
    counted = wired.carried()[1]
    assert counted.kept > 0
    assert counted.went + counted.kept == 2000
    assert counted.dropped == 0
    # It waits for room, and is not told again and again that there is none.
    eventually(lambda: state(wired.process.pid), lambda now: now == "S", within=BOUND, what="rest")
    assert [int(slow.recv(2000)) for _ in range(2000)] == list(range(2000))
    assert wired.carried()[1] == Carried(0, 2000, 0, 0)


def test_what_is_beyond_the_limit_is_dropped_and_counted(wire: Wire) -> None:
    wired = wire(2)
    slow = wired.ends[0][1]
    size, sent = 60_000, KEPT_LIMIT // 60_000 + 100
    for number in range(sent):
        wired.ends[0][0].send(b"%*d" % (size, number))
    eventually(lambda: wired.carried()[0].came, lambda came: came == sent, within=BOUND, what="all")
    counted = wired.carried()[1]
    assert counted.dropped > 0
    assert counted.went + counted.kept + counted.dropped == sent
    assert counted.kept * size >= KEPT_LIMIT
    assert (counted.kept - 1) * size <= KEPT_LIMIT
    # Those that were there first are delivered, in order.
    left = counted.went + counted.kept
    assert [int(slow.recv(1 << 16)) for _ in range(left)] == list(range(left))
    assert silent(slow)
    assert wired.carried()[1] == Carried(0, left, sent - left, 0)
    wired.ends[0][0].send(b"7")
    assert slow.recv(100) == b"7"


def test_a_cable_is_pulled_and_plugged_in_again(wire: Wire) -> None:
    wired = wire(3)
    one, two, three = wired.ends[0]
    wired.plug(1, up=False)
    one.send(b"not for the second")
    two.send(b"for nobody")
    assert three.recv(100) == b"not for the second"
    eventually(lambda: wired.carried()[1].came, within=BOUND, what="it was read")
    assert wired.carried() == [Carried(1, 0, 0, 0), Carried(1, 0, 0, 0), Carried(0, 1, 0, 0)]
    assert all(map(silent, wired.ends[0]))
    wired.plug(1, up=True)
    one.send(b"again")
    two.send(b"here")
    assert two.recv(100) == b"again"
    assert one.recv(100) == b"here"


def test_another_machine_is_plugged_in(wire: Wire) -> None:
    wired = wire(2)
    one, two = wired.ends[0]
    one.send(b"to the first")
    two.send(b"from the first")
    assert (two.recv(100), one.recv(100)) == (b"to the first", b"from the first")
    wired.plug(1, up=False)
    two.send(b"its last")
    wired.channel.ask("renew", {"underlay": 0, "end": 1}, what="renew").result()
    assert wired.carried() == [Carried(1, 1, 0, 0), Carried(0, 0, 0, 0)]
    wired.plug(1, up=True)
    two.send(b"from the second")
    assert one.recv(100) == b"from the second"
    assert wired.carried()[1] == Carried(1, 0, 0, 0)


def test_what_was_kept_for_an_end_is_lost_with_its_cable(wire: Wire) -> None:
    wired = wire(2)
    for _ in range(2000):
        wired.ends[0][0].send(bytes(1000))
    eventually(lambda: wired.carried()[0].came, lambda came: came == 2000, within=BOUND, what="all")
    assert wired.carried()[1].kept > 0
    wired.plug(1, up=False)
    wired.plug(1, up=True)
    counted = wired.carried()[1]
    assert counted.kept == 0
    # Those that had gone out are there, and then what is sent anew.
    for _ in range(counted.went):
        assert wired.ends[0][1].recv(2000) == bytes(1000)
    wired.ends[0][0].send(b"new")
    assert wired.ends[0][1].recv(2000) == b"new"


def test_what_has_come_by_now_is_counted(wire: Wire) -> None:
    """Also when it is more than the relay takes in one turn, before others get theirs."""
    wired = wire(3)
    wired.carried()
    os.kill(wired.process.pid, signal.SIGSTOP)
    # More than two turns; that many fit into what the kernel keeps between two sockets, though it
    # says far earlier that it would rather have no more.
    sent = 2 * AT_ONCE + 7
    for end in wired.ends[0]:
        end.setblocking(True)
    for _ in range(sent):
        wired.ends[0][0].send(b"x")
        wired.ends[0][1].send(b"y")
    asked = wired.channel.ask("carried", {}, what="count")
    os.kill(wired.process.pid, signal.SIGCONT)
    one, two, three = (Carried(*end) for end in asked.result()[0])
    assert (one.came, two.came) == (sent, sent)
    assert three.went + three.kept == 2 * sent


@pytest.mark.parametrize("kept", [0, 2000])
def test_a_machine_dies_and_the_others_go_on(wire: Wire, kept: int) -> None:
    """``kept`` frames wait for it at that time."""
    wired = wire(3)
    one, two, three = wired.ends[0]
    for number in range(kept):
        one.send(b"%1000d" % number)
    for number in range(kept):
        assert int(three.recv(2000)) == number
    two.close()
    # The system says something else of the first frame for it than of those that follow.
    for number in range(10):
        one.send(b"%d" % number)
        assert three.recv(100) == b"%d" % number
        three.send(b"back")
        assert one.recv(100) == b"back"
    assert wired.carried()[0] == Carried(kept + 10, 10, 0, 0)
    assert wired.carried()[1].kept == 0
    assert wired.carried()[2] == Carried(10, kept + 10, 0, 0)
    # A process that looks at the same thing again and again never sleeps.
    eventually(lambda: state(wired.process.pid), lambda now: now == "S", within=BOUND, what="rest")


def test_it_ends_when_its_channel_closes(wire: Wire) -> None:
    wired = wire(2)
    wired.carried()
    wired.channel.close()
    assert wired.process.wait(timeout=BOUND) == 0


def test_when_it_dies_whoever_asks_is_told(wire: Wire) -> None:
    wired = wire(2)
    wired.carried()
    wired.process.kill()
    with pytest.raises(NodeLost, match="relay: "):
        wired.carried()


HARNESS = """
import signal, socket, sys, threading
from harness.nodes.channel import Channel
from harness.nodes.programs import spawn, started_by_main_thread

def start():
    global process, channel, ours
    ours, theirs = socket.socketpair()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    fds = [theirs.fileno(), one.fileno(), other.fileno()]
    words = [fds[0], int(started_by_main_thread()), f"{fds[1]},{fds[2]}"]
    process = spawn("harness.nodes.relay", words, fds)
    theirs.close()
    channel = Channel("relay", ours)

if sys.argv[1] == "main":
    start()
else:
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
channel.ask("carried", {}, what="count").result()
print(process.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("thread", ["main", "other"])
def test_it_dies_with_the_harness(thread: str) -> None:
    """That of the main thread even when it has stopped: the kernel ends it."""
    script = [sys.executable, "-c", HARNESS, thread]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            relay = int(harness.stdout.readline())
            assert state(relay) in ("R", "S")
            if thread == "main":
                os.kill(relay, signal.SIGSTOP)
        finally:
            harness.kill()
    eventually(lambda: state(relay), lambda now: now in ("", "Z"), within=BOUND, what="its end")


def test_a_bad_wire_loses_frames_for_good(wire: Wire) -> None:
    wired = wire(3)
    wired.impair(Impairment(loss=1))
    wired.ends[0][0].send(b"lost")
    assert wired.carried() == [Carried(1, 0, 0, 0), Carried(0, 0, 0, 0), Carried(0, 0, 0, 0)]
    wired.impair(None)
    wired.ends[0][0].send(b"heard")
    assert wired.ends[0][1].recv(100) == wired.ends[0][2].recv(100) == b"heard"


def test_what_a_slow_wire_holds_is_under_way(wire: Wire) -> None:
    wired = wire(2)
    wired.impair(Impairment(delay=0.3))
    wired.ends[0][0].send(b"slow")
    assert wired.carried() == [Carried(1, 0, 0, 0), Carried(0, 0, 0, 1)]
    assert silent(wired.ends[0][1])
    assert wired.ends[0][1].recv(100) == b"slow"
    assert wired.carried()[1] == Carried(0, 1, 0, 0)


def test_with_jitter_frames_overtake_each_other(wire: Wire) -> None:
    wired = wire(2)
    wired.impair(Impairment(jitter=0.2))
    sent = [b"%d" % number for number in range(50)]
    for frame in sent:
        wired.ends[0][0].send(frame)
    heard = [wired.ends[0][1].recv(100) for _ in sent]
    assert heard != sent
    assert sorted(heard) == sorted(sent)


def test_what_makes_no_sense_is_refused(wire: Wire) -> None:
    wired = wire(2)
    with pytest.raises(NodeError, match="loss is a probability, from 0 to 1, not 2"):
        wired.impair(Impairment(loss=2))
    wired.ends[0][0].send(b"as ever")
    assert wired.ends[0][1].recv(100) == b"as ever"


def test_what_a_slow_wire_holds_comes_first_when_it_is_good_again(wire: Wire) -> None:
    wired = wire(2)
    wired.impair(Impairment(delay=600))
    for frame in (b"1", b"2"):
        wired.ends[0][0].send(frame)
    assert wired.carried()[1] == Carried(0, 0, 0, 2)
    wired.impair(None)
    wired.ends[0][0].send(b"3")
    assert [wired.ends[0][1].recv(100) for _ in range(3)] == [b"1", b"2", b"3"]
    assert wired.carried()[1] == Carried(0, 3, 0, 0)
