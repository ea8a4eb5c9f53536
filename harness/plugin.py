"""pytest plugin: options, fixtures, the marker ``requires``, and what a failure leaves behind.

Once installed it is part of every run of pytest, also of projects that know nothing of it. There
it costs no import, prints nothing, and leaves arguments and fixtures that are called as its own
ones to whoever defined them.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.lab import Lab, Target
    from harness.topology import Topology

_LABS: pytest.StashKey[list[Lab]] = pytest.StashKey()
"""On a test, or on a module, the labs that the fixtures below have made for it."""
_UNAVAILABLE: pytest.StashKey[set[str]] = pytest.StashKey()
"""Why targets can't run here."""
_SEED: pytest.StashKey[int] = pytest.StashKey()
_TARGETS: pytest.StashKey[list[str]] = pytest.StashKey()
_SAID: pytest.StashKey[bool] = pytest.StashKey()
"""Whether the line about targets and seed has been printed."""
_SEED_LIMIT = 1 << 32


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "ovs_targets",
        type="args",
        default=[],
        help="what scenarios run on where no --target is given (default: trixie/namespace/netdev)",
    )
    group = parser.getgroup("ovs-harness", "Open vSwitch harness")
    group.addoption(
        "--target",
        action="append",
        metavar="IMAGE/BACKEND/DATAPATH",
        help="what the scenarios run on, or ssh://[USER@]MACHINE,.../DATAPATH for remote machines; "
        "repeatable, and with braces as a shell expands them ('{bullseye,trixie}/vm/kernel'): they "
        "run once for each; the image `all` is each of the catalogue (default: those in the "
        "setting `ovs_targets`, else trixie/namespace/netdev)",
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
        "'tunnel:TYPE', 'datapath:FEATURE', 'openflow:VERSION', 'appctl:COMMAND', "
        "'column:TABLE.COLUMN', 'program:NAME', 'users', 'meters', 'kernel module', "
        "'bad links', 'upgrades'",
    )
    given = getattr(config, "workerinput", {}).get("harness_seed", config.option.harness_seed)
    # Not from `random`, whose state belongs to the project that is tested.
    config.stash[_SEED] = secrets.randbelow(_SEED_LIMIT) if given is None else given
    if config.option.keep_lab and config.getoption("numprocesses", None):
        raise pytest.UsageError("--keep-lab waits for Enter, so it does not go with -n")
    if config.option.target or config.getini("ovs_targets"):
        # A mistake is told at once.
        _targets(config)
    if "testinfra.backend" in sys.modules:
        # There is no public way to add one.
        sys.modules["testinfra.backend"].BACKENDS["agent"] = "harness.live.infra.LabBackend"
    table = config.rootpath / "scenarios/known_defects.toml"
    if table.is_file():
        from harness.defects.hooks import KnownDefects

        config.pluginmanager.register(KnownDefects(table))


def _targets(config: pytest.Config) -> list[str]:
    """The names of the run's targets. Raise :class:`pytest.UsageError` for a bad one."""
    if _TARGETS not in config.stash:
        from harness.lab.target import DEFAULT_TARGET, Target, TargetError, expand

        named = config.option.target or config.getini("ovs_targets") or [DEFAULT_TARGET]
        try:
            given = [str(Target.parse(one)) for text in named for one in expand(text)]
        except TargetError as error:
            raise pytest.UsageError(str(error)) from error
        from harness.results.hooks import ByTarget

        targets = config.stash[_TARGETS] = list(dict.fromkeys(given))
        config.pluginmanager.register(ByTarget(targets))
    return config.stash[_TARGETS]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Every worker of pytest-xdist works with the run's seed."""
    node.workerinput["harness_seed"] = node.config.stash[_SEED]


# -- what the run is about, said once it is known that anything here takes part


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> str | None:
    # Where no test has asked for the targets, there is no need to know them.
    return _header(config, [item.nodeid for item in items]) if _TARGETS in config.stash else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """The process that reports collects nothing itself: the workers tell it."""
    header = _header(node.config, ids)
    if header is not None and not node.config.stash.get(_SAID, False):
        node.config.stash[_SAID] = True
        _write_line(node.config, header)


def _header(config: pytest.Config, ids: Iterable[str]) -> str | None:
    """Targets and seed; None for a run in which no test has a target in its id, or with -q."""
    targets = _targets(config)
    parameters = {nodeid.partition("[")[2] for nodeid in ids}
    used = any(target in text for text in parameters for target in targets)
    if not used or config.option.verbose < 0:
        return None
    return f"ovs-harness: targets {', '.join(targets)}; seed {config.stash[_SEED]}"


# -- targets


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """What the test runs on. A test that asks for it, or for a lab, runs once for each of the
    run's targets. A project may have a fixture of this name, or parametrize it: that one counts."""
    from harness.lab.target import Target

    if not hasattr(request, "param"):
        raise pytest.UsageError(
            "`target` (which `lab` needs) has to be an argument of the test or of one of its "
            "fixtures: getfixturevalue() comes too late to run the test once for each target"
        )
    return Target.parse(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _uses_our_target(metafunc):
        targets = _targets(metafunc.config)
        metafunc.parametrize("target", targets, ids=targets, indirect=True, scope="session")


def _uses_our_target(metafunc: pytest.Metafunc) -> bool:
    """Whether ``target`` is the fixture above, and nobody else says which values it takes."""
    if "target" not in metafunc.fixturenames or _is_parametrized(metafunc, "target"):
        return False
    # Nearest last. A fixture that overrides the one above may ask for it in turn, as pytest's own
    # look at parametrized fixtures allows for. There is no public way to see which one applies.
    for definition in reversed(metafunc._arg2fixturedefs.get("target", ())):
        if definition.func.__module__ == __name__:
            return True
        if definition.params is not None or "target" not in definition.argnames:
            return False
    return False


def _is_parametrized(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether a mark, or a ``pytest_generate_tests`` called before, parametrizes an argument."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if name in ([one.strip() for one in names.split(",")] if isinstance(names, str) else names):
            return True
    return any(name in call.params for call in metafunc._calls)


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
    from harness.lab.environment import TargetUnavailable, environment

    config = request.config
    try:
        found = environment(target, _progress(config))
    except TargetUnavailable as unavailable:
        config.stash.setdefault(_UNAVAILABLE, set()).add(str(unavailable))
        _lacking(config, str(unavailable))
    _check_requirements(request, target)
    seed = zlib.crc32(request.node.nodeid.encode(), config.stash[_SEED])
    labs = request.node.stash.setdefault(_LABS, [])
    with Lab(topology, found, seed=seed) as live:
        labs.append(live)
        try:
            yield live
        finally:
            labs.remove(live)


def _progress(config: pytest.Config) -> Any:
    """Show a line now, whatever pytest captures: building an image takes half a minute."""
    capture = config.pluginmanager.get_plugin("capturemanager")

    def show(line: str) -> None:
        if capture is not None:
            with capture.global_and_fixture_disabled():
                _write_line(config, f"ovs-harness: {line}")

    return show


def _write_line(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(line)


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
    """The labs that the fixtures ``lab`` and ``module_lab`` made and a test was given. One that a
    project makes by itself is its own to judge."""
    given = {id(value) for value in getattr(item, "funcargs", {}).values()}
    made = [lab for node in item.listchain() for lab in node.stash.get(_LABS, [])]
    return [lab for lab in made if id(lab) in given]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A scenario that passed has failed all the same when a daemon died or frames were odd."""
    yield
    for one in _labs_of(item):
        one.verify()
        item.user_properties.extend(one.measurements.items())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report: pytest.TestReport = yield
    why = str(call.excinfo.value) if call.excinfo is not None else ""
    if report.skipped and why in item.config.stash.get(_UNAVAILABLE, ()):
        # One place for all of a target: the summary then has one line, not one for each test.
        report.longrepr = (__file__, _lacking.__code__.co_firstlineno, f"Skipped: {why}")
    if report.when == "call" and report.failed:
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
    # Where nothing has imported the module, neither side is of its types.
    if op != "==" or "harness.traffic" not in sys.modules:
        return None
    from harness.traffic.explain import explain

    return explain(left, right)
