"""(b) The 992 ordered pairs of 32 hosts, verified including that nothing else was heard."""

from __future__ import annotations

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.first_frame import ROUNDS
from benchmarks.processes import Run
from benchmarks.rivals import duel

HOSTS = 32
TARGET = 10


def measure(say: Say) -> Section:
    """``probe_all``, who heard whom, and ``verify``, beside ``pingall``."""
    found = duel(HOSTS, ROUNDS[HOSTS], say)
    section = Section("every ordered pair", peer="Mininet")
    ours = Figure.of(pairs_of(found.ours))
    what = f"{HOSTS * (HOSTS - 1)} pairs of {HOSTS} hosts, and that nothing else was heard"
    if not found.mininet:
        section.rows.append(Row(what, ours, words=found.lacking))
        return section
    peer = Figure.of(pairs_of(found.mininet))
    for name, figure in (
        (what, ours),
        ("  on the same Open vSwitch as Mininet", Figure.of(pairs_of(found.same_switch))),
    ):
        words = f"{peer.median / figure.median:.1f} times faster"
        if figure is ours:
            words += f" (aim: at least {TARGET}); pingall sees only whether a ping is answered"
        section.rows.append(Row(name, figure, peer, words))
    return section


def pairs_of(runs: tuple[Run, ...]) -> list[float]:
    """The times that all pairs took."""
    return [run.pairs for run in runs if run.pairs is not None]
