"""All faults, and drawing one of them at random."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random

from harness.faults.daemons import DaemonName, Exit, Kill, Suspend
from harness.faults.database import DamagedDatabase, FullDisk, OldSchema
from harness.faults.fault import Fault
from harness.faults.links import BadLink, Cut, LinkDown, LinkFlapping, uplinks
from harness.faults.power import PowerCut
from harness.faults.restarts import HalfRestart, Reload, Restart
from harness.faults.upgrades import IMAGES, Upgrade
from harness.topology.model import Switch

DAEMONS: tuple[DaemonName, ...] = ("ovsdb-server", "ovs-vswitchd")
BAD = {"loss": 20, "duplicate": 20, "corrupt": 20, "delay": 50, "jitter": 50}
"""How links are bad that are drawn, one way each: see :class:`BadLink`."""
Choices = Callable[[Switch], Iterable[Fault]]

CHOICES: dict[type[Fault], Choices] = {
    Restart: lambda switch: [Restart(switch.name)],
    Reload: lambda switch: [Reload(switch.name)],
    HalfRestart: lambda switch: (
        HalfRestart(switch.name, stage=stage)
        for stage in ("saved", "stopped", "waiting", "restored")
    ),
    Kill: lambda switch: (
        Kill(switch.name, daemon=daemon, signal=signal)
        for daemon in DAEMONS
        for signal in ("KILL", "SEGV")
    ),
    Suspend: lambda switch: (Suspend(switch.name, daemon=daemon) for daemon in DAEMONS),
    Exit: lambda switch: (Exit(switch.name, cleanup=cleanup) for cleanup in (False, True)),
    FullDisk: lambda switch: [FullDisk(switch.name)],
    DamagedDatabase: lambda switch: (
        DamagedDatabase(switch.name, part=part) for part in ("header", "tail")
    ),
    OldSchema: lambda switch: [OldSchema(switch.name)],
    Upgrade: lambda switch: (Upgrade(switch.name, image) for image in IMAGES),
    PowerCut: lambda switch: (PowerCut(switch.name, synced=synced) for synced in (True, False)),
    LinkDown: lambda switch: (LinkDown(switch.name, port) for port, _ in uplinks(switch)),
    LinkFlapping: lambda switch: (LinkFlapping(switch.name, port) for port, _ in uplinks(switch)),
    Cut: lambda switch: (Cut(switch.name, underlay) for underlay in _underlays(switch)),
    BadLink: lambda switch: (
        BadLink(switch.name, underlay, **{how: amount})
        for underlay in _underlays(switch)
        for how, amount in BAD.items()
    ),
}
"""The faults, one line each, and how each can be done to a switch: all that may be drawn."""


def _underlays(switch: Switch) -> Iterable[str]:
    return dict.fromkeys(underlay for _port, underlay in uplinks(switch))


def draw(
    random: Random,
    switches: Iterable[Switch],
    among: Collection[type[Fault]] = CHOICES.keys(),
) -> Fault:
    """One of the faults ``among`` that can be done to any of the ``switches``: first its kind, so
    that one with many varieties is as likely as one with few. The same seed draws the same.

    Raise ``ValueError`` when there is none.
    """
    there = list(switches)
    found = [
        choices
        for kind in CHOICES
        if kind in among
        and (choices := [fault for switch in there for fault in CHOICES[kind](switch)])
    ]
    if not found:
        raise ValueError("none of these faults can be done to any of these switches")
    return random.choice(random.choice(found))
