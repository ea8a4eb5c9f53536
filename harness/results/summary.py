"""The table that ends a run on several targets: scenarios by target."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from harness.lab.target import split
from harness.results.outcomes import Outcome, Row, by_directory, differences, shown, split_target

if TYPE_CHECKING:
    from rich.table import Table

LEGEND = "A number without a word is how many passed; a known defect that was met is xfailed."


def render(outcomes: Sequence[Outcome], targets: Sequence[str], width: int) -> str:
    """The table as text of so many columns: a row for each directory, and then one for each
    scenario that failed, or whose cases came out otherwise on some version."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    # The parts of a target below each other: side by side several would not fit.
    headings = ["\n".join(split(target) or (target,)) for target in targets]
    table = Table(Column(overflow="fold"), *headings, box=box.SIMPLE)
    _fill(table, by_directory(outcomes, targets))
    different = differences(outcomes, targets)
    if different:
        table.add_section()
        _fill(table, different)
    text = StringIO()
    console = Console(file=text, width=width, color_system=None)
    console.print(table)
    if not different and _several_versions(targets):
        console.print("No scenario came out otherwise on one version than on another.")
    console.print(LEGEND)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _several_versions(targets: Sequence[str]) -> bool:
    kinds = [split_target(target)[1] for target in targets]
    return len(set(kinds)) < len(kinds)


def _fill(table: Table, rows: Sequence[Row]) -> None:
    for row in rows:
        table.add_row(row.name, *map(shown, row.counts))
