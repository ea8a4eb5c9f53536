"""The outcome of each scenario on each target, and where targets differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from harness.lab.target import split

ORDER = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
"""As pytest calls them. The first is what is shown without a word."""
BAD = frozenset({"failed", "error", "xpassed"})

Counts = Mapping[str, int]
"""How many cases had which outcome."""


class Outcome(NamedTuple):
    """What became of one case."""

    scenario: str
    """``vlans/test_modes.py::test_trunk``, without the case."""
    case: str
    """What it was parametrized with, but for the target."""
    target: str
    outcome: str


class Row(NamedTuple):
    """Some cases, and what became of them on each target; None where they did not run."""

    name: str
    counts: tuple[Counts | None, ...]


def split_id(nodeid: str, target: str) -> tuple[str, str]:
    """The scenario and the case of pytest's id of a test that ran on a target."""
    scenario, _, inside = nodeid.partition("[")
    case = f"-{inside.removesuffix(']')}-".replace(f"-{target}-", "-", 1).strip("-")
    return scenario, case


def by_directory(outcomes: Iterable[Outcome], targets: Sequence[str]) -> list[Row]:
    """A row for each directory that scenarios are in, and one for all of them."""
    found = list(outcomes)
    rows = _rows(found, targets, _directory)
    return [*rows, *_rows(found, targets, lambda _: "all")] if len(rows) > 1 else rows


def differences(outcomes: Iterable[Outcome], targets: Sequence[str]) -> list[Row]:
    """A row for each scenario that failed somewhere, or of which a case came out otherwise on one
    version than on another: on targets that differ only in the image."""
    found = list(outcomes)
    cases: dict[tuple[str, str, str], set[str]] = {}
    shown = set()
    for one in found:
        _image, kind = split_target(one.target)
        outcomes_there = cases.setdefault((one.scenario, one.case, kind), set())
        outcomes_there.add(one.outcome)
        if len(outcomes_there) > 1 or one.outcome in BAD:
            shown.add(one.scenario)
    return _rows((one for one in found if one.scenario in shown), targets, lambda one: one.scenario)


def split_target(target: str) -> tuple[str, str]:
    """The image of a target, and its backend with the datapath."""
    image, *kind = split(target) or (target,)
    return image, "/".join(kind)


def _directory(outcome: Outcome) -> str:
    return outcome.scenario.partition("::")[0].rpartition("/")[0] or "."


def _rows(
    outcomes: Iterable[Outcome], targets: Sequence[str], name: Callable[[Outcome], str]
) -> list[Row]:
    counted: dict[str, dict[str, Counter[str]]] = {}
    for one in outcomes:
        row = counted.setdefault(name(one), {})
        row.setdefault(one.target, Counter())[one.outcome] += 1
    return [
        Row(called, tuple(row.get(target) for target in targets))
        for called, row in sorted(counted.items())
    ]


def shown(counts: Counts | None) -> str:
    """``12``, ``11 1 failed``: how many passed, and what became of the others."""
    if counts is None:
        return ""
    return " ".join(
        f"{counts[outcome]}" if outcome == ORDER[0] else f"{counts[outcome]} {outcome}"
        for outcome in ORDER
        if counts.get(outcome)
    )
