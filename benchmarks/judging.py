"""Frames a second of the judging half of the traffic engine: stamping, walking, matching, verdicts.

Nothing is sent: the captured blocks are made in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

from benchmarks.figures import Figure, Row, Say, Section
from harness.traffic import (
    Batch,
    Ledger,
    MatrixPlan,
    Point,
    ProbeMatrix,
    Reach,
    Tag,
    probe_frame,
    ring,
)
from harness.traffic.identity import stamp, stamp_many

FRAMES = 100_000
IN_BLOCK = 2000
HOSTS = 256
ROUNDS = 3


def timed(what: str, work: Callable[[], object]) -> Row:
    """How many frames ``work`` handles in a second."""
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return Row(what, Figure.of([FRAMES / seconds for seconds in times], "/s"))


def mac(number: int) -> str:
    """A locally administered address."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def blocks(frames: list[bytes], tag: Tag | None = None, prefix: bytes = b"") -> list[bytes]:
    """Ring blocks of ``frames``, each behind ``prefix``."""
    return [
        ring.pack(ring.Unpacked(prefix + frame, tag=tag) for frame in frames[at : at + IN_BLOCK])
        for at in range(0, len(frames), IN_BLOCK)
    ]


def measure(say: Say) -> Section:
    """One flow, and every pair of many hosts."""
    section = Section("judging alone")
    say(f"judging {FRAMES:,} frames from memory")
    section.rows += stream()
    say(f"judging every pair of {HOSTS} hosts from memory")
    section.rows += matrix()
    return section


def stream() -> list[Row]:
    """One flow to one host, plain, tagged and in a tunnel."""
    points = [Point("a", "host"), Point("b", "host"), Point("wire", "wire")]
    frame = probe_frame(mac(1), mac(2))
    ledger = Ledger(1, points)
    template = ledger.flow("a", frame, to=["b"]).template
    frames = [stamp(template, seq) for seq in range(FRAMES)]
    plain = blocks(frames)
    tagged = blocks(frames, Tag.of(900))
    wrapped = blocks(frames, prefix=bytes(50))

    def match(point: str, parts: list[bytes]) -> Callable[[], object]:
        def work() -> None:
            fresh = Ledger(1, points)
            flow = fresh.flow("a", frame, to=["b"])
            for block in parts:
                fresh.take(point, block)
            assert len(flow.hits) == FRAMES

        return work

    ledger.flows[0].count = FRAMES
    for block in plain:
        ledger.take("b", block)
    sent = Batch(ledger, drained=True).sent[0]
    return [
        timed("stamp_many, 64 bytes", lambda: stamp_many(template, 0, FRAMES)),
        timed("walk", lambda: [None for block in plain for _ in ring.walk(block)]),
        timed("walk and match, untagged", match("b", plain)),
        timed("walk and match, tag taken out by the kernel", match("b", tagged)),
        timed("walk and match, behind 50 bytes of tunnel", match("wire", wrapped)),
        timed("duplicates and missing_at", lambda: (sent.duplicates, sent.missing_at("b"))),
    ]


def matrix() -> list[Row]:
    """Every ordered pair of hosts: plan, stamp, match and judge."""
    macs = {f"h{n}": mac(n) for n in range(HOSTS)}
    ledger = Ledger(1, [Point(name, "host") for name in macs])
    marks = [perf_counter()]
    plan = MatrixPlan(ledger, macs)
    shouted = {host: stamp(flow.template, 0) for host, flow in plan.broadcast.items()}
    unicast: dict[str, list[bytes]] = {host: [] for host in macs}
    for (_, target), flow in plan.unicast.items():
        unicast[target].append(stamp(flow.template, 0))
    marks.append(perf_counter())
    arrived = {
        host: ring.pack(
            ring.Unpacked(frame)
            for frame in [*(f for h, f in shouted.items() if h != host), *unicast[host]]
        )
        for host in macs
    }
    packed = perf_counter() - marks[-1]
    for host, block in arrived.items():
        ledger.take(host, block)
    marks.append(perf_counter() - packed)
    result = ProbeMatrix(plan, Batch(ledger, drained=True))
    assert result.reach == Reach.groups(list(macs))
    marks.append(perf_counter() - packed)
    batch = result.batch
    assert [batch.strays, batch.duplicates, batch.changed] == [[], [], []]
    marks.append(perf_counter() - packed)
    names = ("plan and stamp", "match", "who heard whom", "strays, duplicates and changes")
    what = f"{HOSTS} hosts, {2 * HOSTS * (HOSTS - 1)} sightings"
    return [
        Row(f"{what}: {name}", Figure.of([after - before]))
        for name, (before, after) in zip(names, pairwise(marks), strict=True)
    ]
