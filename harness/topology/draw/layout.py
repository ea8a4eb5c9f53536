"""Where everything goes: hosts above, switches side by side, underlays below, tunnels on top.

Each port has a slot of its own along the upper or the lower edge of its bridge, and each line a
slot or a lane of its own, so that neither boxes nor labels can come to lie on each other. Many
switches stand in several rows.
"""

from __future__ import annotations

from collections import Counter

from harness.topology.draw import metrics, tunnels, underlays
from harness.topology.draw.boxes import (
    GAP,
    LANE,
    NAME,
    PAD,
    SMALL,
    STRIP,
    TITLE,
    Arc,
    Bar,
    BridgeBox,
    Chip,
    Head,
    Link,
    Plan,
    SwitchBox,
)
from harness.topology.draw.lanes import lanes, span
from harness.topology.draw.links import tunnel_links
from harness.topology.draw.measure import head_box, switch_box
from harness.topology.model import BondPort, TopologySpec

_ROW = 2200.0
"""The width that a row of switches is filled to."""
_STEM = 30.0


def plan(spec: TopologySpec) -> Plan:
    """Lay ``spec`` out."""
    links = tunnel_links(spec)
    leads = {link.near: link for link in links if link.far is None}
    switches = [switch_box(index, switch, leads) for index, switch in enumerate(spec.switches)]
    rows = _rows(switches)
    risers = underlays.risers(spec, rows)
    left = PAD + underlays.RISER * len(risers) + (GAP if risers else 0.0)
    for row in rows:
        _place_columns(row, left)
    chips = {chip.end: chip for switch in switches for _, chip in switch.chips()}
    arcs = [Arc(link, chips[link.near], chips[link.far]) for link in links if link.far is not None]
    heads = [
        head_box(chip, leads.get(chip.end))
        for chip in chips.values()
        if chip.kind == "host" or chip.end in leads
    ]
    row_of = {id(switch): number for number, row in enumerate(rows) for switch in row}
    numbers = {index: row_of[id(switch)] for index, switch in enumerate(switches)}
    edge = max((switch.x + switch.w for switch in switches), default=left)
    over = tunnels.pieces(arcs, numbers, edge)
    bars: list[Bar] = []
    tops = []
    drawn = underlays.names(switches)
    y = PAD + TITLE + 16.0
    for number, row in enumerate(rows or [[]]):
        tops.append(y)
        here = [head for head in heads if numbers[head.chip.end[0]] == number]
        y = _place_heads(here, y + tunnels.height(over, number))
        y = _place_bridges(row, y + (_STEM if here or tops[-1] < y else 0.0))
        added = underlays.bars(spec, row, risers, left, drawn)
        drawn |= {underlay.name for underlay in spec.underlays}
        y = underlays.place(added, y) + 2 * GAP
        bars += added
    tunnels.route(over, tops)
    right = [edge, *(bar.x + bar.w for bar in bars), *(piece.reach()[1] for piece in over)]
    title = metrics.width(spec.name, TITLE, bold=True)
    width = max([*right, PAD + title, 240.0]) + PAD
    joints = underlays.joints(bars)
    return Plan(spec.name, width, y - 2 * GAP + PAD, switches, heads, bars, arcs, joints)


def _rows(switches: list[SwitchBox]) -> list[list[SwitchBox]]:
    """As few rows as the width allows, as even as they can be."""
    widths = [_width(switch) for switch in switches]
    limit = max([_ROW, *widths])
    count = len(_fill(switches, widths, limit))
    narrower = max([sum(widths) / max(count, 1), *widths])
    while len(_fill(switches, widths, narrower)) > count:
        narrower += 20.0
    return _fill(switches, widths, narrower)


def _fill(switches: list[SwitchBox], widths: list[float], limit: float) -> list[list[SwitchBox]]:
    rows: list[list[SwitchBox]] = []
    used = limit
    for switch, width in zip(switches, widths, strict=True):
        if used + width > limit:
            rows.append([])
            used = 0.0
        rows[-1].append(switch)
        used += width
    return rows


def _width(switch: SwitchBox) -> float:
    columns = sum(max(box.w for box in column) + GAP for column in switch.columns)
    return max(STRIP + GAP + columns, 120.0) + 2 * GAP


def _place_columns(row: list[SwitchBox], x: float) -> None:
    """Left to right: switches, their columns, and along each edge the ports."""
    for switch in row:
        switch.x, switch.w = x, _width(switch) - 2 * GAP
        inside = x + STRIP + GAP
        for column in switch.columns:
            width = max(box.w for box in column)
            for box in column:
                box.x, box.w = inside, width
                _place_ports(box, box.tops)
                _place_ports(box, box.bottoms)
            inside += width + GAP
        x += switch.w + 2 * GAP


def _place_ports(box: BridgeBox, row: list[Chip]) -> None:
    x = box.x + (box.w - sum(box.slots[chip.end] for chip in row)) / 2
    for chip in row:
        chip.x = x + box.slots[chip.end] / 2
        x += box.slots[chip.end]
        if isinstance(chip.port, BondPort):
            _place_members(chip, chip.port)


def _place_members(chip: Chip, port: BondPort) -> None:
    widths = [metrics.width(member.name, SMALL) + GAP for member in port.members]
    x = chip.x - sum(widths) / 2
    for width in widths:
        chip.members.append(x + width / 2)
        x += width


def _place_heads(heads: list[Head], top: float) -> float:
    """Hosts stand on one line. Return where."""
    bottom = top + max((head.h for head in heads), default=0.0)
    for head in heads:
        head.y = bottom - head.h
    return bottom


def _place_bridges(row: list[SwitchBox], top: float) -> float:
    """Top to bottom inside the switches, which all get the same height. Return their bottom."""
    heights = [_place_inside(switch, top) - top for switch in row]
    heights += [metrics.width(s.switch.name, NAME, bold=True) + 2 * PAD for s in row]
    height = max(heights, default=0.0)
    for switch in row:
        switch.y, switch.h = top, height
    return top + height


def _place_inside(switch: SwitchBox, top: float) -> float:
    """The bridges of a switch and the patches between them. Return where they end."""
    column_of = {id(box): n for n, column in enumerate(switch.columns) for box in column}
    owner = {chip.end: column_of[id(box)] for box, chip in switch.chips()}
    bottom = top
    for column in switch.columns:
        y = top + GAP
        for box in column:
            _place_bridge(box, y)
            y += box.h + 20.0 + LANE * (1 + len(box.bottoms))
        bottom = max(bottom, column[-1].y + column[-1].h)
    straight: list[Link] = []
    around: list[Link] = []
    for link in switch.links:
        (straight if owner[link.near.end] == owner[link.far.end] else around).append(link)
    beside: Counter[int] = Counter()
    for link in straight:
        upper = min(link.near, link.far, key=lambda chip: chip.y)
        link.lane = upper.y + upper.h + 12.0 + LANE * beside[upper.end[1]]
        beside[upper.end[1]] += 1
        # A patch from a bridge to itself hangs below it.
        bottom = max(bottom, link.lane)
    found = lanes([span(link.near.x, link.far.x) for link in around])
    for link, lane in zip(around, found, strict=True):
        link.lane = bottom + 26.0 + LANE * lane
    bonded = any(isinstance(chip.port, BondPort) for _, chip in switch.chips())
    room = 26.0 if bonded else GAP
    return bottom + (26.0 + LANE * (max(found) + 1) if found else room)


def _place_bridge(box: BridgeBox, y: float) -> None:
    box.y = y
    for chip in box.tops:
        chip.y = y
    for chip in box.bottoms:
        chip.y = y + box.h - chip.h
