"""What is wrong with a topology, and where."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

Path = tuple[str | int, ...]
"""Where in the data: ``("switches", 0, "bridges", 1, "name")``."""

_SHOWN = 50


def path_text(path: Path) -> str:
    """``path`` as a reader would index it: ``switches[0].bridges[1].name``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".") or "topology"


class Mistake(msgspec.Struct, frozen=True):
    """One thing that is wrong. ``place`` is for the reader: a path, a call or a file's line."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class TopologyError(ValueError):
    """A topology that can't be built, with all the mistakes that were found in it."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.mistakes) == 1:
            return str(self.mistakes[0])
        lines = [f"{len(self.mistakes)} mistakes in the topology:"]
        lines += [f"  {mistake}" for mistake in self.mistakes[:_SHOWN]]
        if len(self.mistakes) > _SHOWN:
            lines.append(f"  … and {len(self.mistakes) - _SHOWN} more")
        return "\n".join(lines)
