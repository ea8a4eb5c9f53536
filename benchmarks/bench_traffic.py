"""Frames per second of the judging half of the traffic engine: stamping, walking, matching.

Run with ``python benchmarks/bench_traffic.py``. Nothing is sent: the blocks are made in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

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

FRAMES = 200_000
IN_BLOCK = 2000
HOSTS = 256


def timed(what: str, frames: int, work: Callable[[], object]) -> None:
    """Print how many frames ``work`` handles in a second: the median of five runs."""
    times = []
    for _ in range(5):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    middle = sorted(times)[2]
    print(f"{what:<44} {frames / middle / 1000:>8.0f} k frames/s {middle:>8.3f} s")


def mac(number: int) -> str:
    """A locally administered address."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def blocks(frames: list[bytes], tag: Tag | None = None, prefix: bytes = b"") -> list[bytes]:
    """Ring blocks of ``frames``, each behind ``prefix``."""
    return [
        ring.pack(ring.Unpacked(prefix + frame, tag=tag) for frame in frames[at : at + IN_BLOCK])
        for at in range(0, len(frames), IN_BLOCK)
    ]


def stream() -> None:
    """One flow to one host, plain, tagged and in a tunnel."""
    points = [Point("a", "host"), Point("b", "host"), Point("wire", "wire")]
    frame = probe_frame(mac(1), mac(2))
    ledger = Ledger(1, points)
    template = ledger.flow("a", frame, to=["b"]).template
    timed("stamp_many, 64 bytes", FRAMES, lambda: stamp_many(template, 0, FRAMES))
    frames = [stamp(template, seq) for seq in range(FRAMES)]
    plain = blocks(frames)
    timed("walk", FRAMES, lambda: [None for block in plain for _ in ring.walk(block)])

    def match(point: str, parts: list[bytes]) -> Callable[[], object]:
        def work() -> None:
            fresh = Ledger(1, points)
            flow = fresh.flow("a", frame, to=["b"])
            for block in parts:
                fresh.take(point, block)
            assert len(flow.hits) == FRAMES

        return work

    timed("walk and match, untagged", FRAMES, match("b", plain))
    tagged = blocks(frames, Tag.of(900))
    timed("walk and match, tag taken out by the kernel", FRAMES, match("b", tagged))
    wrapped = blocks(frames, prefix=bytes(50))
    timed("walk and match, behind 50 bytes of tunnel", FRAMES, match("wire", wrapped))

    ledger.flows[0].count = FRAMES
    for block in plain:
        ledger.take("b", block)
    sent = Batch(ledger, drained=True).sent[0]
    timed("duplicates and missing_at", FRAMES, lambda: (sent.duplicates, sent.missing_at("b")))


def matrix() -> None:
    """Every ordered pair of hosts: plan, stamp, match and judge."""
    macs = {f"h{n}": mac(n) for n in range(HOSTS)}
    points = [Point(name, "host") for name in macs]
    sightings = 2 * HOSTS * (HOSTS - 1)
    ledger = Ledger(1, points)
    start = perf_counter()
    plan = MatrixPlan(ledger, macs)
    shouted = {host: stamp(flow.template, 0) for host, flow in plan.broadcast.items()}
    unicast: dict[str, list[bytes]] = {host: [] for host in macs}
    for (_, target), flow in plan.unicast.items():
        unicast[target].append(stamp(flow.template, 0))
    planned = perf_counter() - start
    arrived = {
        host: ring.pack(
            ring.Unpacked(frame)
            for frame in [*(f for h, f in shouted.items() if h != host), *unicast[host]]
        )
        for host in macs
    }
    start = perf_counter()
    for host, block in arrived.items():
        ledger.take(host, block)
    matched = perf_counter() - start
    start = perf_counter()
    result = ProbeMatrix(plan, Batch(ledger, drained=True))
    assert result.reach == Reach.groups(list(macs))
    judged = perf_counter() - start
    start = perf_counter()
    batch = result.batch
    assert [batch.strays, batch.duplicates, batch.changed] == [[], [], []]
    verified = perf_counter() - start
    print(
        f"matrix of {HOSTS} hosts, {sightings} sightings: plan and stamp {planned:.2f} s, "
        f"match {matched:.2f} s, judge {judged:.2f} s, "
        f"strays, duplicates and changes {verified:.2f} s"
    )


if __name__ == "__main__":
    stream()
    matrix()
