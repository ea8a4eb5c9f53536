"""What scenarios of restarts share: a fault under traffic, and what the history says of it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol

import pytest

from harness import Lab, Topology
from harness.checks import Verdict, judge
from harness.faults import Fault
from harness.lab import Target
from harness.polling import NeverHappenedError, eventually

RATE = 400
"""Frames a second over all flows: a busy machine carries that too."""
BEFORE, AFTER = 3, 50
"""Frames that every host hears before the fault and after it: a quarter of a second, so that what a
switch does wrong just after it has started is seen."""
PATIENCE = 15.0
"""Seconds in which a switch forwards again that will at all."""

Pairs = Iterable[tuple[str, str]]


class UnderTraffic(Protocol):
    """Do this to a lab, each fault inside the one before, while traffic flows between ``pairs``
    (all that can hear each other, if none are named). What the history then says; outages are
    recorded."""

    def __call__(
        self, *faults: Fault, pairs: Pairs | None = None, rate: float = RATE
    ) -> Verdict: ...


class FramesFlow(Protocol):
    """Wait until every host that is talked to has been sent some more frames by its switch. Raise
    :class:`NeverHappenedError` when none come."""

    def __call__(self, pairs: Pairs) -> None: ...


@pytest.fixture
def frames_flow(lab: Lab) -> FramesFlow:
    return partial(_flows, lab, frames=BEFORE)


@pytest.fixture
def under_traffic(lab: Lab, target: Target) -> UnderTraffic:
    if target.datapath == "kernel":
        # Frames that were sent up are handled one by one, while later ones already go by the flow
        # that the first of them had put into the datapath.
        lab.expect("reordered")

    def run(*faults: Fault, pairs: Pairs | None = None, rate: float = RATE) -> Verdict:
        chosen = list(pairs) if pairs is not None else _talking(lab)
        with lab.traffic(rate=rate, pairs=chosen):
            _flows(lab, chosen, BEFORE)
            with ExitStack() as stack:
                for fault in faults:
                    stack.enter_context(lab.fault(fault))
            # What is not forwarded any more the judgement names.
            with suppress(NeverHappenedError):
                _flows(lab, chosen, AFTER)
        verdict = judge(lab.history())
        lost = verdict.parts["lost"].measurements
        lab.record("outage_ns", lost.get("longest_outage_ns"))
        lab.record("operations", verdict.parts["restored"].measurements["operations"])
        return verdict

    return run


def _talking(lab: Lab) -> list[tuple[str, str]]:
    reach = lab.probe_all().reach
    return [(source, to) for source in reach for to in sorted(reach.unicast[source])]


def _flows(lab: Lab, pairs: Pairs, frames: int) -> None:
    listeners = sorted({to for _source, to in pairs})
    wanted = [count + frames for count in _sent_to(lab, listeners)]
    eventually(
        lambda: _sent_to(lab, listeners),
        lambda now: all(count >= least for count, least in zip(now, wanted, strict=True)),
        within=PATIENCE,
        what=f"frames arrive at {', '.join(listeners)}",
    )


def _sent_to(lab: Lab, hosts: Iterable[str]) -> list[int]:
    """How many frames went out at the port of each host, so far."""
    counts = []
    for host in hosts:
        switch, _bridge, port = lab.place_of(host)
        path = f"/sys/class/net/{port}/statistics/tx_packets"
        counts.append(int(switch.node.read_file(path)))
    return counts


@pytest.fixture
def topology() -> Topology:
    """Flows say who hears whom: a and b each other, c nobody."""
    topo = Topology("flows")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure")
    for name in "abc":
        bridge.host(name)
    bridge.flow("cookie=0x5,priority=10,in_port=a,actions=output:b")
    bridge.flow("cookie=0x5,priority=10,in_port=b,actions=output:a")
    return topo
