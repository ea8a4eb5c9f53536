"""What a keeper tells of probes: the answers of a lab, as messages."""

from __future__ import annotations

from harness.lab import Lab
from harness.live.messages import Crossing, Matrix, Probed, Row
from harness.traffic.batch import Batch, Sent
from harness.traffic.sightings import Sighting

MOST_SURPRISES = 20


def probe(lab: Lab, source: str, to: str) -> Probed:
    """Send one frame from a host to another and say what became of it."""
    try:
        sent = lab.probe(source, to=to)
        return Probed(
            source=source,
            to=to,
            heard=sorted(sent.heard_at),
            latency=sent.latency,
            crossings=_crossings(sent),
            surprises=_surprises(lab.batches[-1]),
        )
    finally:
        lab.forget()


def probe_all(lab: Lab) -> Matrix:
    """Send a unicast for each ordered pair of hosts, and a broadcast from each."""
    try:
        matrix = lab.probe_all()
        reach = matrix.reach
        rows = [
            Row(
                source=source,
                unicast=sorted(reach.unicast[source]),
                broadcast=sorted(reach.broadcast[source]),
                overheard=sorted((to, by) for one, to, by in reach.overheard if one == source),
            )
            for source in reach
        ]
        return Matrix(rows, _surprises(matrix.batch))
    finally:
        lab.forget()


def _crossings(sent: Sent) -> list[Crossing]:
    return [_crossing(seen, seen.port) for seen in sent.sightings if seen.port is not None]


def _crossing(seen: Sighting, port: str) -> Crossing:
    return Crossing(
        wire=seen.point,
        port=port,
        tags=[str(tag) for tag in seen.tags],
        outer=seen.outer,
        inner_tags=[str(tag) for tag in seen.inner_tags] if seen.outer else [],
    )


def _surprises(batch: Batch) -> list[str]:
    lines = [
        f"{kind}: {one.summary()}"
        for kind in ("strays", "duplicates", "changed")
        for one in getattr(batch, kind)
    ]
    more = [f"and {len(lines) - MOST_SURPRISES} more"] if len(lines) > MOST_SURPRISES else []
    return lines[:MOST_SURPRISES] + more
