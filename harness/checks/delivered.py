"""Delivered: every flow was heard where it belongs, and still is afterwards.

Single frames that are missing are the business of :mod:`harness.checks.lost`.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.episodes import NOBODY_KNOWS, Episode, Flow, episodes
from harness.checks.verdict import Verdict, verdict
from harness.traffic.history import History


def check(history: History) -> Verdict:
    """Fail when a host heard nothing of a flow that it hears by the state before and the state
    after, or hears it before and not after, unless who hears whom was meant to change."""
    found = episodes(history)
    failures = [line for one in found for line in _gone(one)]
    unknowns = [] if found else [NOBODY_KNOWS]
    for episode in found:
        if episode.batch.unknown:
            unknowns.append(episode.batch.unknown)
        else:
            failures += (line for flow in episode.flows for line in _never(flow))
        unknowns += (
            f"where {flow.what} is heard afterwards was not found out"
            for flow in episode.flows
            if flow.after is None
        )
    flows = [flow for episode in found for flow in episode.flows]
    sent = sum(flow.sent.count for flow in flows)
    return verdict(failures, unknowns, {"flows": len(flows), "sent": sent})


def _gone(episode: Episode) -> Iterator[str]:
    """Hosts that hear a flow no more. Where they do is known from probes with a drain of their
    own, whatever became of the traffic."""
    if episode.reach_changes:
        return
    for flow in episode.flows:
        for host in sorted(flow.before - (flow.before if flow.after is None else flow.after)):
            yield f"{flow.what} is no longer heard at {host}, where it was heard before"


def _never(flow: Flow) -> Iterator[str]:
    belongs = flow.before if flow.after is None else flow.before & flow.after
    for host in sorted(belongs):
        if flow.sent.count and not flow.sent.count_at(host):
            yield f"of {flow.sent} none was heard at {host}"
