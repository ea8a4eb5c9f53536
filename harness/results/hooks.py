"""Results by target, as hooks of pytest: for runs in which a test asks for a target."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import pytest

from harness.results.items import PROPERTY, outcomes, target_of

PLAIN_WIDTH = 160
"""Of a table that is written to no terminal: wide enough that nothing is folded."""


class ByTarget:
    """A plugin for pytest, of a run on these targets."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Every result says which target it is about."""
        target = target_of(item)
        if target is not None:
            item.user_properties.append((PROPERTY, target))

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # below pytest's own summary
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """After a run on several targets, show them beside each other."""
        yield
        if len(self._targets) < 2 or terminalreporter.config.option.verbose < -1:
            return
        found = list(outcomes(terminalreporter.stats))
        if found:
            from harness.results.summary import render

            terminalreporter.section("scenarios by target")
            width = terminalreporter._tw.fullwidth if terminalreporter.isatty else PLAIN_WIDTH
            terminalreporter.write(render(found, self._targets, width))
