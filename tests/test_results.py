"""Scenarios by target: what is counted, and which differences are shown."""

from __future__ import annotations

import pytest

from harness.lab.target import expand
from harness.results.outcomes import Outcome, by_directory, differences, shown, split_id
from harness.results.summary import render

OLD, NEW, MACHINE = "bullseye/namespace/netdev", "trixie/namespace/netdev", "trixie/vm/kernel"


IMAGES = ["bullseye", "bookworm", "trixie", "forky"]
"""Those of the catalogue."""


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("trixie/vm/kernel", ["trixie/vm/kernel"]),
        ("{bullseye,trixie}/vm/kernel", ["bullseye/vm/kernel", "trixie/vm/kernel"]),
        ("a/{v/{k,n},n/d}", ["a/v/k", "a/v/n", "a/n/d"]),
        ("{a,b}/v/{k,n}", ["a/v/k", "a/v/n", "b/v/k", "b/v/n"]),
        ("all/vm/kernel", [f"{image}/vm/kernel" for image in IMAGES]),
        ("{all,host}/a/b", [f"{image}/a/b" for image in (*IMAGES, "host")]),
        ("prefix:/home/{me}/ovs/vm/kernel", ["prefix:/home/{me}/ovs/vm/kernel"]),
        ("{a,b/vm/kernel", ["{a,b/vm/kernel"]),
        ("a}/vm/{kernel,netdev}", ["a}/vm/kernel", "a}/vm/netdev"]),
    ],
)
def test_one_text_for_several_targets(text: str, targets: list[str]) -> None:
    assert expand(text) == targets


@pytest.mark.parametrize(
    ("nodeid", "scenario", "case"),
    [
        (f"vlans/test_a.py::test_b[{OLD}]", "vlans/test_a.py::test_b", ""),
        (f"test_a.py::test_b[{OLD}-vxlan-4]", "test_a.py::test_b", "vxlan-4"),
        (f"test_a.py::test_b[vxlan-{OLD}-4]", "test_a.py::test_b", "vxlan-4"),
    ],
)
def test_the_id_of_a_test(nodeid: str, scenario: str, case: str) -> None:
    assert split_id(nodeid, OLD) == (scenario, case)


def on(target: str, *outcomes: str, scenario: str = "a/test_x.py::test_y") -> list[Outcome]:
    return [Outcome(scenario, str(number), target, one) for number, one in enumerate(outcomes)]


def test_a_row_for_each_directory_and_one_for_all() -> None:
    found = on(OLD, "passed", "skipped") + on(OLD, "passed", scenario="b/test_z.py::test_z")
    rows = {
        row.name: [shown(counts) for counts in row.counts] for row in by_directory(found, [OLD])
    }
    assert rows == {"a": ["1 1 skipped"], "b": ["1"], "all": ["2 1 skipped"]}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (on(OLD, "passed") + on(NEW, "passed"), []),
        # A version that fails where another passes, as is known of it or not.
        (on(OLD, "xfailed") + on(NEW, "passed"), [["1 xfailed", "1", ""]]),
        (on(OLD, "passed", "skipped") + on(NEW, "passed", "passed"), [["1 1 skipped", "2", ""]]),
        # What fails everywhere is shown too.
        (on(OLD, "failed") + on(NEW, "failed"), [["1 failed", "1 failed", ""]]),
        # As many, but not the same.
        (on(OLD, "passed", "skipped") + on(NEW, "skipped", "passed"), [["1 1 skipped"] * 2 + [""]]),
        # That backends differ is no difference between versions.
        (on(NEW, "skipped") + on(MACHINE, "passed"), []),
        # A case that did not run on one.
        (on(OLD, "passed", "passed") + on(NEW, "passed"), []),
    ],
)
def test_differences(found: list[Outcome], expected: list[list[str]]) -> None:
    rows = differences(found, [OLD, NEW, MACHINE])
    assert [[shown(counts) for counts in row.counts] for row in rows] == expected


def test_the_table() -> None:
    found = on(OLD, "xfailed", "passed") + on(NEW, "passed", "passed")
    lines = [line.split() for line in render(found, [OLD, NEW], 100).splitlines()]
    assert ["bullseye", "trixie"] in lines
    assert ["a", "1", "1", "xfailed", "2"] in lines
    assert ["a/test_x.py::test_y", "1", "1", "xfailed", "2"] in lines


def test_a_table_without_differences_says_so() -> None:
    text = render(on(OLD, "passed") + on(NEW, "passed"), [OLD, NEW], 100)
    assert "No scenario came out otherwise on one version than on another." in text
