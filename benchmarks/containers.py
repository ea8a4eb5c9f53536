"""(g) Containers: what an agent in them saves beside `docker run` and `docker exec`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.first_frame import ROUNDS
from benchmarks.processes import harness
from benchmarks.rivals import duel
from harness.images.engine_names import reference
from harness.lab import Lab, Target
from harness.lab.environment import Environment, TargetUnavailable, broker, environment
from harness.nodes.containers.client import DockerNode
from harness.topology import Topology

TARGET = "trixie/docker/netdev"
COMMANDS, STARTS, RUNS = 100, 5, 5
EXECS = 15
FASTER = 10
HOSTS = {"h1": "10.0.0.1/24", "h2": "10.0.0.2/24"}


def measure(say: Say) -> Section:
    """Commands in a container, and from nothing to the first frame."""
    section = Section(TARGET, peer="docker run, docker exec")
    try:
        found = environment(Target.parse(TARGET), say)
    except TargetUnavailable as error:
        section.rows = [
            Row("nothing was measured", None, words=f"{error} (`scripts/engine make bench`)")
        ]
        return section
    os.environ["DOCKER_HOST"] = broker().engine.url
    say("containers: commands")
    ours, execs = _commands(found)
    starts = []
    for number in range(STARTS):
        say(f"containers: a lab, {number + 1} of {STARTS}")
        starts.append(_timed(lambda: _lab(found)))
    by_hand = []
    for number in range(STARTS if execs else 0):
        say(f"containers: the same by hand, {number + 1} of {STARTS}")
        by_hand.append(_timed(lambda: _by_hand(reference(found.image))))
    firsts = []
    for number in range(RUNS):
        say(f"containers: from nothing, {number + 1} of {RUNS}")
        firsts.append(harness(TARGET, 1, 2, pairs=False).first)
    command, lab = Figure.of(ours, "ms"), Figure.of(starts)
    section.rows = [
        _beside(
            "a command in a container", command, Figure.of(execs, "ms") if execs else None, FASTER
        ),
        _beside(
            "1 switch, 2 hosts: first verified frame", lab, Figure.of(by_hand) if by_hand else None
        ),
        _mininet(Figure.of(firsts), say),
    ]
    return section


def _beside(what: str, ours: Figure, peer: Figure | None, aim: int = 0) -> Row:
    if peer is None:
        return Row(what, ours, words="to compare: install the command docker")
    words = f"{peer.median / ours.median:.0f} times as fast"
    return Row(what, ours, peer, f"{words}; aim: at least {aim}" if aim else words)


def _mininet(first: Figure, say: Say) -> Row:
    what = "  from nothing, a new process, beside Mininet"
    found = duel(2, ROUNDS[2], say)
    if not found.mininet:
        return Row(what, first, words=found.lacking)
    peer = Figure.of([run.first for run in found.mininet])
    return Row(what, first, peer, f"{first.median / peer.median:.2f} of its time")


def _topology() -> Topology:
    topology = Topology("containers")
    bridge = topology.switch("s1").bridge("br0")
    for host in HOSTS:
        bridge.host(host)
    return topology


def _commands(found: Environment) -> tuple[list[float], list[float]]:
    """Milliseconds that `true` takes over the agent, and over `docker exec`."""
    with Lab(_topology(), found) as lab:
        node = lab.node("s1")
        assert isinstance(node, DockerNode)
        ours = [1000 * _timed(lambda: node.run(["true"])) for _ in range(COMMANDS)]
        if shutil.which("docker") is None:
            return ours, []
        argv = ["docker", "exec", node.container, "true"]
        return ours, [1000 * _timed(lambda: _run(argv)) for _ in range(EXECS)]


def _lab(found: Environment) -> None:
    with Lab(_topology(), found) as lab:
        assert lab.probe("h1", to="h2").heard_at == {"h2"}


def _by_hand(image: str) -> None:
    """The same topology as whoever drives containers with `docker exec` gets it."""
    with _container(image) as name:
        for line in _typed():
            _run(["docker", "exec", name, *line.split()])


def _typed() -> Iterator[str]:
    """What is typed into the container, up to the first frame."""
    yield "/usr/share/openvswitch/scripts/ovs-ctl --system-id=s1 start"
    yield "ovs-vsctl add-br br0 -- set Bridge br0 datapath_type=netdev"
    for host, address in HOSTS.items():
        yield f"ip netns add {host}"
        yield f"ip link add {host} type veth peer name eth0 netns {host}"
        yield f"ip link set {host} up"
        yield f"ip -n {host} link set eth0 up"
        yield f"ip -n {host} addr add {address} dev eth0"
        yield f"ovs-vsctl add-port br0 {host}"
    yield "ip netns exec h1 ping -c 1 -W 5 10.0.0.2"


@contextmanager
def _container(image: str) -> Iterator[str]:
    name = f"ovs-harness-benchmark-{uuid4().hex[:8]}"
    may = [
        f"--cap-add={one}" for one in ("NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_NICE", "IPC_LOCK")
    ]
    apart = ["--network=none", "--device=/dev/net/tun", "--security-opt=systempaths=unconfined"]
    _run(
        ["docker", "run", "--detach", "--rm", f"--name={name}", *may, *apart, image, "sleep", "1d"]
    )
    try:
        yield name
    finally:
        _run(["docker", "rm", "--force", name])


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
