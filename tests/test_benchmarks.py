"""The figures of benchmarks, and what they say in words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import scenarios
from benchmarks.figures import Figure, Row, Section, growth


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [
        ([0.5], "s", "0.500 s"),
        ([0.3, 0.1, 0.2], "s", "0.200 s (0.100 to 0.300)"),
        ([1e6, 3e6], "/s", "2,000,000 /s (1,000,000 to 3,000,000)"),
    ],
)
def test_a_figure_shows_its_median_and_how_far_it_strays(
    values: list[float], unit: str, shown: str
) -> None:
    assert str(Figure.of(values, unit)) == shown


def test_a_figure_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        Figure.of([])


@pytest.mark.parametrize(
    ("sizes", "costs", "judged"),
    [
        (
            [1, 2, 4],
            [1.0, 1.1, 1.3],
            "4 times the hosts: 1.3 times as long; last step 2.0 times, "
            "1.2 times as long: no worse than linear",
        ),
        (
            [1, 2, 4],
            [1.0, 2.0, 4.0],
            "4 times the hosts: 4.0 times as long; last step 2.0 times, "
            "2.0 times as long: no worse than linear",
        ),
        # What every run costs hides it at first; the last step tells.
        (
            [1, 64, 128],
            [1.0, 1.5, 5.0],
            "128 times the hosts: 5.0 times as long; last step 2.0 "
            "times, 3.3 times as long: worse than linear",
        ),
    ],
)
def test_growth_in_words(sizes: list[int], costs: list[float], judged: str) -> None:
    assert growth("hosts", sizes, costs) == judged


def test_a_section_as_data() -> None:
    section = Section("speed", "somebody", [Row("a", Figure.of([1.0, 2.0]), None, "so")])
    assert section.data() == {
        "title": "speed",
        "peer": "somebody",
        "rows": [
            {
                "what": "a",
                "harness": {"median": 1.5, "unit": "s", "values": [1.0, 2.0]},
                "peer": None,
                "words": "so",
            }
        ],
    }


def test_scenarios_are_divided_by_those_that_ran() -> None:
    report = ElementTree.fromstring(
        '<testsuites><testsuite><testcase classname="m" name="a" time="0.2"/>'
        '<testcase classname="m" name="b" time="0.4"><failure/></testcase>'
        '<testcase classname="m" name="c" time="0"><skipped/></testcase></testsuite></testsuites>'
    )
    mean, *others = scenarios.rows(report, 2.0)
    assert mean.ours == Figure.of([1.0])
    assert (
        mean.words == "2 scenarios in 2 s, 1 failed, 1 skipped or expected to fail (aim: under 1 s)"
    )
    assert [row.words for row in others] == ["", "m.b", "m.a"]
