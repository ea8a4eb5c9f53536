"""Nodes that stop answering, nodes that die, and a launcher that dies: told at once, or within a
bound, with what was under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from harness.lab.environment import Environment
from harness.nodes import channel
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import pump
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.polling import eventually

OutsidePid = Callable[[Fabric, int], int]
Stop = Callable[[int], None]


@pytest.fixture
def pair(own_fabric: Fabric, ready: Environment) -> Iterator[tuple[NamespaceNode, NamespaceNode]]:
    made = [own_fabric.start_node(name, ready.image.lower) for name in ("n1", "n2")]
    yield made[0], made[1]
    for node in made:
        node.close()


def gone(pids: list[int]) -> None:
    """Wait until none of these processes exists."""

    def alive() -> list[int]:
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    eventually(alive, lambda left: left == [], within=60, what="the processes are gone")


def below(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for entry in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{entry}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def test_a_node_that_stops_answering_is_told_within_its_bound(
    own_fabric: Fabric,
    pair: tuple[NamespaceNode, NamespaceNode],
    outside_pid: OutsidePid,
    stopped: Stop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "GRACE", 0.5)
    node, other = pair
    agent = outside_pid(own_fabric, node.pid)
    stopped(agent)
    waiting = node.run_soon(["sleep", "1"], timeout=60)
    began = time.monotonic()
    with pytest.raises(NodeLost) as info:
        node.read_file("/etc/hostname")
    assert 0.5 <= time.monotonic() - began < 30
    said = str(info.value)
    assert said.startswith("n1: no answer after 0.5 s; under way: ")
    assert "run `sleep 1` (for 0." in said
    assert "read /etc/hostname (for 0." in said
    with pytest.raises(NodeLost, match=r"n1: no answer after 1\.\d s; .*run `true` \(for 1"):
        node.run(["true"], timeout=0.7)
    # The others work on meanwhile, and an answer that comes late is still an answer.
    assert other.run(["echo", "alive"]).stdout == "alive\n"
    os.kill(agent, signal.SIGCONT)
    assert waiting.result().status == 0


def test_a_node_that_is_killed_while_it_is_asked(
    own_fabric: Fabric,
    pair: tuple[NamespaceNode, NamespaceNode],
    outside_pid: OutsidePid,
    stopped: Stop,
) -> None:
    node, other = pair
    ends: list[str] = []
    node.on_end(lambda: ends.append("n1"))
    other.on_end(lambda: ends.append("n2"))
    agent = outside_pid(own_fabric, node.pid)
    node.run(["sh", "-c", "sleep 600 & sleep 600 & exit 0"])
    everything = below(agent)
    assert len(everything) == 3
    stopped(agent)
    waiting = node.run_soon(["sleep", "100"], timeout=200)
    os.kill(agent, signal.SIGKILL)
    with pytest.raises(NodeLost, match=r"^n1: the node has ended, asked to run `sleep 100`$"):
        waiting.result()
    with pytest.raises(NodeLost, match=r"^n1: the node has ended; asked to read /etc/hostname$"):
        node.read_file("/etc/hostname")
    gone(everything)
    assert ends == ["n1"]
    assert other.run(["echo", "alive"]).stdout == "alive\n"
    node.close()
    assert ends == ["n1"]


def test_a_node_that_dies_by_itself_is_noticed_by_whoever_waits_for_anything(
    own_fabric: Fabric, pair: tuple[NamespaceNode, NamespaceNode], outside_pid: OutsidePid
) -> None:
    node, other = pair
    ends: list[bool] = []
    node.on_end(lambda: ends.append(True))
    os.kill(outside_pid(own_fabric, node.pid), signal.SIGKILL)
    eventually(lambda: pump(0) or bool(ends), within=60, what="the end of the node")
    assert other.run(["echo", "alive"]).stdout == "alive\n"
    assert ends == [True]


def test_a_dead_node_s_links_leave_its_neighbours(
    own_fabric: Fabric, pair: tuple[NamespaceNode, NamespaceNode], outside_pid: OutsidePid
) -> None:
    """Its network namespace is not kept by anybody: the cable ends with it."""
    node, other = pair
    cable = {"do": "veth", "name": "wire", "space": other.space}
    cable |= {"peer": "wire", "peer_space": node.space}
    own_fabric.node.change_links([cable]).result()
    assert "wire" in other.run(["ls", "/sys/class/net"]).stdout.split()
    os.kill(outside_pid(own_fabric, node.pid), signal.SIGKILL)

    def interfaces() -> list[str]:
        return other.run(["ls", "/sys/class/net"]).stdout.split()

    eventually(interfaces, lambda now: "wire" not in now, within=60, what="the cable is gone")


def test_close_ends_everything_and_again_is_nothing(
    own_fabric: Fabric, pair: tuple[NamespaceNode, NamespaceNode], outside_pid: OutsidePid
) -> None:
    node, other = pair
    ends: list[bool] = []
    node.on_end(lambda: ends.append(True))
    node.run(["sh", "-c", "setsid sleep 600 & exit 0"])
    everything = below(outside_pid(own_fabric, node.pid))
    assert len(everything) == 2
    node.close()
    node.close()
    gone(everything)
    assert ends == []
    with pytest.raises(NodeLost, match="n1: closed; asked to run `true`"):
        node.run(["true"])
    assert other.run(["echo", "alive"]).stdout == "alive\n"


def test_close_ends_a_node_whose_agent_has_stopped(
    own_fabric: Fabric,
    pair: tuple[NamespaceNode, NamespaceNode],
    outside_pid: OutsidePid,
    stopped: Stop,
) -> None:
    node, other = pair
    node.run(["sh", "-c", "setsid sleep 600 & exit 0"])
    everything = below(outside_pid(own_fabric, node.pid))
    stopped(everything[0])
    node.close()
    gone(everything)
    assert other.run(["echo", "alive"]).stdout == "alive\n"


def test_the_launcher_outlives_the_thread_that_started_it(ready: Environment) -> None:
    made: list[Fabric] = []
    thread = threading.Thread(target=lambda: made.append(Fabric()))
    thread.start()
    thread.join()
    with closing(made[0]) as fabric, closing(fabric.start_node("n1", ready.image.lower)) as node:
        assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_launcher_of_another_thread_ends_with_the_process() -> None:
    script = """
import threading, time
from harness.nodes.namespace import Fabric
made = []
thread = threading.Thread(target=lambda: made.append(Fabric()))
thread.start()
thread.join()
made[0].wait()
print(made[0].process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as harness:
        assert harness.stdout is not None
        everything = below(int(harness.stdout.readline()))
        assert len(everything) == 2
        harness.kill()
    gone(everything)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_launcher_dies_every_node_dies(
    own_fabric: Fabric, pair: tuple[NamespaceNode, NamespaceNode], end: signal.Signals
) -> None:
    everything = below(own_fabric.process.pid)
    waiting = [node.run_soon(["sleep", "100"], timeout=200) for node in pair]
    own_fabric.process.send_signal(end)
    for pending in waiting:
        with pytest.raises(NodeLost, match="the node has ended, asked to run `sleep 100`"):
            pending.result()
    gone([pid for pid in everything if pid != own_fabric.process.pid])
    with pytest.raises(NodeLost, match="launcher: "):
        own_fabric.start_node("n3", [Path("/")])
    own_fabric.close()
    own_fabric.close()


def test_when_the_launcher_s_first_process_dies_every_node_dies(
    own_fabric: Fabric, pair: tuple[NamespaceNode, NamespaceNode]
) -> None:
    everything = below(own_fabric.process.pid)
    os.kill(everything[1], signal.SIGKILL)
    for node in pair:
        with pytest.raises(NodeLost):
            node.run(["sleep", "100"], timeout=200)
    gone([pid for pid in everything if pid != own_fabric.process.pid])


def test_a_launcher_that_stops_answering(
    own_fabric: Fabric, ready: Environment, stopped: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "GRACE", 0.3)
    stopped(below(own_fabric.process.pid)[1])
    with pytest.raises(NodeLost, match=r"launcher: no answer after 0.3 s; .* start node n9"):
        own_fabric.start_node("n9", ready.image.lower)


@pytest.mark.parametrize(
    ("lower", "said"),
    [("/nowhere", "/nowhere: No such file or directory"), ("/etc/hostname", "Not a directory")],
)
def test_a_node_that_cannot_start_says_why(own_fabric: Fabric, lower: str, said: str) -> None:
    before = below(own_fabric.process.pid)
    with pytest.raises(NodeError, match=f"^launcher: cannot start node n9: .*{said}"):
        own_fabric.start_node("n9", [Path(lower)])
    gone([pid for pid in below(own_fabric.process.pid) if pid not in before])


def test_100_nodes_come_and_go_and_leave_nothing_in_the_launcher(
    own_fabric: Fabric, ready: Environment, outside_pid: OutsidePid
) -> None:
    first = outside_pid(own_fabric, own_fabric.node.pid)

    def descriptors() -> int:
        return len(list(Path(f"/proc/{first}/fd").iterdir()))

    before = descriptors()
    for _ in range(10):
        nodes = [own_fabric.start_node(f"n{number}", ready.image.lower) for number in range(10)]
        for node in nodes:
            node.close()
    eventually(descriptors, lambda now: now == before, within=60, what="descriptors let go of")
    gone(below(first)[1:])
