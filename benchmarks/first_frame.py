"""(a) Time from nothing (new process, no Open vSwitch running) to the first verified frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.processes import Run
from benchmarks.rivals import Duel, duel

ROUNDS = {2: 9, 32: 5}
"""Repetitions, by number of hosts."""
TARGET = 0.4


def measure(say: Say) -> Section:
    """One switch with two hosts, and with 32."""
    section = Section("first frame from nothing", peer="Mininet")
    for hosts, rounds in ROUNDS.items():
        section.rows += _rows(hosts, duel(hosts, rounds, say))
    return section


def _rows(hosts: int, found: Duel) -> list[Row]:
    first = _figure(found.ours, lambda run: run.first)
    down = _figure(found.ours, lambda run: run.down)
    where = f"1 switch, {hosts} hosts"
    floor = Row(
        "  of it Open vSwitch's own: ovs-ctl start",
        _figure(found.ours, lambda run: run.switch),
        words="0.1 s of it is a sleep when the first netdev bridge is made",
    )
    if not found.mininet:
        return [
            Row(f"{where}: first verified frame", first, words=found.lacking),
            floor,
            Row(f"{where}: taking it down again", down),
        ]
    same = _figure(found.same_switch, lambda run: run.first)
    peer = _figure(found.mininet, lambda run: run.first)
    running = _figure(found.mininet, lambda run: run.first - run.switch)
    versions = f"Open vSwitch {found.ours[0].version} and {found.same_switch[0].version}"
    return [
        Row(
            f"{where}: first verified frame",
            first,
            peer,
            f"{_share(first, peer)} (aim: at most {TARGET}); {versions}",
        ),
        floor,
        Row("  on the same Open vSwitch as Mininet", same, peer, _share(same, peer)),
        Row(
            "  beside Mininet with Open vSwitch running already",
            first,
            running,
            f"{_share(first, running)}; the harness still starts its own",
        ),
        Row(
            f"{where}: taking it down again",
            down,
            _figure(found.mininet, lambda run: run.down),
            "Mininet leaves Open vSwitch running",
        ),
    ]


def _figure(runs: Sequence[Run], pick: Callable[[Run], float]) -> Figure:
    return Figure.of([pick(run) for run in runs])


def _share(ours: Figure, peer: Figure) -> str:
    return f"{ours.median / peer.median:.2f} of its time"
