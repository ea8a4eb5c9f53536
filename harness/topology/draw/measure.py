"""How large the pieces become: switches with their bridges, ports, and what stands above them."""

from __future__ import annotations

import textwrap

from harness.topology.draw import metrics, words
from harness.topology.draw.boxes import (
    GAP,
    LINE,
    NAME,
    PAD,
    SMALL,
    TEXT,
    BridgeBox,
    Chip,
    Head,
    Kind,
    Link,
    SwitchBox,
)
from harness.topology.draw.links import End, TunnelLink
from harness.topology.draw.stacks import stacks
from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    PatchPort,
    Port,
    Switch,
    TunnelPort,
    UplinkPort,
)

_WRAP = 30
_MEMBER = 24.0
Leads = dict[End, TunnelLink]
"""The tunnels that lead out of the lab, by their port."""


def switch_box(index: int, switch: Switch, leads: Leads) -> SwitchBox:
    """A switch with its bridges in columns, and the patches between them."""
    columns = [
        [_bridge((index, number), switch.bridges[number], above, leads) for number, above in column]
        for column in stacks(switch)
    ]
    box = SwitchBox(switch, columns, [])
    chips = {chip.port.name: chip for _, chip in box.chips()}
    for chip in chips.values():
        if isinstance(chip.port, PatchPort):
            far = chips.get(chip.port.peer)
            if far is not None and (chip.end < far.end):
                box.links.append(Link(chip, far))
    return box


def _bridge(at: tuple[int, int], bridge: Bridge, above: set[str], leads: Leads) -> BridgeBox:
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
        head = head_box(chip, leads.get(end)) if chip.kind == "host" or end in leads else None
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
    lines = [line for text in words.port(port) for line in _wrap(text, _WRAP)]
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


def head_box(chip: Chip, lead: TunnelLink | None) -> Head:
    """The host above ``chip``, or what is known of the far end of the tunnel ``lead``."""
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


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)
