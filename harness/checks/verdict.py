"""What a checker says of a history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from harness.traffic.history import History

Outcome = Literal["pass", "fail", "unknown"]
Measurements = dict[str, Any]
"""What JSON has. Times are in ns, and their names say so."""


class Verdict(msgspec.Struct, frozen=True):
    """``findings`` say in words what speaks against a pass, ``measurements`` what was measured.
    Those of a composed verdict are in its ``parts``, by checker."""

    outcome: Outcome
    findings: tuple[str, ...] = ()
    measurements: Measurements = {}
    parts: dict[str, Verdict] = {}

    def __str__(self) -> str:
        """The outcome, and all findings, a line each."""
        return "\n".join([f"verdict: {self.outcome}", *self.findings])


Checker = Callable[[History], Verdict]
"""A pure function: the same history has the same verdict."""


def verdict(
    failures: Sequence[str], unknowns: Sequence[str], measurements: Measurements | None = None
) -> Verdict:
    """Fail when anything failed; else unknown when anything is; else pass."""
    outcome: Outcome = "fail" if failures else "unknown" if unknowns else "pass"
    return Verdict(outcome, (*failures, *dict.fromkeys(unknowns)), measurements or {})


def compose(parts: Mapping[str, Verdict]) -> Verdict:
    """One verdict of many: fail beats unknown, and unknown beats pass. Of nothing it is unknown."""
    if not parts:
        return Verdict("unknown", ("nothing was judged",))
    said = {
        wanted: [
            f"{name}: {finding}"
            for name, part in parts.items()
            if part.outcome == wanted
            for finding in part.findings or (wanted,)
        ]
        for wanted in ("fail", "unknown")
    }
    return msgspec.structs.replace(verdict(said["fail"], said["unknown"]), parts=dict(parts))
