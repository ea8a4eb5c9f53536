"""Where tunnels run: over the hosts of their row of switches, each line in a lane of its own.

A tunnel between two rows runs over both, and from one to the other at the right of all switches.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.topology.draw import metrics
from harness.topology.draw.boxes import PAD, SMALL, TEXT, Arc
from harness.topology.draw.lanes import Span, lanes, span

LANE = 40.0
_GUTTER = 14.0
LABEL = 32.0


@dataclass
class Piece:
    """The part of a tunnel over one row: between ``ends``, in lane ``lane`` from above. All
    switches end at ``edge``."""

    arc: Arc
    row: int
    ends: Span
    labelled: bool
    edge: float
    lane: int = 0

    def label_room(self) -> Span:
        """Where its label may lie: over its line, and left of what runs from row to row."""
        left, right = span(*self.ends)
        width = label_width(self.arc)
        if right > self.edge:
            return min(left, self.edge - width), self.edge
        half = max(right - left, width) / 2
        middle = max(min((left + right) / 2, self.edge - half), half + PAD)
        return middle - half, middle + half

    def reach(self) -> Span:
        """What it takes of its lane: the line, and its label's room."""
        left, right = span(*self.ends)
        if not self.labelled:
            return left, right
        room = self.label_room()
        return min(left, room[0]), max(right, room[1])


def label_width(arc: Arc) -> float:
    """The width of a tunnel's label in pixels."""
    first = metrics.width(arc.link.label, TEXT, bold=True)
    return max(first, metrics.width(arc.link.addresses, SMALL)) + 16.0


def pieces(arcs: list[Arc], rows: dict[int, int], edge: float) -> list[Piece]:
    """The tunnels in pieces, their lanes chosen. ``rows`` tells the row of each switch, and all
    switches end at ``edge``."""
    found = []
    gutter = edge
    for arc in arcs:
        near, far = rows[arc.near.end[0]], rows[arc.far.end[0]]
        if near == far:
            found.append(Piece(arc, near, (arc.near.x, arc.far.x), labelled=True, edge=edge))
        else:
            gutter += _GUTTER
            found.append(Piece(arc, near, (arc.near.x, gutter), labelled=True, edge=edge))
            found.append(Piece(arc, far, (arc.far.x, gutter), labelled=False, edge=edge))
    for row in set(rows.values()):
        here = [piece for piece in found if piece.row == row]
        for piece, lane in zip(here, lanes([piece.reach() for piece in here]), strict=True):
            piece.lane = lane
    return found


def height(found: list[Piece], row: int) -> float:
    """What the lanes over a row need."""
    return max((piece.lane + 1 for piece in found if piece.row == row), default=0) * LANE


def route(found: list[Piece], tops: list[float]) -> None:
    """Give every tunnel its line and its label's place; the lanes of a row begin at its top."""
    for piece in found:
        arc = piece.arc
        y = tops[piece.row] + LANE * (piece.lane + 0.5)
        start, end = piece.ends
        if piece.labelled:
            others = [p for p in found if p.row == piece.row and p.lane < piece.lane]
            arc.label = (_label_middle(piece, [x for p in others for x in p.ends]), y)
            arc.path = [(start, arc.near.y), (start, y), (end, y)]
            if end == arc.far.x:
                arc.path.append((end, arc.far.y))
        else:
            arc.path += [(end, y), (start, y), (start, arc.far.y)]


def _label_middle(piece: Piece, crossing: list[float]) -> float:
    """The place nearest to the middle where no line of another tunnel runs under the label."""
    left, right = piece.label_room()
    half = label_width(piece.arc) / 2
    middle = (left + right) / 2
    steps = int(max(right - left - 2 * half, 0.0) / 2 / 6.0)
    for step in range(steps + 1):
        for x in (middle - 6.0 * step, middle + 6.0 * step):
            if all(abs(x - other) > half + 4.0 for other in crossing):
                return x
    return middle
