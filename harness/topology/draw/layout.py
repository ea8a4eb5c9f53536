"""Where everything goes: hosts above, switches side by side, underlays below, tunnels on top.

Each port has a slot of its own along the upper or the lower edge of its bridge, and each line a
slot or a lane of its own, so that neither boxes nor labels can come to lie on each other.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable

from harness.topology.draw import metrics, words
from harness.topology.draw.boxes import Arc, Bar, BridgeBox, Chip, Head, Kind, Link, Plan, SwitchBox
from harness.topology.draw.links import End, TunnelLink, tunnel_links
from harness.topology.draw.stacks import stacks
from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    PatchPort,
    Port,
    Switch,
    TopologySpec,
    TunnelPort,
    UplinkPort,
)

TITLE, NAME, TEXT, SMALL = 20.0, 13.0, 11.0, 10.0
LINE = 14.0
PAD = 12.0
STRIP = 26.0
"""The coloured edge of a switch that carries its name."""
GAP = 14.0
_WRAP = 30
_LANE = 12.0
_TUNNEL_LANE = 40.0
BAR, _BAR_STEP = 24.0, 44.0
_MEMBER = 24.0


def plan(spec: TopologySpec) -> Plan:
    """Lay ``spec`` out."""
    links = tunnel_links(spec)
    leads = {link.near: link for link in links if link.far is None}
    switches = [_switch(index, switch, leads) for index, switch in enumerate(spec.switches)]
    _place_columns(switches)
    chips = {
        chip.end: chip
        for switch in switches
        for column in switch.columns
        for box in column
        for chip in [*box.tops, *box.bottoms]
    }
    arcs = [Arc(link, chips[link.near], chips[link.far]) for link in links if link.far is not None]
    heads = [
        _head(chip, leads.get(chip.end))
        for chip in chips.values()
        if chip.kind == "host" or chip.end in leads
    ]
    top = PAD + TITLE + 16.0
    lanes = _lanes([_arc_span(arc) for arc in arcs])
    for arc, lane in zip(arcs, lanes, strict=True):
        arc.lane = top + 20.0 + lane * _TUNNEL_LANE
    heads_top = top + (max(lanes) + 1) * _TUNNEL_LANE + 8.0 if lanes else top
    heads_bottom = heads_top + max((head.h for head in heads), default=0.0)
    for head in heads:
        head.y = heads_bottom - head.h
    bottom = _place_rows(switches, heads_bottom + (30.0 if heads or arcs else 0.0))
    bars = _bars(spec, chips)
    bottom = _place_bars(bars, bottom)
    right = [switch.x + switch.w for switch in switches] + [bar.x + bar.w for bar in bars]
    right += [_arc_span(arc)[1] for arc in arcs]
    title = metrics.width(spec.name, TITLE, bold=True)
    width = max([*right, PAD + title, 240.0]) + PAD
    return Plan(spec.name, width, bottom + PAD, switches, heads, bars, arcs)


def _switch(index: int, switch: Switch, leads: dict[End, TunnelLink]) -> SwitchBox:
    columns = [
        [_bridge((index, number), switch.bridges[number], above, leads) for number, above in column]
        for column in stacks(switch)
    ]
    box = SwitchBox(switch, columns, [])
    chips = {chip.port.name: chip for bridge in _bridges(box) for chip in _chips(bridge)}
    for chip in chips.values():
        if isinstance(chip.port, PatchPort):
            far = chips.get(chip.port.peer)
            if far is not None and (chip.end < far.end):
                box.links.append(Link(chip, far))
    return box


def _bridge(
    at: tuple[int, int], bridge: Bridge, above: set[str], leads: dict[End, TunnelLink]
) -> BridgeBox:
    """``above`` are the patch ports that lead to the bridge stacked on top of this one."""
    outputs = {mirror.output_port: mirror.name for mirror in bridge.mirrors if mirror.output_port}
    tops: list[Chip] = []
    bottoms: list[Chip] = []
    slots: dict[End, float] = {}
    for index, port in enumerate(bridge.ports):
        end = (*at, index)
        chip = _chip(end, port, outputs.get(port.name))
        upper = chip.kind in {"host", "tunnel"} or port.name in above
        (tops if upper else bottoms).append(chip)
        head = _head(chip, leads.get(end)) if chip.kind == "host" or end in leads else None
        slots[end] = max(chip.w, head.w if head else 0.0) + GAP
    mirrors = [line for mirror in bridge.mirrors for line in _wrap(words.mirror(mirror), 48)]
    info = [line for text in words.bridge(bridge) for line in _wrap(text, 40)]
    box = BridgeBox(bridge, info, mirrors, tops, bottoms, slots)
    rows = [sum(slots[chip.end] for chip in row) for row in (tops, bottoms)]
    texts = [
        metrics.width(bridge.name, NAME, bold=True),
        metrics.widest(info, TEXT),
        metrics.widest(mirrors, TEXT),
    ]
    box.w = max(*rows, *(text + 2 * PAD for text in texts), 110.0) + GAP
    heights = [max((chip.h for chip in row), default=0.0) for row in (tops, bottoms)]
    box.h = sum(heights) + 22.0 + LINE * (1 + len(info) + len(mirrors))
    return box


def _chip(end: End, port: Port, mirror: str | None) -> Chip:
    lines = [line for text in words.vlan(port.vlan) for line in _wrap(text, _WRAP)]
    if mirror is not None:
        lines.append(f"output of {mirror}")
    match port:
        case HostPort():
            kind: Kind = "host"
        case UplinkPort():
            kind, lines = "uplink", [port.name, *lines]
        case TunnelPort():
            kind, lines = "tunnel", [port.name, *lines]
        case InternalPort():
            kind, lines = "internal", [port.name, *words.end(port), *lines]
        case BondPort():
            kind, lines = "bond", [port.name, *words.bond(port), *lines]
        case PatchPort():
            gone = [f"no peer {port.peer}"] if port.peer_missing else []
            kind, lines = "patch", [port.name, *lines, *gone]
    width = metrics.widest(lines, SMALL, bold=True) + 12.0 if lines else 12.0
    height = 13.0 * len(lines) + 6.0 if lines else 12.0
    if isinstance(port, BondPort):
        names = [metrics.width(member.name, SMALL) + GAP for member in port.members]
        width = max(width, sum(names) + 6.0)
        height += _MEMBER
    return Chip(end, port, kind, lines, width, height)


def _head(chip: Chip, lead: TunnelLink | None) -> Head:
    if lead is None:
        assert isinstance(chip.port, HostPort)
        lines = [chip.port.name, *words.end(chip.port)]
    else:
        lines = [lead.label, *_wrap(lead.addresses, _WRAP)]
    head = Head(chip, lines, host=lead is None)
    head.w = max(metrics.width(lines[0], NAME, bold=True), metrics.widest(lines[1:], SMALL)) + 2 * (
        PAD - 3.0
    )
    head.h = 22.0 + 13.0 * (len(lines) - 1) + 4.0
    return head


def _place_columns(switches: list[SwitchBox]) -> None:
    """Left to right: switches, their columns, and along each edge the ports."""
    x = PAD
    for switch in switches:
        switch.x = x
        inside = x + STRIP + GAP
        for column in switch.columns:
            width = max(box.w for box in column)
            for box in column:
                box.x, box.w = inside, width
                _place_row(box, box.tops)
                _place_row(box, box.bottoms)
            inside += width + GAP
        switch.w = max(inside - x, 120.0)
        x += switch.w + 2 * GAP


def _place_row(box: BridgeBox, row: list[Chip]) -> None:
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


def _place_rows(switches: list[SwitchBox], top: float) -> float:
    """Top to bottom inside the switches, which all get the same height. Return their bottom."""
    for switch in switches:
        stacked = {box.bridge.name: column for column in switch.columns for box in column}
        y_bottom = top
        for column in switch.columns:
            y = top + GAP
            for box in column:
                _place_bridge(box, y)
                y += box.h + 20.0 + _LANE * (1 + len(box.bottoms))
            y_bottom = max(y_bottom, column[-1].y + column[-1].h)
        straight: list[Link] = []
        around: list[Link] = []
        for link in switch.links:
            same = stacked[_bridge_of(switch, link.near)] is stacked[_bridge_of(switch, link.far)]
            (straight if same else around).append(link)
        beside: Counter[int] = Counter()
        for link in straight:
            upper = min(link.near, link.far, key=lambda chip: chip.y)
            link.lane = upper.y + upper.h + 12.0 + _LANE * beside[upper.end[1]]
            beside[upper.end[1]] += 1
        lanes = _lanes([_span(link.near.x, link.far.x) for link in around])
        for link, lane in zip(around, lanes, strict=True):
            link.lane = y_bottom + 26.0 + _LANE * lane
        room = 26.0 + _LANE * (max(lanes) + 1) if lanes else 0.0
        switch.inner_h = y_bottom + max(room, GAP) - top
    names = [metrics.width(s.switch.name, NAME, bold=True) + 2 * PAD for s in switches]
    height = max([*(switch.inner_h for switch in switches), *names], default=0.0)
    for switch in switches:
        switch.y, switch.h = top, height
    return top + height


def _place_bridge(box: BridgeBox, y: float) -> None:
    box.y = y
    for chip in box.tops:
        chip.y = y
    for chip in box.bottoms:
        chip.y = y + box.h - chip.h


def _bridge_of(switch: SwitchBox, chip: Chip) -> str:
    return switch.switch.bridges[chip.end[1]].name


def _bars(spec: TopologySpec, chips: dict[End, Chip]) -> list[Bar]:
    drops: dict[str, list[tuple[float, float]]] = {found.name: [] for found in spec.underlays}
    for chip in chips.values():
        if isinstance(chip.port, UplinkPort):
            drops[chip.port.underlay].append((chip.x, chip.y + chip.h))
        elif isinstance(chip.port, BondPort):
            for member, x in zip(chip.port.members, chip.members, strict=True):
                drops[member.underlay].append((x, chip.y + chip.h))
    bars = []
    for underlay in spec.underlays:
        bar = Bar(words.underlay(underlay), sorted(drops[underlay.name]))
        xs = [x for x, _ in bar.drops] or [PAD + 30.0]
        bar.x = max(min(xs) - 30.0, PAD)
        bar.w = max(max(xs) + 30.0 - bar.x, metrics.width(bar.label, NAME, bold=True) + 2 * PAD)
        bars.append(bar)
    return bars


def _place_bars(bars: list[Bar], bottom: float) -> float:
    """Bars that do not meet share a row. Return the bottom of the last row."""
    rows = _lanes([(bar.x, bar.x + bar.w) for bar in bars])
    for bar, row in zip(bars, rows, strict=True):
        bar.y = bottom + 34.0 + row * _BAR_STEP
    return max((bar.y + BAR for bar in bars), default=bottom)


def _arc_span(arc: Arc) -> tuple[float, float]:
    """What the lane of a tunnel takes: the line, and its label where that is longer."""
    left, right = _span(arc.near.x, arc.far.x)
    half = max(right - left, arc_label_width(arc)) / 2
    middle = max((left + right) / 2, half + PAD)
    return middle - half, middle + half


def arc_label_width(arc: Arc) -> float:
    """The width of a tunnel's label in pixels."""
    lines = [arc.link.label, arc.link.addresses]
    return max(metrics.width(lines[0], TEXT, bold=True), metrics.width(lines[1], SMALL)) + 16.0


def _span(one: float, other: float) -> tuple[float, float]:
    return min(one, other), max(one, other)


def _lanes(spans: list[tuple[float, float]]) -> list[int]:
    """The lowest lane for each span in which it meets no other; short spans choose first."""
    taken: list[list[tuple[float, float]]] = []
    lanes = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], i)):
        left, right = spans[index]
        lane = next(
            (
                number
                for number, others in enumerate(taken)
                if all(right + 10.0 < other[0] or other[1] + 10.0 < left for other in others)
            ),
            len(taken),
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((left, right))
        lanes[index] = lane
    return lanes


def _bridges(switch: SwitchBox) -> Iterable[BridgeBox]:
    return (box for column in switch.columns for box in column)


def _chips(box: BridgeBox) -> list[Chip]:
    return [*box.tops, *box.bottoms]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)
