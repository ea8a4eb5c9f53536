"""The picture as SVG: boxes over lines, so that no line ever covers a word."""

from __future__ import annotations

from harness.topology.draw import boxes as sizes
from harness.topology.draw.boxes import Arc, Bar, BridgeBox, Chip, Head, Link, Plan, SwitchBox
from harness.topology.draw.canvas import INK, Canvas
from harness.topology.draw.layout import plan
from harness.topology.draw.tunnels import LABEL, label_width
from harness.topology.model import BondPort, HostPort, PatchPort, TopologySpec

_SOFT = "#52606d"
_SWITCH, _STRIP = "#f3f6fa", "#35577d"
_HOST, _HOST_EDGE = "#fffbef", "#b58a1b"
_WIRE, _PATCH, _MIRROR, _BROKEN = "#3e4c59", "#1f8a5b", "#b8322a", "#c2410c"
_TUNNELS = ("#7b3fa0", "#0b6e99", "#a8326e", "#5a6b00", "#3b4cc0", "#8a4b08")
_VLANS = ("#dbeafe", "#dcfce7", "#fde2e4", "#fef3c7", "#e9d5ff", "#cffafe", "#fed7aa", "#d9f99d")
_PLAIN = "#e8edf2"
_DASH = "7 5"


def to_svg(spec: TopologySpec) -> str:
    """``spec`` as a stand-alone SVG picture."""
    drawn = plan(spec)
    canvas = Canvas()
    canvas.text(sizes.PAD, sizes.PAD + sizes.TITLE, spec.name, sizes.TITLE, bold=True)
    for switch in drawn.switches:
        _switch(canvas, switch)
    _lines(canvas, drawn)
    _boxes(canvas, drawn, _vlan_colours(spec))
    return canvas.svg(drawn.w, drawn.h, spec.name)


def _lines(canvas: Canvas, drawn: Plan) -> None:
    for index, arc in enumerate(drawn.arcs):
        colour = _TUNNELS[index % len(_TUNNELS)]
        canvas.line(arc.path, colour, radius=20.0, thick=1.8, dash=_DASH)
    for head in drawn.heads:
        points = [(head.chip.x, head.y + head.h), (head.chip.x, head.chip.y)]
        if head.host:
            canvas.line(points, _WIRE)
        else:
            canvas.line(points, _BROKEN, thick=1.8, dash=_DASH)
    for x, top, bottom in drawn.risers:
        canvas.line([(x, top), (x, bottom)], _WIRE, thick=2.4)
    for bar in drawn.bars:
        if bar.riser is not None:
            middle = bar.y + sizes.BAR / 2
            canvas.line([(bar.riser, middle), (bar.x, middle)], _WIRE, thick=2.4)
            canvas.dot(bar.riser, middle, _WIRE)
        for x, y in bar.drops:
            canvas.line([(x, y), (x, bar.y)], _WIRE, thick=1.8)
    for switch in drawn.switches:
        for link in switch.links:
            _patch(canvas, link)


def _boxes(canvas: Canvas, drawn: Plan, colours: dict[int, str]) -> None:
    for switch in drawn.switches:
        for column in switch.columns:
            for box in column:
                _bridge(canvas, box)
    for box, chip in drawn.chips():
        outputs = {mirror.output_port for mirror in box.bridge.mirrors}
        _chip(canvas, chip, colours, mirrored=chip.port.name in outputs)
    for head in drawn.heads:
        _head(canvas, head)
    for bar in drawn.bars:
        _bar(canvas, bar)
    for index, arc in enumerate(drawn.arcs):
        _arc_label(canvas, arc, _TUNNELS[index % len(_TUNNELS)])


def _switch(canvas: Canvas, box: SwitchBox) -> None:
    canvas.box(box.x, box.y, box.w, box.h, fill=_SWITCH, edge=_STRIP, radius=10.0, thick=1.6)
    canvas.strip(box.x, box.y, sizes.STRIP, box.h, radius=10.0, fill=_STRIP)
    canvas.text(
        box.x + sizes.STRIP / 2 + 4.5,
        box.y + box.h / 2,
        box.switch.name,
        sizes.NAME,
        colour="#ffffff",
        bold=True,
        anchor="middle",
        turned=True,
    )


def _bridge(canvas: Canvas, box: BridgeBox) -> None:
    canvas.box(box.x, box.y, box.w, box.h, fill="#ffffff", edge=INK, radius=6.0)
    top = max((chip.h for chip in box.tops), default=0.0)
    x, y = box.x + box.w / 2, box.y + top + 11.0 + sizes.LINE - 2.0
    canvas.text(x, y, box.bridge.name, sizes.NAME, bold=True, anchor="middle")
    for line in box.info:
        y += sizes.LINE
        canvas.text(x, y, line, sizes.TEXT, colour=_SOFT, anchor="middle")
    for line in box.mirrors:
        y += sizes.LINE
        canvas.text(x, y, line, sizes.TEXT, colour=_MIRROR, anchor="middle")


def _chip(canvas: Canvas, chip: Chip, colours: dict[int, str], *, mirrored: bool) -> None:
    broken = isinstance(chip.port, PatchPort) and chip.port.peer_missing
    edge = _BROKEN if broken else _MIRROR if mirrored else _PATCH if chip.kind == "patch" else _WIRE
    fill = colours.get(chip.port.vlan.tag, _PLAIN) if chip.port.vlan.tag is not None else _PLAIN
    left = chip.x - chip.w / 2
    thick = 1.8 if mirrored else 1.2
    canvas.box(left, chip.y, chip.w, chip.h, fill=fill, edge=edge, dashed=broken, thick=thick)
    named = chip.kind != "host"
    for index, line in enumerate(chip.lines):
        y = chip.y + 13.0 + 13.0 * index
        canvas.text(chip.x, y, line, sizes.SMALL, bold=named and index == 0, anchor="middle")
    if isinstance(chip.port, BondPort):
        _members(canvas, chip, chip.port)


def _members(canvas: Canvas, chip: Chip, port: BondPort) -> None:
    bottom = chip.y + chip.h
    canvas.line([(chip.x - chip.w / 2, bottom - 20.0), (chip.x + chip.w / 2, bottom - 20.0)], _WIRE)
    for member, x in zip(port.members, chip.members, strict=True):
        canvas.text(x, bottom - 6.5, member.name, sizes.SMALL, anchor="middle")
    reach = (chip.members[-1] - chip.members[0]) / 2 + 10.0
    canvas.ring((chip.members[0] + chip.members[-1]) / 2, bottom + 11.0, reach, 5.5, _WIRE)


def _head(canvas: Canvas, head: Head) -> None:
    x, y = head.chip.x, head.y
    fill, edge = (_HOST, _HOST_EDGE) if head.host else ("#ffffff", _BROKEN)
    canvas.box(x - head.w / 2, y, head.w, head.h, fill=fill, edge=edge, dashed=not head.host)
    canvas.text(x, y + 17.0, head.lines[0], sizes.NAME, bold=True, anchor="middle")
    for index, line in enumerate(head.lines[1:]):
        canvas.text(x, y + 31.0 + 13.0 * index, line, sizes.SMALL, colour=_SOFT, anchor="middle")


def _patch(canvas: Canvas, link: Link) -> None:
    upper, lower = sorted((link.near, link.far), key=lambda chip: chip.y)
    # From above into a stacked bridge's top, or around below: then both ends are bottoms.
    ends = lower.y if link.lane < lower.y else lower.y + lower.h
    points = [(upper.x, upper.y + upper.h), (upper.x, link.lane)]
    points += [(lower.x, link.lane), (lower.x, ends)]
    canvas.line(points, _PATCH, radius=6.0, thick=2.4)


def _bar(canvas: Canvas, bar: Bar) -> None:
    canvas.box(bar.x, bar.y, bar.w, sizes.BAR, fill=_WIRE, edge=_WIRE, radius=sizes.BAR / 2)
    x, y = bar.x + sizes.PAD, bar.y + 16.5
    canvas.text(x, y, bar.label, sizes.NAME, colour="#ffffff", bold=True)
    for drop, _ in bar.drops:
        canvas.dot(drop, bar.y, "#ffffff")
        canvas.ring(drop, bar.y, 3.5, 3.5, _WIRE)


def _arc_label(canvas: Canvas, arc: Arc, colour: str) -> None:
    width = label_width(arc)
    x, y = arc.label
    canvas.box(x - width / 2, y - LABEL / 2, width, LABEL, fill="#ffffff", edge=colour)
    canvas.text(x, y - 3.0, arc.link.label, sizes.TEXT, colour=colour, bold=True, anchor="middle")
    canvas.text(x, y + 10.5, arc.link.addresses, sizes.SMALL, colour=_SOFT, anchor="middle")


def _vlan_colours(spec: TopologySpec) -> dict[int, str]:
    """A colour for each VLAN that hosts are in, the same at every port that is in it."""
    tags = sorted(
        {
            port.vlan.tag
            for switch in spec.switches
            for bridge in switch.bridges
            for port in bridge.ports
            if isinstance(port, HostPort) and port.vlan.tag is not None
        }
    )
    return {tag: _VLANS[index % len(_VLANS)] for index, tag in enumerate(tags)}
