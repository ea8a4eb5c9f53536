"""Elements of an SVG picture. Every text is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from harness.topology.draw.metrics import FONT

INK = "#1f2933"


class Canvas:
    """Collects elements; what comes later lies on top. Lengths are pixels."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        *,
        fill: str,
        edge: str,
        radius: float = 4.0,
        dashed: bool = False,
        thick: float = 1.2,
    ) -> None:
        """A rectangle with round corners."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._elements.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}" rx="{_n(radius)}" '
            f'fill="{fill}" stroke="{edge}" stroke-width="{_n(thick)}"{dash}/>'
        )

    def strip(self, x: float, y: float, w: float, h: float, *, radius: float, fill: str) -> None:
        """The left edge of a box with round corners."""
        r = _n(radius)
        corners = f"A {r} {r} 0 0 1"
        self._elements.append(
            f'<path d="M {_n(x + radius)} {_n(y)} H {_n(x + w)} V {_n(y + h)} H {_n(x + radius)} '
            f"{corners} {_n(x)} {_n(y + h - radius)} V {_n(y + radius)} "
            f'{corners} {_n(x + radius)} {_n(y)} Z" fill="{fill}"/>'
        )

    def line(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        *,
        radius: float = 0.0,
        thick: float = 1.5,
        dash: str = "",
    ) -> None:
        """Straight pieces through ``points``, with corners of ``radius``."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._elements.append(
            f'<path d="{_route(points, radius)}" fill="none" stroke="{colour}" '
            f'stroke-width="{_n(thick)}"{dashes}/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        """A joint."""
        self._elements.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="3.5" fill="{colour}"/>')

    def ring(self, x: float, y: float, rx: float, ry: float, colour: str) -> None:
        """An ellipse around lines that belong together."""
        self._elements.append(
            f'<ellipse cx="{_n(x)}" cy="{_n(y)}" rx="{_n(rx)}" ry="{_n(ry)}" fill="none" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        *,
        colour: str = INK,
        bold: bool = False,
        anchor: str = "start",
        turned: bool = False,
    ) -> None:
        """One line of text; ``y`` is its base."""
        weight = ' font-weight="bold"' if bold else ""
        turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
        self._elements.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}{turn}>{escape(text)}</text>'
        )

    def svg(self, w: float, h: float, title: str) -> str:
        """The finished picture."""
        width, height = round(w), round(h)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family={quoteattr(FONT)} role="img">'
        )
        ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
        name = f"<title>{escape(title)}</title>"
        return "\n".join([head, name, ground, *self._elements, "</svg>\n"])


def _route(points: Sequence[tuple[float, float]], radius: float) -> str:
    steps = [f"M {_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, _length(before, corner) / 2, _length(corner, after) / 2)
        if r > 0:
            start, end = _toward(corner, before, r), _toward(corner, after, r)
            steps.append(f"L {_n(start[0])} {_n(start[1])}")
            steps.append(f"Q {_n(corner[0])} {_n(corner[1])} {_n(end[0])} {_n(end[1])}")
        else:
            steps.append(f"L {_n(corner[0])} {_n(corner[1])}")
    steps.append(f"L {_n(points[-1][0])} {_n(points[-1][1])}")
    return " ".join(steps)


def _length(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _toward(
    start: tuple[float, float], goal: tuple[float, float], by: float
) -> tuple[float, float]:
    share = by / _length(start, goal)
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
