"""pytest plugin: options, fixtures, the marker ``requires``, and what a failure leaves behind."""

from __future__ import annotations

import os
import random
import shlex
import signal
import sys
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.lab import Lab, Target
    from harness.topology import Topology

_LABS: pytest.StashKey[list[Lab]] = pytest.StashKey()
_SEED: pytest.StashKey[int] = pytest.StashKey()
_SEED_LIMIT = 1 << 32


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ovs-harness", "Open vSwitch harness")
    group.addoption(
        "--target",
        action="append",
        metavar="IMAGE/BACKEND/DATAPATH",
        help="what the scenarios run on; repeatable: they run once for each "
        "(default: trixie/namespace/netdev)",
    )
    group.addoption(
        "--require-all",
        action="store_true",
        help="what a target lacks fails a scenario instead of skipping it",
    )
    group.addoption(
        "--keep-lab",
        action="store_true",
        help="when a scenario fails, keep its lab up to look around in, until Enter is pressed",
    )
    group.addoption(
        "--harness-seed",
        type=int,
        metavar="N",
        help="seed of everything random (default: a new one each run)",
    )
    group.addoption(
        "--artifacts",
        metavar="DIR",
        default="reports",
        help="where a failed scenario leaves its bundle (default: reports)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "requires(*features): skip where the target lacks one, as found by trying: "
        "'tunnel:TYPE', 'datapath:FEATURE', 'openflow:VERSION', 'appctl:COMMAND', 'meters'",
    )
    given = getattr(config, "workerinput", {}).get("harness_seed", config.option.harness_seed)
    config.stash[_SEED] = random.randrange(_SEED_LIMIT) if given is None else given
    if config.option.keep_lab and config.getoption("numprocesses", None):
        raise pytest.UsageError("--keep-lab waits for Enter, so it does not go with -n")
    config.stash[_TARGETS] = _targets(config)


_TARGETS: pytest.StashKey[list[Target]] = pytest.StashKey()


def _targets(config: pytest.Config) -> list[Target]:
    from harness.lab.target import DEFAULT_TARGET, Target, TargetError

    try:
        given = [Target.parse(text) for text in config.option.target or [DEFAULT_TARGET]]
    except TargetError as error:
        raise pytest.UsageError(str(error)) from error
    return list(dict.fromkeys(given))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Every worker of pytest-xdist works with the run's seed."""
    node.workerinput["harness_seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> str:
    targets = ", ".join(str(target) for target in config.stash[_TARGETS])
    return f"ovs-harness: targets {targets}; seed {config.stash[_SEED]}"


# -- targets


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        targets = metafunc.config.stash[_TARGETS]
        metafunc.parametrize("target", targets, ids=str, scope="session")


# -- fixtures


@pytest.fixture
def topology() -> Topology:
    """The network that a scenario runs on: override this fixture in the scenario's module."""
    raise pytest.UsageError(
        "this scenario asks for a lab, and its module has no fixture `topology` that says which"
    )


@pytest.fixture
def lab(request: pytest.FixtureRequest, target: Target, topology: Topology) -> Iterator[Lab]:
    """The module's topology on real switches, fresh for every test."""
    yield from _live(request, target, topology)


@pytest.fixture(scope="module")
def module_lab(request: pytest.FixtureRequest, target: Target, topology: Topology) -> Iterator[Lab]:
    """The same, shared by the tests of a module, which only look. The module's fixture
    ``topology`` has to have the scope ``module`` too."""
    yield from _live(request, target, topology)


def _live(request: pytest.FixtureRequest, target: Target, topology: Topology) -> Iterator[Lab]:
    from harness.lab import Lab
    from harness.lab.environment import TargetUnavailable, environment, fabric

    config = request.config
    try:
        found = environment(target, _progress(config))
    except TargetUnavailable as lacking:
        _lacking(config, str(lacking))
    _check_requirements(request, target)
    seed = zlib.crc32(request.node.nodeid.encode(), config.stash[_SEED])
    with Lab(topology, fabric(), found.lower, target=target, seed=seed) as live:
        yield live


def _progress(config: pytest.Config) -> Any:
    """Show a line now, whatever pytest captures: building an image takes half a minute."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def show(line: str) -> None:
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"ovs-harness: {line}")

    return show


def _lacking(config: pytest.Config, what: str) -> None:
    if config.option.require_all:
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def _check_requirements(request: pytest.FixtureRequest, target: Target) -> None:
    from harness.lab.capabilities import missing

    features = [name for mark in request.node.iter_markers("requires") for name in mark.args]
    for feature in dict.fromkeys(features):
        reason = missing(target, feature)
        if reason is not None:
            _lacking(request.config, f"{target} lacks {feature}: {reason}")


# -- judgement and failure


def _labs_of(item: pytest.Item) -> list[Lab]:
    from harness.lab import Lab

    values = getattr(item, "funcargs", {}).values()
    return [value for value in values if isinstance(value, Lab)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A scenario that passed has failed all the same when a daemon died or frames were odd."""
    yield
    for one in _labs_of(item) if "target" in getattr(item, "fixturenames", ()) else []:
        one.verify()
        item.user_properties.extend(one.measurements.items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.when == "call" and report.failed and "target" in getattr(item, "fixturenames", ()):
        for one in _labs_of(item):
            _leave_bundle(item, one, report)
            if item.config.option.keep_lab:
                _keep(item.config, one)
    return report


def _leave_bundle(item: pytest.Item, lab: Lab, report: pytest.TestReport) -> None:
    from harness.lab.bundle import write

    directory = Path(item.config.rootpath, item.config.option.artifacts)
    rerun = [
        "pytest",
        item.nodeid.partition("[")[0],
        f"--target={lab.target}",
        f"--harness-seed={item.config.stash[_SEED]}",
    ]
    path = write(lab, directory, item.nodeid, rerun=rerun, failure=report.longreprtext)
    report.sections.append(("ovs-harness", f"bundle: {path}\nseed: {lab.seed}"))


def _keep(config: pytest.Config, lab: Lab) -> None:
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    # At this time only standard input is still pytest's.
    capture.suspend_global_capture(in_=True)
    try:
        print(f"\nThe lab of {lab.spec.name} is still up. Enter its switches and hosts with:")
        for name in lab.switches:
            print(f"  {_shell(lab, name)}")
        for endpoint in lab.engine.plan.endpoints.values():
            if endpoint.is_host:
                print(f"  {_shell(lab, endpoint.switch, endpoint.space)}")
        _wait_for_user()
    finally:
        capture.resume_global_capture()
        capture.suspend_global_capture()


def _shell(lab: Lab, switch: str, host: str | None = None) -> str:
    from harness.nodes.base import NodeError

    try:
        return shlex.join(lab.node(switch).shell_argv(host))
    except NodeError as error:
        return f"(none: {error})"


def _wait_for_user() -> None:
    """Return when Enter is pressed. SIGINT and SIGTERM end the run cleanly, which is the only way
    where standard input has ended."""
    before = {number: signal.signal(number, _end_run) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print("Press Enter to end it.", flush=True)
        if sys.stdin is not None and (sys.stdin.readline() or sys.stdin.isatty()):
            return
        how = f"SIGINT or SIGTERM to process {os.getpid()}"
        print(f"Nobody can press it: {how} ends it, and the run.", flush=True)
        while True:
            signal.pause()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_run(number: int, _frame: object) -> None:
    pytest.exit(f"--keep-lab: ended by {signal.Signals(number).name}", returncode=128 + number)


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Say in words how what arrived differs from what should have."""
    del config
    if op != "==":
        return None
    from harness.traffic.explain import explain

    return explain(left, right)
