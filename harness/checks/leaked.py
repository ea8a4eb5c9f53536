"""Leaked: a frame was heard where no rule allowed it.

What is allowed is where a flow is heard by the state before. Only where who hears whom was meant to
change is the state after a rule too: then a frame that was sent before anything was done has to
obey the first, one that was sent after everything the second, and one in between either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from harness.checks.episodes import NOBODY_KNOWS, Episode, Flow, episodes
from harness.checks.verdict import Verdict, verdict
from harness.traffic.history import History
from harness.traffic.sightings import Sighting

Judgement = Literal["allowed", "flooded", "before", "after", "both", "perhaps"]

_FORBIDDEN: dict[Judgement, str] = {
    "before": "the state before forbids",
    "after": "the state after forbids",
    "both": "the state before and the state after forbid",
    "perhaps": "the state after may forbid: where the flow is heard then was not found out",
}
_ONLY_NORMAL = [{"table": 0, "priority": 0, "match": "", "actions": "NORMAL"}]


def check(history: History) -> Verdict:
    """Fail when a frame was heard where it is forbidden, and say by which state."""
    found = episodes(history)
    floods = _may_flood(history)
    failures: list[str] = []
    unknowns = [] if found else [NOBODY_KNOWS]
    leaked = flooded = 0
    for episode in found:
        failures += _new_hearers(episode)
        for flow in episode.evidence:
            for judgement, host, frames in _heard_elsewhere(episode, flow, floods=floods):
                if judgement == "flooded":
                    flooded += len(frames)
                    continue
                line = _line(flow, judgement, host, frames)
                if judgement == "perhaps":
                    unknowns.append(line)
                    continue
                leaked += len(frames)
                failures.append(line)
        if episode.batch.unknown:
            unknowns.append(episode.batch.unknown)
    return verdict(failures, unknowns, {"leaked": leaked, "flooded": flooded})


def _line(flow: Flow, judgement: Judgement, host: str, frames: list[Sighting]) -> str:
    count = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
    return (
        f"{count} of {flow.what} heard at {host}, which {_FORBIDDEN[judgement]}; "
        f"the first: {frames[0].summary()}"
    )


def _new_hearers(episode: Episode) -> Iterator[str]:
    if episode.reach_changes:
        return
    for flow in episode.flows:
        for host in sorted((flow.after or frozenset()) - flow.before):
            yield f"{flow.what} is heard at {host} afterwards, which the state before forbids"


def _heard_elsewhere(
    episode: Episode, flow: Flow, *, floods: bool
) -> Iterator[tuple[Judgement, str, list[Sighting]]]:
    """The frames at hosts that both states do not simply allow, by judgement and host."""
    after = flow.before if flow.after is None else flow.after
    sure = flow.before & after if episode.reach_changes else flow.before
    for host in sorted(flow.sent.heard_at - sure):
        by_judgement: dict[Judgement, list[Sighting]] = {}
        for seen in flow.sent.all_on(host):
            judgement = _judge(episode, flow, seen, floods=floods)
            by_judgement.setdefault(judgement, []).append(seen)
        for judgement, frames in by_judgement.items():
            if judgement != "allowed":
                yield judgement, host, frames


def _judge(episode: Episode, flow: Flow, seen: Sighting, *, floods: bool) -> Judgement:
    host = seen.point
    began = min((one.began_ns for one in episode.operations), default=None)
    if floods and began is not None and seen.time_ns >= began and host in flow.flooded:
        return "flooded"
    before = host in flow.before
    after = None if flow.after is None else host in flow.after
    if not episode.reach_changes:
        return "allowed" if before else "both" if after is False else "before"
    if began is not None and seen.time_ns < began:
        return "allowed" if before else "before"
    if _sent_after_all(episode, flow, seen):
        return "perhaps" if after is None else "allowed" if after else "after"
    if before or after:
        return "allowed"
    return "perhaps" if after is None else "both"


def _sent_after_all(episode: Episode, flow: Flow, seen: Sighting) -> bool:
    """Whether a frame was sent when every operation had ended."""
    sent_ns = None if seen.seq is None else flow.sent.sent_at(seen.seq)
    return sent_ns is not None and all(
        one.ended_ns is not None and one.ended_ns < sent_ns for one in episode.operations
    )


def _may_flood(history: History) -> bool:
    """Whether a switch that has forgotten an address may flood: where the scenario expects it, and
    where no bridge has any other flow than the one that makes it a learning switch."""
    if "flooding" in history.about.expected:
        return True
    before = [pair.before for pair in history.states]
    return bool(before) and all(
        state is not None
        and all(
            [{name: flow.get(name) for name in _ONLY_NORMAL[0]} for flow in bridge["flows"]]
            == _ONLY_NORMAL
            for bridge in state["bridges"].values()
        )
        for state in before
    )
