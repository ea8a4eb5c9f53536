"""The plugin in projects that have the package installed and nothing to do with it: their
arguments, fixtures and output stay their own. And in those that use it and name things alike."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

Run = Callable[..., str]
RunPytest = Callable[..., subprocess.CompletedProcess[str]]
TWICE = ("--target=bookworm/namespace/netdev", "--target=forky/namespace/dummy")
HEADER = "ovs-harness: targets"


OPTIONS = ("--import-mode=importlib", "-v")


@pytest.fixture
def run(tmp_path: Path, run_pytest: RunPytest) -> Run:
    """What pytest prints for one file of tests and a conftest."""

    def run(test: str, *options: str, conftest: str = "") -> str:
        (tmp_path / "conftest.py").write_text(conftest)
        (tmp_path / "test_x.py").write_text(test)
        return run_pytest(tmp_path, *OPTIONS, *options).stdout

    return run


# -- names that others use too


class Case(NamedTuple):
    """A module of tests and its conftest, and the names under which pytest runs the tests."""

    test: str
    names: set[str]
    conftest: str = ""


HOOK = """
def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", ["x86", "arm"])
"""
CASES = {
    "fixture of the module": Case(
        """
import pytest
@pytest.fixture
def target(): return "mine"
def test_it(target): assert target == "mine"
""",
        {"test_it"},
    ),
    "fixture of the conftest": Case(
        "def test_it(target): assert target == 'mine'",
        {"test_it"},
        """
import pytest
@pytest.fixture(scope="session")
def target(): return "mine"
""",
    ),
    "fixture of a class": Case(
        """
import pytest
class TestIt:
    @pytest.fixture
    def target(self): return "mine"
    def test_it(self, target): assert target == "mine"
""",
        {"TestIt::test_it"},
    ),
    "fixture with parameters": Case(
        "def test_it(target): assert target in 'ab'",
        {"test_it[a]", "test_it[b]"},
        """
import pytest
@pytest.fixture(params="ab")
def target(request): return request.param
""",
    ),
    "parameter": Case(
        """
import pytest
@pytest.mark.parametrize("target", [1, 2])
def test_it(target): assert target in (1, 2)
""",
        {"test_it[1]", "test_it[2]"},
    ),
    "parameter among others": Case(
        """
import pytest
@pytest.mark.parametrize("source, target", [(1, 2)])
def test_it(source, target): assert target == 2
""",
        {"test_it[1-2]"},
    ),
    "parameter by keyword": Case(
        """
import pytest
@pytest.mark.parametrize(argnames=["target"], argvalues=[[1]])
def test_it(target): assert target == 1
""",
        {"test_it[1]"},
    ),
    "parameter of their fixture": Case(
        """
import pytest
@pytest.fixture
def target(request): return -request.param
@pytest.mark.parametrize("target", [1], indirect=True)
def test_it(target): assert target == -1
""",
        {"test_it[1]"},
    ),
    "hook of the module": Case(
        HOOK + "def test_it(target): assert target in ('x86', 'arm')",
        {"test_it[x86]", "test_it[arm]"},
    ),
    "hook of the conftest": Case(
        "def test_it(target): assert target in ('x86', 'arm')",
        {"test_it[x86]", "test_it[arm]"},
        HOOK,
    ),
    "default": Case("def test_it(target='mine'): assert target == 'mine'", {"test_it"}),
    "lab and topology": Case(
        "def test_it(lab, module_lab, topology): assert [lab, module_lab, topology] == [1, 2, 3]",
        {"test_it"},
        "import pytest\n"
        + "\n".join(
            f"@pytest.fixture\ndef {name}(): return {value}"
            for name, value in (("lab", 1), ("module_lab", 2), ("topology", 3))
        ),
    ),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, run_pytest: RunPytest) -> str:
    """What pytest prints for all of the cases, each in a directory of its own."""
    project = tmp_path_factory.mktemp("project")
    for name, case in CASES.items():
        directory = project / name.replace(" ", "_")
        directory.mkdir()
        (directory / "test_x.py").write_text(case.test)
        (directory / "conftest.py").write_text(case.conftest)
    return run_pytest(project, *OPTIONS, *TWICE).stdout


@pytest.mark.parametrize("name", CASES)
def test_what_is_called_like_ours_is_theirs(out: str, name: str) -> None:
    directory = re.escape(name.replace(" ", "_"))
    passed = re.findall(rf"^{directory}/test_x\.py::(\S+) PASSED", out, re.MULTILINE)
    assert sorted(passed) == sorted(CASES[name].names), out


def test_nothing_is_said_where_nothing_is_used(out: str) -> None:
    assert HEADER not in out
    assert re.search(r"=+ \d+ passed in", out)


def test_a_fixture_may_ask_for_the_one_that_it_overrides(run: Run) -> None:
    out = run(
        "def test_it(target): assert target.startswith('on ')",
        *TWICE,
        conftest="import pytest\n@pytest.fixture\ndef target(target): return f'on {target}'",
    )
    found = re.findall(r"::test_it\[(\S+)\] PASSED", out)
    assert found == ["bookworm/namespace/netdev", "forky/namespace/dummy"]


def test_a_target_that_comes_too_late_is_refused(run: Run) -> None:
    out = run("def test_it(request): request.getfixturevalue('target')")
    assert "getfixturevalue() comes too late" in out
    assert "1 failed in" in out


# -- what is said, and what it costs


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "-n2"])
def test_targets_and_seed_are_said_once_where_they_are_used(
    run: Run, options: tuple[str, ...]
) -> None:
    seed = "--harness-seed=5"
    used = run("def test_it(target): pass\ndef test_too(target): pass", seed, *options)
    assert used.count("ovs-harness: targets trixie/namespace/netdev; seed 5\n") == 1
    assert "2 passed in" in used


def test_workers_without_our_fixtures_say_nothing(run: Run) -> None:
    out = run("def test_it(): pass", "-n1", "--harness-seed=5")
    assert HEADER not in out
    assert "1 passed in" in out


def test_a_quiet_run_says_nothing(run: Run) -> None:
    out = run("def test_it(target): pass", "-qq")
    assert HEADER not in out
    assert "1 passed in" in out


def test_a_run_without_our_fixtures_imports_nothing_and_draws_nothing(run: Run) -> None:
    out = run(
        """
import random, sys
def test_that_fails(): assert [1] == [2]
def test_imports():
    assert "harness.plugin" in sys.modules
    ours = {name for name in sys.modules if name.partition(".")[0] == "harness"}
    assert ours == {"harness", "harness.plugin", "harness.lazily"}
    assert not {"scapy", "yaml", "msgspec"} & set(sys.modules)
def test_random(): assert random.random() == random.Random(5).random()
""",
        # A conftest is imported before plugins are configured.
        conftest="import random\nrandom.seed(5)",
    )
    assert "1 failed, 2 passed in" in out
    assert "assert [1] == [2]" in out
    assert "bundle:" not in out
