"""Where underlays lie: as bars below each row of switches, joined at the left of all switches."""

from __future__ import annotations

from harness.topology.draw import metrics, words
from harness.topology.draw.boxes import BAR, NAME, PAD, Bar, Chip, Point, SwitchBox
from harness.topology.draw.lanes import lanes
from harness.topology.model import BondPort, TopologySpec, UplinkPort

STEP = 44.0
RISER = 12.0
_DROP = 34.0


def risers(spec: TopologySpec, rows: list[list[SwitchBox]]) -> dict[str, float]:
    """The middle of the riser of each underlay that more than one row is attached to."""
    reached = [names(row) for row in rows]
    shared = [
        underlay.name
        for underlay in spec.underlays
        if sum(underlay.name in found for found in reached) > 1
    ]
    return {name: PAD + RISER * (index + 0.5) for index, name in enumerate(shared)}


def bars(
    spec: TopologySpec, row: list[SwitchBox], at: dict[str, float], left: float, drawn: set[str]
) -> list[Bar]:
    """The underlays that ``row`` is attached to, and those that are not ``drawn`` elsewhere. The
    bars begin right of ``left``."""
    drops: dict[str, list[Point]] = {underlay.name: [] for underlay in spec.underlays}
    for switch in row:
        for _, chip in switch.chips():
            for name, x in _attached(chip):
                drops[name].append((x, chip.y + chip.h))
    found = []
    for underlay in spec.underlays:
        if not drops[underlay.name] and underlay.name in drawn:
            continue
        bar = Bar(words.underlay(underlay), sorted(drops[underlay.name]))
        bar.riser = at.get(underlay.name)
        xs = [x for x, _ in bar.drops] or [left + 30.0]
        bar.x = max(min(xs) - 30.0, left)
        bar.w = max(max(xs) + 30.0 - bar.x, metrics.width(bar.label, NAME, bold=True) + 2 * PAD)
        found.append(bar)
    return found


def place(found: list[Bar], bottom: float) -> float:
    """Put the bars below ``bottom``; those that do not meet share a height. Return where they
    end."""
    # The line to a riser begins at the left of everything, so it takes all that is before the bar.
    spans = [(0.0 if bar.riser else bar.x, bar.x + bar.w) for bar in found]
    for bar, lane in zip(found, lanes(spans), strict=True):
        bar.y = bottom + _DROP + lane * STEP
    return max((bar.y + BAR for bar in found), default=bottom)


def joints(found: list[Bar]) -> list[tuple[float, float, float]]:
    """The risers: their middle, top and bottom."""
    heights: dict[float, list[float]] = {}
    for bar in found:
        if bar.riser is not None:
            heights.setdefault(bar.riser, []).append(bar.y + BAR / 2)
    return [(x, min(ys), max(ys)) for x, ys in heights.items()]


def names(row: list[SwitchBox]) -> set[str]:
    """The underlays that ``row`` is attached to."""
    return {name for switch in row for _, chip in switch.chips() for name in _targets(chip)}


def _targets(chip: Chip) -> list[str]:
    if isinstance(chip.port, UplinkPort):
        return [chip.port.underlay]
    if isinstance(chip.port, BondPort):
        return [member.underlay for member in chip.port.members]
    return []


def _attached(chip: Chip) -> list[tuple[str, float]]:
    """The underlays behind a placed port, each with the middle of its line."""
    return list(zip(_targets(chip), chip.members or [chip.x], strict=False))
