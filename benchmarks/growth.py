"""(d) How the time to the first frame and that of all pairs grow with hosts and switches."""

from __future__ import annotations

from benchmarks import processes
from benchmarks.figures import Figure, Row, Say, Section, growth
from harness.lab import DEFAULT_TARGET

HOSTS = (2, 8, 32, 64, 128, 256)
SWITCHES = (1, 2, 4, 8, 16, 32)
ROUNDS = 3
FEW = 64
"""More hosts or more pairs than that of this many hosts are measured once."""


def measure(say: Say) -> Section:
    """Hosts on one switch, then switches with one host each on one underlay."""
    section = Section("growth")
    for what, sizes in (("hosts on 1 switch", HOSTS), ("switches with 1 host each", SWITCHES)):
        section.rows += _grow(what, sizes, say)
    return section


def _grow(what: str, sizes: tuple[int, ...], say: Say) -> list[Row]:
    on_one = sizes is HOSTS
    rows: list[Row] = []
    firsts: list[float] = []
    each: list[tuple[int, float]] = []
    for size in sizes:
        switches, hosts = (1, size) if on_one else (size, 1)
        rounds = ROUNDS if switches * hosts < FEW and switches < 16 else 1
        runs = []
        for number in range(1, rounds + 1):
            say(f"{what}: {size}, round {number} of {rounds}")
            runs.append(processes.harness(DEFAULT_TARGET, switches, hosts, pairs=size > 1))
        first = Figure.of([run.first for run in runs])
        firsts.append(first.median)
        words = f"{1000 * first.median / size:.1f} ms each"
        rows.append(Row(f"{what}: {size}, first frame", first, words=words))
        pairs = size * (size - 1)
        if pairs:
            took = Figure.of([run.pairs for run in runs if run.pairs is not None])
            each.append((pairs, took.median))
            words = f"{1000 * took.median / pairs:.3f} ms a pair"
            rows.append(Row(f"{what}: {size}, {pairs} pairs", took, words=words))
    name = what.split(maxsplit=1)[0]
    return [
        *rows,
        Row(f"{what}: how the first frame grows", None, words=growth(name, sizes, firsts)),
        Row(f"{what}: how pairs grow", None, words=growth("pairs", *zip(*each, strict=True))),
    ]
