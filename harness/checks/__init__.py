"""Judgement: pure functions from a history to a verdict.

Importing this package costs next to nothing, for the command line knows of it in every run.
"""

from typing import TYPE_CHECKING

from harness.lazily import loaded_from

if TYPE_CHECKING:
    from harness.checks.registry import CHECKERS, judge
    from harness.checks.verdict import Checker, Outcome, Verdict, compose

__all__ = ["CHECKERS", "Checker", "Outcome", "Verdict", "compose", "judge"]

__getattr__ = loaded_from(
    {
        "CHECKERS": "harness.checks.registry",
        "Checker": "harness.checks.verdict",
        "Outcome": "harness.checks.verdict",
        "Verdict": "harness.checks.verdict",
        "compose": "harness.checks.verdict",
        "judge": "harness.checks.registry",
    },
    __name__,
)
