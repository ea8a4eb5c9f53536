"""What the commands print."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.live.messages import Crossing, Info, Matrix, Probed

if TYPE_CHECKING:
    from rich.table import Table

_PLAIN_WIDTH = 160
"""Of a table that is written to no terminal: wide enough that nothing is folded."""


def ready(info: Info, *, alone: bool) -> Iterator[str]:
    """What is up and how to use it; ``alone``: no other lab is up."""
    version = f", Open vSwitch {info.version}" if info.version else ""
    yield f"lab {info.name} is up ({info.target}{version})"
    for switch in info.switches:
        yield f"  switch {switch.name}: {', '.join(switch.bridges) or 'no bridge'}"
    for host in info.hosts:
        addresses = " ".join(["", *host.addresses])
        yield f"  host {host.name}: {host.mac}{addresses} on {host.switch} {host.bridge}"
    for underlay in info.underlays:
        yield f"  underlay {underlay}"
    yield ""
    lab = "" if alone else f" --lab {info.name}"
    for switch in info.switches[:1]:
        yield f"ovs-harness exec{lab} {switch.name} -- ovs-vsctl show"
        yield f"ovs-harness shell{lab} {switch.name}"
        yield f"ovs-harness state{lab} {switch.name}"
    for one, other in [info.hosts[:2]] if len(info.hosts) > 1 else ():
        yield f"ovs-harness probe{lab} {one.name} {other.name}"
    yield f"ovs-harness capture{lab}"
    yield f"ovs-harness down {info.name}"


def labs(found: Sequence[tuple[str, Info | None]]) -> Table:
    """The labs that are up; None for one whose keeper does not answer."""
    table = _table("Lab", "Target", "Switches", "Hosts", "Keeper", "Since", "")
    for name, info in found:
        if info is None:
            table.add_row(name, "", "", "", "", "", "does not answer")
            continue
        lost = [switch.name for switch in info.switches if switch.lost]
        state = "" if info.up else "starting"
        table.add_row(
            info.name,
            info.target,
            str(len(info.switches)),
            str(len(info.hosts)) if info.up else "",
            str(info.pid),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.since)),
            f"ended: {', '.join(lost)}" if lost else state,
        )
    return table


def probed(result: Probed) -> Iterator[str]:
    """What became of one probe."""
    heard = f"heard at {', '.join(result.heard)}" if result.heard else "heard at no host"
    took = "" if result.latency is None else f" after {result.latency / 1e6:.3f} ms"
    yield f"{result.source} -> {result.to}: {heard}{took}"
    if result.to not in result.heard:
        yield f"  {result.to} did not hear it"
    yield from (f"  {other} heard it too" for other in result.heard if other != result.to)
    yield from (f"  {_crossing(one)}" for one in result.crossings)
    yield from (f"  {line}" for line in result.surprises)


def _crossing(one: Crossing) -> str:
    text = f"crossed {one.wire} at {one.port}: {', '.join(one.tags) or 'untagged'}"
    if not one.outer:
        return text
    from harness.traffic.dissect import dissect

    layers = [layer.__name__ for layer in dissect(one.outer).layers() if layer.__name__ != "Raw"]
    inner = ", ".join(one.inner_tags) or "untagged"
    return f"{text}, in {'/'.join(layers)} ({len(one.outer)} bytes); inside: {inner}"


def matrix(result: Matrix) -> Table:
    """Who heard whom."""
    table = _table("From", "Unicast reaches", "Broadcast reaches", "Overheard")
    hosts = {row.source for row in result.rows}
    for row in result.rows:
        others = hosts - {row.source}
        overheard = [f"what is for {to} by {by}" for to, by in row.overheard]
        table.add_row(
            row.source,
            _names(row.unicast, others),
            _names(row.broadcast, others),
            "; ".join(overheard),
        )
    return table


def _names(heard: Sequence[str], others: set[str]) -> str:
    if not heard:
        return "nobody"
    if len(others) > 3 and set(heard) == others:
        return f"all {len(others)} others"
    return ", ".join(heard)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE)


def print_table(table: Table) -> None:
    """Print a table in the terminal's width, or unfolded."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
