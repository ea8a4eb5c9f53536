"""Lost: frames that did not arrive where they belong, and for how long that went on.

While something is done to a switch frames may be lost: how long is a measurement. While nothing is,
they may not.
"""

from __future__ import annotations

from harness.checks.episodes import NOBODY_KNOWS, Episode, Flow, episodes
from harness.checks.verdict import Measurements, Verdict, verdict
from harness.traffic.history import History
from harness.traffic.outages import Outage


def check(history: History) -> Verdict:
    """Fail when frames were lost at a time when no operation was under way, unless a switch may
    never have seen them. The measurements name every outage of every flow."""
    found = episodes(history)
    failures: list[str] = []
    unknowns = [] if found else [NOBODY_KNOWS]
    outages: list[Measurements] = []
    lost = 0
    for episode in found:
        if episode.batch.unknown:
            unknowns.append(episode.batch.unknown)
            continue
        for flow, host in _belongings(episode):
            missing = len(flow.sent.missing_at(host))
            lost += missing
            seen = flow.sent.outages_at(host)
            outages += (_measured(episode, flow, host, outage) for outage in seen)
            odd = [_said(flow, host, outage) for outage in seen if not _during(episode, outage)]
            if episode.batch.overflows:
                unknowns += (f"{line}; {_overflowed(episode)}" for line in odd)
            else:
                failures += odd
            untimed = missing - sum(outage.lost for outage in seen)
            if untimed:
                unknowns.append(f"when {untimed} frames of {flow.what} were lost at {host}")
    longest = max((outage["length_ns"] for outage in outages), default=0)
    return verdict(
        failures,
        unknowns,
        {"lost": lost, "longest_outage_ns": longest, "outages": outages},
    )


def _belongings(episode: Episode) -> list[tuple[Flow, str]]:
    """Each flow with each host that hears it all the time."""
    return [
        (flow, host)
        for flow in episode.flows
        for host in sorted(
            flow.before & flow.after
            if episode.reach_changes and flow.after is not None
            else flow.before
        )
    ]


def _during(episode: Episode, outage: Outage) -> list[str]:
    """The operations that were under way at any time of an outage."""
    return [
        str(one) for one in episode.operations if one.overlaps(outage.began_ns, outage.ended_ns)
    ]


def _overflowed(episode: Episode) -> str:
    return " and ".join(
        f"{frames} frames found no room in the receive queues of {switch}, which ended or began "
        "anew meanwhile: it may never have seen them"
        for switch, frames in episode.batch.overflows.items()
    )


def _measured(episode: Episode, flow: Flow, host: str, outage: Outage) -> Measurements:
    return {
        "flow": flow.sent.flow,
        "source": flow.sent.source,
        "host": host,
        "began_ns": outage.began_ns,
        "ended_ns": outage.ended_ns,
        "length_ns": outage.length_ns,
        "lost": outage.lost,
        "during": _during(episode, outage),
        "last": outage.last,
    }


def _said(flow: Flow, host: str, outage: Outage) -> str:
    frames = "1 frame" if outage.lost == 1 else f"{outage.lost} frames"
    return (
        f"{frames} of {flow.what} lost at {host}, from #{outage.first_seq} on, while nothing was "
        f"done: heard nothing for {outage.length_ns / 1e6:.1f} ms"
    )
