"""Underlays between nodes over a network that is not ours: a wire through it is made of VXLAN
(:mod:`harness.agent.underlays`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.lab.plan import End, Wire
from harness.nodes.remote import RemoteNode


class Place(NamedTuple):
    """Where an end of an underlay is to be reached."""

    address: str
    mac: str | None
    """None where the network finds out itself who has the address."""
    port: int
    """UDP: each end at an address has one of its own."""


def make_ends(
    wires: Sequence[Wire], nodes: Mapping[str, RemoteNode], places: Mapping[End, Place]
) -> None:
    """Make the ends of all underlays, each at its place."""
    asked = []
    for name, node in nodes.items():
        ends = [
            {
                "name": end.interface,
                "mtu": wire.mtu,
                "local": places[end].address,
                "port": places[end].port,
                "others": [list(places[other]) for other in wire.ends if other != end],
            }
            for wire in wires
            for end in wire.ends
            if end.switch == name
        ]
        if ends:
            asked.append(node.make_underlay_ends(ends))
    for answer in asked:
        answer.result()


def set_link(wires: Sequence[Wire], nodes: Mapping[str, RemoteNode], at: End, *, up: bool) -> None:
    """Set a physical port up or down. If just one other is at the same underlay, it loses the
    carrier too, or gets it back."""
    change: dict[str, Any] = {"do": "set", "name": at.interface, "up": up}
    nodes[at.switch].change_links([change]).result()
    for wire in wires:
        if at in wire.ends and len(wire.ends) == 2:
            (other,) = (end for end in wire.ends if end != at)
            nodes[other.switch].set_underlay_carrier(other.interface, up=up).result()
