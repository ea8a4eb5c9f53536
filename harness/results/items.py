"""Tests of pytest's, and its reports of them, as outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from harness.lab.target import split
from harness.results.outcomes import Outcome, split_id

PROPERTY = "target"
"""Of each report of a test that runs on a target, in JUnit's XML too."""


def target_of(item: pytest.Item) -> str | None:
    """What the plugin's own fixture ``target`` was given; None for a test without it."""
    given = getattr(item, "callspec", None)
    target = None if given is None else given.params.get("target")
    return target if isinstance(target, str) and split(target) is not None else None


def outcomes(stats: Mapping[str, Sequence[Any]]) -> Iterator[Outcome]:
    """Those of the tests that ran on a target, of what pytest's terminal reporter has by outcome
    (``stats``)."""
    for outcome, reports in stats.items():
        for report in reports:
            target = dict(getattr(report, "user_properties", ())).get(PROPERTY)
            if isinstance(target, str) and outcome:
                yield Outcome(*split_id(report.nodeid, target), target, outcome)
