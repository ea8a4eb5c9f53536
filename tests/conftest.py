"""What the tests of the harness's own heart share: real nodes, real labs, a look at the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.agent import carried
from harness.lab import Lab, Target
from harness.lab.environment import Environment, TargetUnavailable, environment, namespaces
from harness.lab.environment import fabric as shared_fabric
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.nodes.processes import Process, look
from harness.topology import Topology, TopologySpec

from . import sshd
from .sshd import Machines

MakeLab = Callable[..., Lab]
RunPytest = Callable[..., subprocess.CompletedProcess[str]]
LONGEST = "test_every_scenario_can_fail"
"""Some minutes."""


def pytest_configure() -> None:
    """Let what tests start be interrupted: a shell has what it runs in the background ignore these
    signals, and programs pass that on to those that they start."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # So does nohup(1). We go on ignoring it, but what we start has its own way again.
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: side by side with the rest it then costs nothing."""
    items.sort(key=lambda item: item.name != LONGEST)


@pytest.fixture(scope="session")
def ready() -> Environment:
    """The default target, made ready."""
    return made_ready("trixie/namespace/netdev")


@pytest.fixture(scope="session")
def machines() -> Environment:
    """Virtual machines, made ready."""
    return made_ready("trixie/vm/kernel")


def made_ready(target: str) -> Environment:
    """A target; where it cannot run skips with what is missing, but not in CI: there it would hide
    that nothing was tested."""
    try:
        return environment(Target.parse(target))
    except TargetUnavailable as lacking:
        if os.environ.get("CI"):
            pytest.fail(str(lacking), pytrace=False)
        pytest.skip(str(lacking))


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it is carried into a node: what Python is to run."""
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(carried.program())
    return path


@pytest.fixture
def fabric(ready: Environment) -> Fabric:
    """This process's launcher."""
    del ready
    return shared_fabric()


@pytest.fixture
def own_fabric(ready: Environment) -> Iterator[Fabric]:
    """A launcher that a test may break; it is up."""
    del ready
    made = Fabric()
    made.wait()
    yield made
    made.close()


@pytest.fixture
def node(fabric: Fabric, ready: Environment) -> Iterator[NamespaceNode]:
    """A fresh node without Open vSwitch running in it."""
    made = fabric.start_node("n1", ready.image.lower)
    yield made
    made.close()


@pytest.fixture
def make_lab(ready: Environment) -> Iterator[MakeLab]:
    """Makes labs that end with the test."""
    with ExitStack() as labs:

        def make(topology: Topology | TopologySpec, *, fabric: Fabric | None = None) -> Lab:
            site = namespaces(ready.target, fabric or shared_fabric(), ready.image.lower)
            return labs.enter_context(Lab(topology, ready._replace(site=site), seed=7))

        yield make


@pytest.fixture(scope="module")
def remotes(ready: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines, ``hv1`` and ``hv2``, that ssh leads to."""
    if os.geteuid() != 0:
        pytest.skip("sshd has to be run by root")
    if sshd.missing():
        if os.environ.get("CI"):
            pytest.fail(sshd.missing(), pytrace=False)
        pytest.skip(sshd.missing())
    made = Machines(("hv1", "hv2"), ready, tmp_path_factory.mktemp("machines"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(made.bin), prepend=os.pathsep)
        yield made
    made.close()


@pytest.fixture(scope="session")
def run_pytest() -> RunPytest:
    """Runs pytest with some options on the tests in a directory, to its end; what it writes to
    either output is in ``stdout``. It finds the plugin by its entry point."""

    def run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
            cwd=directory,
            env={**os.environ, "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )

    return run_pytest


# -- a look at the machine


@pytest.fixture
def outside_pid() -> Callable[[Fabric, int], int]:
    """The machine's own process id of a process that a launcher knows under another one."""

    def find(fabric: Fabric, pid: int) -> int:
        seen = look()
        # The launcher's PID namespace is the one below this process's own.
        below = len(seen[os.getpid()].ids)
        for candidate, process in seen.items():
            if process.ids[below : below + 1] == (pid,) and _descends(
                candidate, fabric.process.pid, seen
            ):
                return candidate
        raise LookupError(f"no process below {fabric.process.pid} has the number {pid} there")

    return find


def _descends(pid: int, root: int, seen: dict[int, Process]) -> bool:
    while pid in seen and pid != root:
        pid = seen[pid].parent
    return pid == root


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
