"""What the tests of the harness's own heart share: real nodes, real labs, a look at the machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.lab import Lab, Target
from harness.lab.environment import Environment, TargetUnavailable, environment
from harness.lab.environment import fabric as shared_fabric
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.topology import Topology, TopologySpec

MakeLab = Callable[..., Lab]


@pytest.fixture(scope="session")
def ready() -> Environment:
    """The default target, made ready; skips with what is missing where it cannot run."""
    try:
        return environment(Target.parse("trixie/namespace/netdev"))
    except TargetUnavailable as lacking:
        pytest.skip(str(lacking))


@pytest.fixture
def fabric(ready: Environment) -> Fabric:
    """This process's launcher."""
    del ready
    return shared_fabric()


@pytest.fixture
def own_fabric(ready: Environment) -> Iterator[Fabric]:
    """A launcher that a test may break."""
    del ready
    made = Fabric()
    yield made
    made.close()


@pytest.fixture
def node(fabric: Fabric, ready: Environment) -> Iterator[NamespaceNode]:
    """A fresh node without Open vSwitch running in it."""
    made = fabric.start_node("n1", ready.lower)
    yield made
    made.close()


@pytest.fixture
def make_lab(ready: Environment) -> Iterator[MakeLab]:
    """Makes labs that end with the test."""
    with ExitStack() as labs:

        def make(topology: Topology | TopologySpec, *, fabric: Fabric | None = None) -> Lab:
            made = Lab(
                topology, fabric or shared_fabric(), ready.lower, target=ready.target, seed=7
            )
            return labs.enter_context(made)

        yield make


# -- a look at the machine


def children() -> dict[int, list[int]]:
    """Every process that can be seen, by its parent."""
    found: dict[int, list[int]] = {}
    for pid in pids():
        stat = stat_of(pid)
        if stat is not None:
            found.setdefault(int(stat[1]), []).append(pid)
    return found


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def stat_of(pid: int) -> list[str] | None:
    """Fields 3 and on of /proc/PID/stat (the second, the name, may itself hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> list[int]:
    """The processes that descend from ``root``, itself left out."""
    by_parent = children()
    found: list[int] = []
    todo = [root]
    while todo:
        below = by_parent.get(todo.pop(), [])
        found += below
        todo += below
    return found


@pytest.fixture
def outside_pid() -> Callable[[Fabric, int], int]:
    """The machine's own process id of a process that a launcher knows under another one."""

    def look(fabric: Fabric, pid: int) -> int:
        for candidate in tree(fabric.process.pid):
            status = Path(f"/proc/{candidate}/status").read_text()
            (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
            numbers = [int(number) for number in line.split()[1:]]
            # The launcher's PID namespace is the one below this process's own.
            below = len(_own_numbers())
            if len(numbers) > below and numbers[below] == pid:
                return candidate
        raise LookupError(f"no process below {fabric.process.pid} has the number {pid} there")

    return look


def _own_numbers() -> list[str]:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return line.split()[1:]


@pytest.fixture
def stopped() -> Iterator[Callable[[int], None]]:
    """Stops processes by their id; they go on when the test ends, if they still exist."""
    with ExitStack() as later:

        def stop(pid: int) -> None:
            os.kill(pid, signal.SIGSTOP)
            later.callback(_go_on, pid)

        yield stop


def _go_on(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
