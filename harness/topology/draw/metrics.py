"""How wide a text becomes: an estimate on the safe side, for no font is asked.

The widths are those of DejaVu Sans, which is wider than Arial, Helvetica and Liberation Sans; what
fits here fits with any of them.
"""

from __future__ import annotations

FONT = "'DejaVu Sans', Verdana, 'Segoe UI', Arial, Helvetica, sans-serif"
_BOLD = 1.12
_WIDTHS = (
    ("ijl'|", 0.29),
    (".,: !;I()[]/\\ftr-", 0.40),
    ("mwMW@%", 0.98),
    ("abcdeghknopqsuvxyz0123456789", 0.64),
)
_WIDTH = {letter: width for letters, width in _WIDTHS for letter in letters}
_UPPER = 0.79
_OTHER = 0.85


def width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of ``text`` in pixels at a font ``size`` in pixels."""
    units = sum(_WIDTH.get(letter, _UPPER if letter.isascii() else _OTHER) for letter in text)
    return units * size * (_BOLD if bold else 1.0)


def widest(lines: list[str], size: float, *, bold: bool = False) -> float:
    """The width of the longest of ``lines``; 0 without any."""
    return max((width(line, size, bold=bold) for line in lines), default=0.0)
