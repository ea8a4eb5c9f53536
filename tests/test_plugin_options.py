"""What a user of the pytest plugin sees of its options, fixtures and markers, as pytest runs in a
directory of its own. Where no switch takes part none is started."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import Run

TOPOLOGY = """
import pytest
from harness import Lab, Topology

@pytest.fixture(scope="module")
def topology():
    topo = Topology("small")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("a")
    bridge.host("b")
    return topo
"""
ASKS_FOR_TARGET = "def test_it(target): print('on', target)\n"


Pytest = Callable[..., Run]
RunPytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, run_pytest: RunPytest) -> Pytest:
    """Runs pytest on one file of tests in an empty directory."""

    def run(text: str, *options: str) -> Run:
        (tmp_path / "test_x.py").write_text(text)
        done = run_pytest(tmp_path, "-rA", *options)
        return Run(done.returncode, done.stdout)

    return run


# -- options


def test_help_has_all_options_and_the_marker(run: Pytest) -> None:
    said = run("", "--help").out
    for option in ("--target=", "--require-all", "--keep-lab", "--harness-seed=", "--artifacts="):
        assert option in said
    assert "@pytest.mark.requires(*features)" in run("", "--markers").out


def test_without_a_target_it_is_the_default_one(run: Pytest) -> None:
    done = run(ASKS_FOR_TARGET)
    assert done.outcomes == {"passed": 1}
    assert "test_it[trixie/namespace/netdev]" in done.out
    assert "on trixie/namespace/netdev" in done.out
    assert re.search(
        r"^ovs-harness: targets trixie/namespace/netdev; seed \d+$", done.out, re.MULTILINE
    )


def test_scenarios_run_once_for_each_target(run: Pytest) -> None:
    names = [
        "bookworm/namespace/netdev",
        "forky/namespace/dummy",
        "prefix:/opt/ovs/namespace/netdev",
    ]
    given = [f"--target={name}" for name in [*names, names[0]]]
    done = run(ASKS_FOR_TARGET, *given)
    assert done.outcomes == {"passed": 3}
    assert re.findall(r"^on (\S+)$", done.out, re.MULTILINE)[:3] == names


DIFFERS = """
import pytest

@pytest.mark.parametrize("case", ["one", "other"])
def test_it(target, case):
    if target.image == "bullseye" and case == "one":
        pytest.skip("too old")

def test_same(target): pass

def test_without(): pass
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_a_run_on_several_targets_ends_with_a_table(
    run: Pytest, tmp_path: Path, workers: list[str]
) -> None:
    """And each result carries its target."""
    where = ["--target={bullseye,trixie}/namespace/netdev", f"--junit-xml={tmp_path}/junit.xml"]
    done = run(DIFFERS, *where, *workers)
    assert done.outcomes == {"passed": 6, "skipped": 1}
    table = done.out.partition("scenarios by target")[2]
    rows = [line.split() for line in table.splitlines()]
    assert ["bullseye", "trixie"] in rows
    assert [".", "2", "1", "skipped", "3"] in rows
    assert ["test_x.py::test_it", "1", "1", "skipped", "2"] in rows
    assert "test_same" not in table
    written = (tmp_path / "junit.xml").read_text()
    assert written.count('<property name="target" value="bullseye/namespace/netdev"') == 3


def test_a_run_on_one_target_ends_without_a_table(run: Pytest) -> None:
    assert "scenarios by target" not in run(ASKS_FOR_TARGET).out


def test_a_project_says_what_its_scenarios_run_on(run: Pytest) -> None:
    setting = ["-o", "ovs_targets=bookworm/namespace/netdev forky/namespace/dummy"]
    done = run(ASKS_FOR_TARGET, *setting)
    assert re.findall(r"^on (\S+)$", done.out, re.MULTILINE)[:2] == [
        "bookworm/namespace/netdev",
        "forky/namespace/dummy",
    ]
    assert done.outcomes == {"passed": 2}
    given = run(ASKS_FOR_TARGET, *setting, "--target=trixie/namespace/netdev")
    assert given.outcomes == {"passed": 1}
    assert "on trixie/namespace/netdev" in given.out


def test_what_asks_for_no_target_runs_once(run: Pytest) -> None:
    given = ["--target=bookworm/namespace/netdev", "--target=trixie/namespace/netdev"]
    assert run("def test_it(): pass", *given).outcomes == {"passed": 1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("trixie", "target 'trixie' is not of the form IMAGE/BACKEND/DATAPATH, as trixie/"),
        ("trixie//netdev", "target 'trixie//netdev' is not of the form IMAGE/BACKEND/DATAPATH"),
        (
            "trixie/moon/netdev",
            "target 'trixie/moon/netdev': no backend 'moon'; there is namespace",
        ),
        ("trixie/namespace/x", "target 'trixie/namespace/x': no datapath 'x'; there is netdev, "),
    ],
)
def test_a_bad_target_is_one_line(run: Pytest, given: str, said: str) -> None:
    done = run(ASKS_FOR_TARGET, f"--target={given}")
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert len(done.out.strip().splitlines()) == 1
    assert f"ERROR: {said}" in done.out


@pytest.mark.parametrize(
    "options",
    [["--harness-seed=x"], ["--keep-lab", "-n2"], ["-o", "ovs_targets=trixie"]],
    ids=" ".join,
)
def test_other_bad_options_are_usage_errors(run: Pytest, options: list[str]) -> None:
    done = run(ASKS_FOR_TARGET, *options)
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in done.out


# -- fixtures and what a target lacks


def test_a_scenario_without_a_topology_is_told(run: Pytest) -> None:
    done = run("def test_it(lab): pass")
    assert done.outcomes == {"error": 1}
    assert "its module has no fixture `topology` that says which" in done.out


def test_a_topology_with_a_mistake_is_refused_with_the_place(run: Pytest) -> None:
    text = TOPOLOGY.replace('bridge.host("b")', 'bridge.host("b", tag=4096)')
    done = run(text + "\ndef test_it(lab): pass\n")
    assert done.outcomes == {"error": 1}
    assert re.search(r"test_x\.py:\d+ .*4096", done.out)


@pytest.mark.usefixtures("ready")
def test_a_module_lab_needs_a_topology_of_the_module(run: Pytest) -> None:
    text = TOPOLOGY.replace('(scope="module")', "")
    done = run(text + "\ndef test_it(module_lab): pass\n")
    assert done.outcomes == {"error": 1}
    assert "ScopeMismatch" in done.out


def test_a_target_that_cannot_run_skips_or_fails_and_says_why(run: Pytest) -> None:
    text = TOPOLOGY + "\ndef test_one(lab): pass\ndef test_two(lab): pass\n"
    target = "--target=prefix:/nowhere/namespace/netdev"
    done = run(text, target)
    assert (done.status, done.outcomes) == (0, {"skipped": 2})
    said = "prefix:/nowhere/namespace/netdev: image prefix:/nowhere: there is no directory /nowhere"
    assert done.out.count(said) == 1
    strict = run(text, target, "--require-all")
    assert strict.status == 1
    assert strict.outcomes in ({"error": 2}, {"errors": 2})
    assert said in strict.out


@pytest.mark.usefixtures("ready")
def test_a_feature_that_a_target_lacks_skips_or_fails_and_says_why(run: Pytest) -> None:
    text = (
        TOPOLOGY
        + """
@pytest.mark.requires("meters", "tunnel:vxlan", "column:Mirror.snaplen")
def test_there(lab): pass

@pytest.mark.requires("datapath:flying-carpet")
def test_not_there(lab): pass

@pytest.mark.requires("column:Mirror.snap")
def test_not_there_either(lab): pass

def test_that_needs_nothing(lab): pass
"""
    )
    done = run(text)
    assert done.outcomes == {"passed": 2, "skipped": 2}
    assert "trixie/namespace/netdev lacks datapath:flying-carpet: " in done.out
    assert "trixie/namespace/netdev lacks column:Mirror.snap: " in done.out
    strict = run(text, "--require-all")
    assert strict.outcomes == {"passed": 2, "errors": 2}
    assert "trixie/namespace/netdev lacks datapath:flying-carpet: " in strict.out


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("feature", ["flying", "tunnel", "meters:two", ""])
def test_a_feature_that_nobody_knows_is_an_error(run: Pytest, feature: str) -> None:
    text = TOPOLOGY + f"\n@pytest.mark.requires({feature!r})\ndef test_it(lab): pass\n"
    done = run(text)
    assert done.outcomes == {"error": 1}
    assert f"requires({feature!r}): there is tunnel:TYPE" in done.out


# -- labs


@pytest.mark.usefixtures("ready")
def test_lab_is_fresh_for_each_test_and_module_lab_is_shared(run: Pytest) -> None:
    text = (
        TOPOLOGY
        + """
seen = []

def test_one(lab, module_lab):
    lab.switch("s1").vsctl("del-port", "b")
    assert lab is not module_lab
    seen.extend([lab, module_lab])

def test_two(lab, module_lab):
    assert lab.probe("a", to="b").heard_at == {"b"}
    assert lab is not seen[0] and module_lab is seen[1]
    assert module_lab.probe("b", to="a").heard_at == {"a"}
"""
    )
    assert run(text).outcomes == {"passed": 2}


@pytest.mark.usefixtures("ready")
def test_the_seed_repeats_everything_random(run: Pytest) -> None:
    text = TOPOLOGY + "\ndef test_it(lab): print('drew', lab.seed, lab.random.random())\n"
    drew = [
        re.findall(r"^drew .*", run(text, *options).out, re.MULTILINE)[0]
        for options in (["--harness-seed=5"], ["--harness-seed=5", "-n1"], ["--harness-seed=6"])
    ]
    assert drew[0] == drew[1] != drew[2]
    done = run(text)
    found = re.search(r"; seed (\d+)$", done.out, re.MULTILINE)
    assert found is not None
    (first,) = set(re.findall(r"^drew .*", done.out, re.MULTILINE))
    assert first in run(text, f"--harness-seed={found[1]}").out


@pytest.mark.usefixtures("ready")
def test_labs_run_side_by_side_in_several_processes(run: Pytest) -> None:
    text = (
        TOPOLOGY
        + """
@pytest.mark.parametrize("number", range(6))
def test_it(lab, number):
    assert lab.probe("a", to="b").heard_at == {"b"}
    print("seed", lab.random.random())
"""
    )
    side, alone = run(text, "-n2", "--harness-seed=5"), run(text, "--harness-seed=5")
    assert side.outcomes == alone.outcomes == {"passed": 6}
    drew = [sorted(set(re.findall(r"^seed 0\S+", one.out, re.MULTILINE))) for one in (side, alone)]
    assert drew[0] == drew[1]
    assert len(drew[0]) == 6


# -- failures


FAILS = (
    TOPOLOGY
    + """
@pytest.mark.parametrize("way", ["there and back", "x/../y"])
def test_it(lab, way):
    lab.switch("s1").vsctl("set", "port", "b", "tag=5")
    assert lab.probe("a", to="b").heard_at == {"b"}
"""
)


@pytest.mark.usefixtures("ready")
def test_a_failure_says_what_arrived_and_leaves_a_bundle(run: Pytest, tmp_path: Path) -> None:
    done = run(FAILS, "-k", "there", "--artifacts=kept")
    assert done.outcomes["failed"] == 1
    assert "b did not hear it; it was seen here:" in done.out
    (path,) = re.findall(r"^bundle: (.*)$", done.out, re.MULTILINE)
    bundle = Path(path)
    assert bundle.is_relative_to(tmp_path / "kept")
    assert {"failure.txt", "topology.yaml", "commands.txt", "frames.pcapng"} <= {
        file.name for file in bundle.iterdir()
    }
    said = (bundle / "failure.txt").read_text()
    assert "b did not hear it" in said
    assert "set port b tag=5" in (bundle / "commands.txt").read_text()
    # The command that it names runs the same again.
    (command,) = re.findall(r"^run it again: pytest (.*)$", said, re.MULTILINE)
    again = run(FAILS, *shlex.split(command), "--artifacts=again")
    assert again.outcomes["failed"] >= 1
    assert "b did not hear it" in again.out


@pytest.mark.usefixtures("ready")
def test_a_name_cannot_lead_out_of_the_artifacts(run: Pytest, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    done = run(FAILS, "-k", "not there")
    (path,) = re.findall(r"^bundle: (.*)$", done.out, re.MULTILINE)
    assert Path(path).parent == tmp_path / "reports"
    made = {path.name for path in tmp_path.iterdir()} - before
    assert made - {"__pycache__"} == {"test_x.py", "reports"}


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "node, pid = lab.node('s1'), lab.switch('s1').pid(); "
            "node.run(['sh', '-c', f'kill -9 {pid}; while test -e /proc/{pid}; do :; done'])",
            r"s1: ovs-vswitchd \(pid \d+\) has died",
        ),
        (
            "lab.switch('s1').ofctl('add-flow', 'br0', 'actions=NORMAL,NORMAL'); lab.announce('a')",
            r"duplicates: in b #0: untagged",
        ),
        (
            "lab.switch('s1').ofctl('add-flow', 'br0', 'actions=mod_dl_src:2:2:2:2:2:2,NORMAL'); "
            "lab.announce('a')",
            r"changed: changed at b: Ether\.src",
        ),
    ],
    ids=["dead", "twice", "changed"],
)
def test_a_scenario_that_passed_fails_for_what_it_did_not_ask(
    run: Pytest, body: str, said: str
) -> None:
    done = run(TOPOLOGY + f"\ndef test_it(lab):\n    {body}\n")
    assert done.outcomes["failed"] == 1
    assert re.search(said, done.out)
    assert "bundle: " in done.out


@pytest.mark.usefixtures("ready")
def test_a_passing_scenario_leaves_nothing(run: Pytest, tmp_path: Path) -> None:
    done = run(TOPOLOGY + "\ndef test_it(lab): lab.announce()\n")
    assert done.outcomes == {"passed": 1}
    assert not (tmp_path / "reports").exists()
