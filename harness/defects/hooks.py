"""The table of known defects as hooks of pytest: it makes expected failures of what they explain.

pytest's own ``xfail`` will not do: it knows no symptom, and which version a target has is only
known once it is ready, which the collection of tests does not wait for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path

import pytest

from harness.defects.table import Defect, DefectsError, read, unmatched
from harness.results.items import target_of
from harness.results.outcomes import split_id


class KnownDefects:
    """A plugin for pytest; ``table`` is the file, beside the scenarios that it is about."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._mistake = ""

    @cached_property
    def _rows(self) -> tuple[Defect, ...]:
        return read(self._table)

    @pytest.hookimpl(tryfirst=True)  # before -k and others leave tests out
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: Sequence[pytest.Item]
    ) -> None:
        """Refuse a table with a mistake, or with a row that no test of its file is about."""
        ours = [item for item in items if item.path.is_relative_to(self._table.parent)]
        try:
            if ours:
                self._check(config, ours)
        except DefectsError as error:
            # A worker of pytest-xdist that ends while it collects can't say why.
            if not hasattr(config, "workerinput"):
                raise pytest.UsageError(str(error)) from None
            self._mistake = str(error)

    def _check(self, config: pytest.Config, ours: Sequence[pytest.Item]) -> None:
        # A test that is asked for by name comes without the others of its file.
        named = [arg.partition("::")[0] for arg in config.args if "::" in arg]
        whole = {item.path for item in ours} - {
            Path(config.invocation_params.dir, name).resolve() for name in named
        }
        rows = [row for row in self._rows if self._file(row) in whole]
        lonely = unmatched(rows, (self._test(item) for item in ours))
        if lonely:
            lines = [f"{row.scenario} {', '.join(row.cases)}".rstrip() for row in lonely]
            raise DefectsError(
                f"{self._table.name}: no test that runs on a target is what these rows name: "
                f"{'; '.join(lines)}"
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """With a table that has a mistake no scenario is run."""
        if self._mistake and item.path.is_relative_to(self._table.parent):
            pytest.fail(self._mistake, pytrace=False)

    # Within the wrapper that leaves a bundle for what is still a failure afterwards.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report: pytest.TestReport = yield
        if report.when != "teardown" and not report.skipped and not item.config.option.runxfail:
            rows = self._of(item)
            if rows:
                _judge(report, call, rows)
        return report

    def _file(self, row: Defect) -> Path:
        return self._table.parent / row.scenario.partition("::")[0]

    def _test(self, item: pytest.Item) -> tuple[str, str]:
        """Its scenario, and its parameters but for the target. A test without a target is none."""
        target = target_of(item)
        if target is None:
            return "", ""
        place = item.path.relative_to(self._table.parent).as_posix()
        return split_id(f"{place}::{item.nodeid.partition('::')[2]}", target)

    def _of(self, item: pytest.Item) -> list[Defect]:
        """The defects that this test meets on its target, in the version of that."""
        target = target_of(item)
        if target is None or not item.path.is_relative_to(self._table.parent):
            return []
        test = self._test(item)
        rows = [row for row in self._rows if row.is_of(*test) and row.is_met_on(target)]
        if not rows:
            return []
        from harness.lab.environment import TargetUnavailable, environment
        from harness.lab.target import Target

        try:
            version = environment(Target.parse(target)).image.version
        except TargetUnavailable:
            return []
        return [row for row in rows if row.is_in(version)]


def _judge(report: pytest.TestReport, call: pytest.CallInfo[None], rows: list[Defect]) -> None:
    reasons = "\n".join(row.reason for row in rows)
    if call.excinfo is None:
        if report.when == "call":
            report.outcome = "failed"
            report.longrepr = f"a known defect was not met, the test passes:\n{reasons}"
        return
    for row in rows:
        if row.explains(call.excinfo.value):
            report.outcome = "skipped"
            report.wasxfail = row.reason
            return
    symptoms = "\n".join(f"{row.raises}, {row.symptom!r}: {row.reason}" for row in rows)
    report.sections.append(("known defects", f"this failure is none of these:\n{symptoms}"))
