"""What tests of the plugin see of a run of pytest."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """A run of pytest that has ended."""

    status: int
    out: str

    @property
    def outcomes(self) -> dict[str, int]:
        """The numbers of its last line."""
        return {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", self.out.splitlines()[-1])}
