"""Restored: how long each operation took, and until frames flowed again. Measurements only."""

from __future__ import annotations

from collections.abc import Iterator

from harness.checks.episodes import Episode, episodes
from harness.checks.logs import lines
from harness.checks.verdict import Measurements, Verdict, verdict
from harness.traffic.history import History
from harness.traffic.operations import Operation
from harness.traffic.outages import Outage

STARTED = "ovs-vswitchd (Open vSwitch) "
"""What ovs-vswitchd logs when it has started."""


def check(history: History) -> Verdict:
    """Measure every operation; unknown is what had not ended when the history was written.

    All times are in ns from the operation's beginning. ``started_ns``: ovs-vswitchd logged that it
    had started (to a ms). ``forwarding_ns``: the first frame was heard by a host that had heard
    nothing for a while; with the user-space datapath and a new ovs-vswitchd it took an upcall, so
    it is ``first_upcall_ns`` too. ``restored_ns``: every flow was heard again; from the start of a
    new ovs-vswitchd on that took ``flow_restore_ns``.
    """
    found = episodes(history)
    unknowns = [
        f"{one} had not ended when the history was written"
        for one in history.operations
        if one.ended_ns is None
    ]
    measured = [_measured(history, found, one) for one in history.operations]
    return verdict((), unknowns, {"operations": measured})


def _measured(history: History, found: list[Episode], operation: Operation) -> Measurements:
    began = operation.began_ns
    times: Measurements = {"operation": str(operation), "outcome": operation.outcome or "done"}
    if operation.ended_ns is not None:
        times["duration_ns"] = operation.ended_ns - began
    started = _started(history, operation)
    if started is not None:
        times["started_ns"] = started - began
    outages = list(_outages(found, operation))
    again = [outage.ended_ns for outage in outages if not outage.last]
    if outages:
        times["interrupted"] = len(outages)
    if again:
        times["forwarding_ns"] = min(again) - began
        if started is not None and history.about.target.endswith("/netdev"):
            times["first_upcall_ns"] = min(again) - began
    if again and len(again) == len(outages):
        times["restored_ns"] = max(again) - began
        if started is not None:
            times["flow_restore_ns"] = max(again) - started
    return times


def _outages(found: list[Episode], operation: Operation) -> Iterator[Outage]:
    """The outages that an operation falls into, of flows where they belong before and after."""
    for episode in found:
        if operation not in episode.operations or episode.batch.unknown:
            continue
        for flow in episode.flows:
            belongs = flow.before if flow.after is None else flow.before & flow.after
            for host in belongs:
                for outage in flow.sent.outages_at(host):
                    if operation.overlaps(outage.began_ns, outage.ended_ns):
                        yield outage


def _started(history: History, operation: Operation) -> int | None:
    """When ovs-vswitchd last started while an operation was under way."""
    log = history.logs.get(operation.subject, {}).get("ovs-vswitchd", "")
    times = [
        line.time_ns
        for line in lines(log)
        if line.text.startswith(STARTED) and line.during(operation)
    ]
    return max(times, default=None)
