"""The pieces of a picture: what they show, how large they are, and where they lie.

Lengths are pixels; ``x`` grows to the right, ``y`` downwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from harness.topology.draw.links import End, TunnelLink
from harness.topology.model import Bridge, Port, Switch

TITLE, NAME, TEXT, SMALL = 20.0, 13.0, 11.0, 10.0
"""Font sizes."""
LINE = 14.0
PAD = 12.0
GAP = 14.0
STRIP = 26.0
"""The coloured edge of a switch that carries its name."""
LANE = 12.0
"""From one patch link to the next."""
BAR = 24.0

Point = tuple[float, float]
Kind = Literal["host", "uplink", "patch", "tunnel", "internal", "bond"]


@dataclass
class Chip:
    """A port at the edge of its bridge. ``x`` is its middle, ``y`` its top."""

    end: End
    port: Port
    kind: Kind
    lines: list[str]
    w: float
    h: float
    x: float = 0.0
    y: float = 0.0
    members: list[float] = field(default_factory=list)
    """The middles of a bond's members."""


@dataclass
class Head:
    """What stands above a port: a host, or the far end of a tunnel that leads out of the lab."""

    chip: Chip
    lines: list[str]
    host: bool
    w: float = 0.0
    h: float = 0.0
    y: float = 0.0


@dataclass
class BridgeBox:
    """A bridge with its ports, those above and those below."""

    bridge: Bridge
    info: list[str]
    mirrors: list[str]
    tops: list[Chip]
    bottoms: list[Chip]
    slots: dict[End, float]
    w: float = 0.0
    h: float = 0.0
    x: float = 0.0
    y: float = 0.0


@dataclass
class Link:
    """A patch inside a switch: from chip to chip, by way of the height ``lane``."""

    near: Chip
    far: Chip
    lane: float = 0.0


@dataclass
class SwitchBox:
    """A switch; ``columns`` are its bridges, stacked where a patch alone leads downwards."""

    switch: Switch
    columns: list[list[BridgeBox]]
    links: list[Link]
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    h: float = 0.0

    def chips(self) -> Iterable[tuple[BridgeBox, Chip]]:
        """Every port with its bridge."""
        for column in self.columns:
            for box in column:
                for chip in [*box.tops, *box.bottoms]:
                    yield box, chip


@dataclass
class Bar:
    """An underlay below one row of switches. ``drops`` are the lower ends of what is attached to
    it, ``riser`` the middle of the line that leads to its bars below other rows."""

    label: str
    drops: list[Point]
    x: float = 0.0
    y: float = 0.0
    w: float = 0.0
    riser: float | None = None


@dataclass
class Arc:
    """A tunnel between two ports, over everything. ``label`` is the middle of its words."""

    link: TunnelLink
    near: Chip
    far: Chip
    path: list[Point] = field(default_factory=list)
    label: Point = (0.0, 0.0)


@dataclass
class Plan:
    """The whole picture. ``risers`` are the middle, the top and the bottom of each line that joins
    the bars of one underlay."""

    name: str
    w: float
    h: float
    switches: list[SwitchBox]
    heads: list[Head]
    bars: list[Bar]
    arcs: list[Arc]
    risers: list[tuple[float, float, float]]

    def chips(self) -> Iterable[tuple[BridgeBox, Chip]]:
        """Every port with its bridge."""
        for switch in self.switches:
            yield from switch.chips()
