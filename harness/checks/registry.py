"""All checkers, and judging by them."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

from harness.checks import (
    changed,
    delivered,
    duplicated,
    leaked,
    logged,
    lost,
    reordered,
    restored,
    state_kept,
    unaccounted,
)
from harness.checks.verdict import Checker, Verdict, compose
from harness.traffic.history import History

CHECKERS: dict[str, Checker] = {
    "delivered": delivered.check,
    "leaked": leaked.check,
    "lost": lost.check,
    "duplicated": duplicated.check,
    "reordered": reordered.check,
    "changed": changed.check,
    "unaccounted": unaccounted.check,
    "state kept": state_kept.check,
    "logged": logged.check,
    "restored": restored.check,
}
"""By name: one line each."""


def judge(history: History, checkers: Mapping[str, Checker] = CHECKERS) -> Verdict:
    """What the ``checkers`` say of a history, each by itself, and composed."""
    return compose({name: _guarded(checker, history) for name, checker in checkers.items()})


def _guarded(checker: Checker, history: History) -> Verdict:
    """The verdict of one checker. That it can't judge, for whatever reason, must never look like a
    pass, nor keep the others from judging."""
    try:
        return checker(history)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no verdict
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename.rpartition('/')[2]}:{where.lineno}: {where.line}"
        return Verdict("unknown", (f"the checker raised {error!r} at {place}",))
