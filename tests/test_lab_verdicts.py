"""A negative is proved or it is unknown: what the drain and the captures cannot vouch for never
passes, and nothing else is ever called unknown."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
import pytest

from harness.lab import Lab, Traffic
from harness.lab.look import Look
from harness.nodes.namespace import Fabric
from harness.ovs.datapaths import Counters
from harness.polling import eventually
from harness.topology import Topology
from harness.traffic import Reach, Unknown
from harness.traffic.frames import probe_frame
from harness.traffic.identity import Template

MakeLab = Callable[..., Lab]


def one_switch() -> Topology:
    topo = Topology("one")
    bridge = topo.switch("s1").bridge("br0")
    for number, name in enumerate("abc", 1):
        bridge.host(name, addresses=[f"10.0.0.{number}/24"])
    return topo


def two_switches() -> Topology:
    topo = Topology("two")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"h{n}")
    return topo


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(one_switch())


def test_a_switch_without_a_bridge_has_nothing_under_way(make_lab: MakeLab) -> None:
    topo = one_switch()
    topo.switch("bare")
    lab = make_lab(topo)
    assert lab.probe_all().reach == Reach.groups("abc")
    assert lab.switch("bare").datapath_counters() == Counters(0, 0, 0)


def send_signal(lab: Lab, name: str) -> None:
    """Stop the switch's forwarding (``STOP``), or let it go on (``CONT``)."""
    lab.node("s1").run(["kill", f"-{name}", str(lab.switch("s1").pid())])


def overloaded(lab: Lab) -> Traffic:
    """Traffic while the switch stands still, until its receive queue has lost frames."""
    with lab.traffic(rate=20_000, pairs=[("a", "b")], size=1500) as traffic:
        overflow(lab)
    return traffic


def overflow(lab: Lab) -> None:
    """Have the switch stand still until its receive queue has lost frames."""
    before = lab.engine.drain.look().drops["s1"]
    send_signal(lab, "STOP")
    try:
        dropped = lambda: lab.engine.drain.look().drops["s1"]  # noqa: E731
        eventually(dropped, lambda now: now > before, within=60, what="the queue overflows")
    finally:
        send_signal(lab, "CONT")


def test_frames_that_the_switch_never_saw_make_it_unknown(lab: Lab) -> None:
    traffic = overloaded(lab)
    said = r"not known where the frames went: \d+ frames found no room in the receive queues of s1"
    for question in ("lost", "leaked", "duplicates", "outage"):
        with pytest.raises(Unknown, match=said):
            getattr(traffic, question)
    # The next batch is judged by itself.
    assert lab.probe("a", to="b").heard_at == {"b"}


def test_a_scenario_that_never_asks_does_not_pass(lab: Lab) -> None:
    """A batch of which nothing is known fails a scenario even when it looks at something else."""
    overloaded(lab)
    assert lab.probe("a", to="b").heard_at == {"b"}
    with pytest.raises(Unknown, match="receive queues of s1"):
        lab.verify()


def test_what_a_port_dropped_counts_when_the_port_is_gone(lab: Lab) -> None:
    """Its socket is gone too, and with it the kernel's count."""
    with lab.traffic(rate=20_000, pairs=[("a", "b")], size=1500) as traffic:
        overflow(lab)
        lab.switch("s1").vsctl("del-port", "a")
    with pytest.raises(Unknown, match=r"\d+ frames found no room in the receive queues of s1"):
        _ = traffic.leaked


@pytest.mark.parametrize("backlog_dropped", [True, False])
def test_frames_that_the_kernel_lost_on_their_way_make_it_unknown(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, backlog_dropped: bool
) -> None:
    """Interfaces count them among what they drop for other reasons, which are the scenario's own:
    here a host's interface that is too small. That is said apart by the kernel's own count."""
    lab.announce()
    lab.node("s1").run(["ip", "link", "set", "eth0", "mtu", "1000"], host="c")
    look = lab.engine.drain.look
    counts = itertools.count(5)

    def look_at_a_busy_machine(before: Look | None = None) -> Look:
        return msgspec.structs.replace(
            look(before), backlogs={"s1": next(counts) if backlog_dropped else 5}
        )

    monkeypatch.setattr(lab.engine.drain, "look", look_at_a_busy_machine)
    sent = lab.probe("a", size=1200)
    if not backlog_dropped:
        assert sent.heard_at == {"b"}
        return
    said = r"the kernel's backlog had no room for 1 frames at s1 \(c\)"
    with pytest.raises(Unknown, match=said):
        _ = sent.heard_at


def test_a_capture_that_dropped_a_frame_makes_it_unknown(
    make_lab: MakeLab,
    own_fabric: Fabric,
    outside_pid: Callable[[Fabric, int], int],
    stopped: Callable[[int], None],
) -> None:
    """The agent that captures at h2 stands still until its rings cannot hold any more."""
    lab = make_lab(two_switches(), fabric=own_fabric)
    agent = outside_pid(own_fabric, lab.node("s2").pid)

    def crossed() -> int:
        return int(lab.node("s1").read_file("/sys/class/net/wire/statistics/tx_packets"))

    with lab.traffic(rate=4000, pairs=[("h1", "h2")], size=1500) as traffic:
        stopped(agent)
        before = crossed()
        eventually(crossed, lambda now: now > before + 1500, within=60, what="1500 frames more")
        os.kill(agent, signal.SIGCONT)
    assert traffic.batch.drops["h2"] > 0
    with pytest.raises(Unknown, match=r"the capture at h2 dropped \d+ frames"):
        _ = traffic.leaked
    with pytest.raises(Unknown, match=r"the capture at h2 dropped \d+ frames"):
        lab.verify()
    # What is evidence, and not judgement, can still be looked at.
    assert traffic.batch.sent[0].sightings
    assert lab.probe("h1", to="h2").heard_at == {"h2"}


def test_a_drain_that_never_ends_is_given_up_with_words(lab: Lab) -> None:
    lab.engine.drain.bound = 1.0
    # To the lab nobody has sent them.
    lab.expect("strays")
    node = lab.node("s1")
    # Sent by the agent that is asked for the counters: between two looks there is always a frame.
    (port,) = node.open_ports([("a", "eth0")]).result()
    endless = Template.make(probe_frame(lab.mac("a"), lab.mac("b")), run=1, flow=1)
    spec = {"rate": 5000, **endless.stream_spec()}
    number = node.start_stream(port, spec, endless.frame).result()
    began = time.monotonic()
    sent = lab.probe("a", to="c")
    assert 1.0 <= time.monotonic() - began < 30
    said = r"frames still flow, at s1 \(.*\ba\b.*\)|bytes still wait|was never quiet"
    with pytest.raises(Unknown, match=said):
        _ = sent.heard_at
    with pytest.raises(Unknown):
        lab.verify()
    node.stop_stream(number).result()


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Twice as many busy loops as there are processors. Each ends when we do, however that ends."""
    loop = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", "while True: pass"]
    with ExitStack() as loops:
        for _ in range(2 * (os.cpu_count() or 1)):
            process = subprocess.Popen(loop)
            loops.callback(process.wait)
            loops.callback(process.kill)
        yield


@pytest.mark.usefixtures("busy_machine")
def test_no_false_alarm_in_200_probes_on_a_busy_machine(lab: Lab) -> None:
    lab.announce()
    for number in range(200):
        source, to = "abc"[number % 3], "abc"[(number + 1) % 3]
        sent = lab.probe(source, to=to)
        assert sent.heard_at == {to}
        assert sent.leaked == []
        assert sent.duplicates == []
        assert sent.changed == []
    assert lab.probe_all().reach == Reach.groups("abc")
    lab.verify()


@pytest.mark.usefixtures("busy_machine")
def test_no_false_alarm_in_a_large_batch_on_a_busy_machine(make_lab: MakeLab) -> None:
    lab = make_lab(two_switches())
    lab.announce()
    for size in (64, 1500):
        sent = lab.probe("h1", to="h2", count=5000, size=size)
        assert sent.missing_at("h2") == []
        assert sent.count_at("wire") == 5000
    lab.verify()


@pytest.mark.usefixtures("busy_machine")
def test_a_switch_that_hardly_gets_a_processor_loses_nothing(make_lab: MakeLab) -> None:
    """What the first switch passes on waits at the second, which nobody may mistake for empty."""
    lab = make_lab(two_switches())
    lab.announce()
    lab.node("s2").run(["chrt", "--all-tasks", "--idle", "--pid", "0", str(lab.switch("s2").pid())])
    for size in (64, 1500):
        assert lab.probe("h1", to="h2", count=2000, size=size).missing_at("h2") == []


@pytest.mark.usefixtures("busy_machine")
def test_no_false_alarm_in_traffic_on_a_busy_machine(lab: Lab) -> None:
    with lab.traffic(rate=1000) as traffic:
        lab.switch("s1").vsctl("set", "bridge", "br0", "other_config:mac-table-size=100")
        lab.host("a").run("ping -c 20 -i 0.02 10.0.0.2")
    assert traffic.sent > 100
    assert (traffic.lost, traffic.leaked, traffic.duplicates) == (0, [], [])
