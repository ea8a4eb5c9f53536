"""The table of known defects: what it refuses, which versions it means, and what pytest makes of a
scenario that is in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.defects.table import Defect, DefectsError, read, unmatched
from harness.lab.environment import Environment
from harness.ovs.errors import DaemonError
from tests.runs import Run

ROW = """
[[defect]]
scenario = "bridges/test_x.py::test_it"
what = "it leaks"
symptom = "leak"
upstream = "0123456789"
"""


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    """A directory of scenarios, in one of a project."""
    directory = tmp_path / "scenarios"
    (directory / "bridges").mkdir(parents=True)
    (directory / "bridges/test_x.py").write_text("def test_it(target): pass\n")
    return directory


# -- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[[defect]]", "[[defect]"), "known_defects.toml: "),
        (("[[defect]]", "[[defects]]"), "unknown field `defects`"),
        (("what", "that"), r"unknown field `that` - at `\$\.defect\[1\]`"),
        (('what = "it leaks"', ""), "missing required field `what`"),
        (('"leak"', "3"), "Expected `str`, got `int`"),
        (("it leaks", ""), "what is empty"),
        (('symptom = "leak"', 'symptom = ""'), "symptom is empty"),
        (('"leak"', '"("'), "'\\(' is no regular expression: missing"),
        (("test_x.py::test_it", "test_y.py::test_it"), "there is no file bridges/test_y.py"),
        (("::test_it", "::test_that"), "there is no test_that in bridges/test_x.py"),
        (("::test_it", ""), "not of the form FILE::TEST"),
        (('upstream = "0123456789"', ""), "names neither upstream, a commit, nor finding"),
        (("0123456789", "v3.1.1"), "'v3.1.1' is no commit"),
        (("upstream =", 'finding = "docs/x.md"\nupstream ='), "there is no file docs/x.md"),
        (("upstream =", 'since = "soon"\nupstream ='), "since: 'soon' is no version, as 3.5"),
        (("upstream =", 'fixed_in = ["3"]\nupstream ='), "fixed_in: '3' is no version"),
        (("upstream =", 'fixed_in = "3.1.1"\nupstream ='), "Expected `array`, got `str`"),
        (
            ("upstream =", 'since = "3.1"\nfixed_in = ["3.0.4", "3.1.0"]\nupstream ='),
            "no version is from 3.1 on and before 3.0.4, 3.1.0",
        ),
        (("upstream =", 'targets = ["netdev"]\nupstream ='), "'netdev' is not of the form IMAGE/"),
        (("upstream =", 'targets = ["*/vm/kernal"]\nupstream ='), "is not of the form IMAGE/"),
        (("upstream =", 'raises = "Leak"\nupstream ='), "there is no exception Leak"),
        (("upstream =", 'raises = "os.path.Leak"\nupstream ='), "no exception os.path.Leak"),
        (("upstream =", 'raises = "os.path.join"\nupstream ='), "no exception os.path.join"),
    ],
)
def test_a_mistake_is_refused_with_its_place(
    scenarios: Path, change: tuple[str, str], said: str
) -> None:
    table = scenarios / "known_defects.toml"
    table.write_text(ROW)
    assert len(read(table)) == 1
    table.write_text(ROW + ROW.replace(*change))
    with pytest.raises(DefectsError, match=said) as caught:
        read(table)
    assert str(caught.value).startswith("known_defects.toml")
    table.write_text("")
    assert read(table) == ()


# -- what a row means


def defect(**fields: object) -> Defect:
    return Defect("x.py::test_it", "it leaks", "leak", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("since", "fixed_in", "within", "without"),
    [
        ("", [], ["2.15.0", "3.5.0", "4.0.90", "unknown", ""], []),
        ("", ["2.16.0"], ["2.9.1", "2.15.8"], ["2.16.0", "2.16", "3.0.0", "unknown"]),
        ("3.1.0", ["3.1.1"], ["3.1.0", "3.1"], ["2.15.0", "3.0.9", "3.1.1", "3.5.0"]),
        ("3.1", [], ["3.1.0", "4.0.0-dev"], ["3.0.99", "unknown"]),
        (
            "",
            ["2.15.3", "2.17.2", "3.0.0"],
            ["2.14.9", "2.15.2", "2.16.7", "2.17.1"],
            ["2.15.3", "2.15.10", "2.17.2", "2.17.12", "3.0.0", "3.5.0"],
        ),
    ],
)
def test_versions_that_have_it(
    since: str, fixed_in: list[str], within: list[str], without: list[str]
) -> None:
    row = defect(since=since, fixed_in=tuple(fixed_in))
    asked = {version: row.is_in(version) for version in (*within, *without)}
    assert asked == dict.fromkeys(within, True) | dict.fromkeys(without, False)


def test_targets_and_cases_are_all_or_those_that_are_named() -> None:
    assert defect().is_met_on("trixie/vm/kernel")
    row = defect(targets=("*/*/kernel", "bookworm/vm/*"), cases=("a[1]-*", "b"))
    asked = [row.is_met_on(f"{name}") for name in ("trixie/vm/kernel", "bookworm/vm/netdev")]
    assert asked == [True, True]
    assert row.is_met_on("prefix:/a/b@trixie/vm/kernel")
    assert not row.is_met_on("trixie/namespace/netdev")
    assert row.is_of("x.py::test_it", "a[1]-c")
    assert row.is_of("x.py::test_it", "b")
    assert not row.is_of("x.py::test_it", "b-c")
    assert not row.is_of("x.py::test_that", "b")
    assert unmatched([row, defect()], [("x.py::test_it", "c")]) == [row]


def test_only_its_symptom_explains_a_failure() -> None:
    assert defect().explains(AssertionError("a leak"))
    assert not defect().explains(AssertionError("a loss"))
    assert not defect().explains(ValueError("a leak"))
    row = defect(raises="harness.ovs.errors.DaemonError")
    assert row.explains(DaemonError("a leak"))
    assert not row.explains(AssertionError("a leak"))


def test_the_reason_says_what_and_where_it_is_mended() -> None:
    row = defect(upstream="0123456789", finding="docs/x.md", fixed_in=("3.1.1", "3.2.0"))
    assert row.reason == "it leaks: upstream 0123456789, docs/x.md; fixed in 3.1.1, 3.2.0"


def test_the_table_of_this_project_is_without_mistakes() -> None:
    assert read(Path(__file__).parents[1] / "scenarios/known_defects.toml")


# -- what pytest makes of it


Pytest = Callable[..., Run]
TESTS = """
import pytest

@pytest.mark.parametrize("said", ["leak", "loss", ""])
def test_it(target, said):
    assert not said, f"a {said}"

def test_that(): pass
"""


@pytest.fixture
def run(
    scenarios: Path,
    ready: Environment,
    run_pytest: Callable[..., subprocess.CompletedProcess[str]],
) -> Pytest:
    """Runs pytest in a project with a table, on the default image."""
    assert ready.image.version.startswith("3.5.")

    def run(table: str, *options: str, tests: str = TESTS) -> Run:
        (scenarios / "known_defects.toml").write_text(table)
        (scenarios / "bridges/test_x.py").write_text(tests)
        done = run_pytest(scenarios.parent, "--rootdir=.", "-rA", *options)
        return Run(done.returncode, done.stdout)

    return run


def test_a_known_defect_is_an_expected_failure_and_no_other_failure_is(run: Pytest) -> None:
    done = run(ROW.replace("upstream", 'cases = ["leak", "loss"]\nupstream'))
    assert done.outcomes == {"failed": 1, "passed": 2, "xfailed": 1}
    assert re.search(r"XFAIL .*netdev-leak\] - it leaks: upstream 0123456789$", done.out, re.M)
    assert re.search(r"^FAILED .*netdev-loss\]", done.out, re.M)
    assert "this failure is none of these:\nAssertionError, 'leak': it leaks" in done.out


def test_a_known_defect_that_is_not_met_is_a_failure(run: Pytest) -> None:
    done = run(
        ROW.replace("upstream", 'cases = [""]\nupstream').replace('""', '"*"'), "-k", "not lo"
    )
    assert done.outcomes == {"failed": 1, "passed": 1, "xfailed": 1, "deselected": 1}
    assert "a known defect was not met, the test passes:\nit leaks: upstream" in done.out


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ('fixed_in = ["99.0"]', "xfailed"),
        ('fixed_in = ["3.4.0"]', "failed"),
        ('since = "3.5.0"', "xfailed"),
        ('since = "99.0"', "failed"),
        ('targets = ["*/*/netdev"]', "xfailed"),
        ('targets = ["*/vm/*"]', "failed"),
    ],
)
def test_it_is_met_on_just_its_versions_and_targets(run: Pytest, line: str, outcome: str) -> None:
    table = ROW.replace("upstream", f'cases = ["leak"]\n{line}\nupstream')
    assert run(table, "-k", "leak").outcomes == {outcome: 1, "deselected": 3}


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["alone", "-n1"])
def test_a_row_that_no_test_is_about_is_refused(run: Pytest, options: tuple[str, ...]) -> None:
    row = ROW.replace("upstream", 'cases = ["leek"]\nupstream')
    done = run(ROW.replace("upstream", 'cases = ["leak"]\nupstream') + row, *options)
    said = "no test that runs on a target is what these rows name: bridges/test_x.py::test_it leek"
    assert done.status != 0
    assert said in done.out
    assert "passed" not in done.out
    without_target = run(ROW.replace("test_it", "test_that"), *options)
    assert "what these rows name: bridges/test_x.py::test_that" in without_target.out


def test_what_is_not_asked_for_need_not_be_found(run: Pytest, scenarios: Path) -> None:
    row = ROW.replace("upstream", 'cases = ["leek"]\nupstream')
    done = run(row, "scenarios/bridges/test_x.py::test_that")
    assert (done.status, done.outcomes) == (0, {"passed": 1})
    (scenarios / "bridges/test_y.py").write_text("def test_other(): pass\n")
    done = run(row, "scenarios/bridges/test_y.py")
    assert (done.status, done.outcomes) == (0, {"passed": 1})
    assert run(row, "scenarios").status == pytest.ExitCode.USAGE_ERROR


def test_tests_beside_the_scenarios_do_without_the_table(run: Pytest, scenarios: Path) -> None:
    (scenarios.parent / "test_own.py").write_text(
        "import sys\ndef test_it(): assert 'harness.lab.lab' not in sys.modules\n"
    )
    done = run("[mistake", "test_own.py")
    assert (done.status, done.outcomes) == (0, {"passed": 1})
    assert "known_defects.toml: " in run("[mistake").out


def test_runxfail_shows_known_defects_as_failures(run: Pytest) -> None:
    done = run(ROW.replace("upstream", 'cases = ["leak"]\nupstream'), "--runxfail")
    assert done.outcomes == {"failed": 2, "passed": 2}
