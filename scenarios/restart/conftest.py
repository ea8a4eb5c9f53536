"""What scenarios of restarts share: a fault under traffic, and what the history says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol

import pytest

from harness import Lab, Topology
from harness.checks import Verdict, judge
from harness.faults import Fault
from harness.lab import Target
from harness.ovs.switch import Switch
from harness.polling import NeverHappenedError, eventually
from harness.topology.model import BondPort

RATE = 400
"""Frames a second over all flows: a busy machine carries that too. An emulated one carries as many
fewer as it is slower, and still restarts a switch beside."""
BEFORE, AFTER = 3, 50
"""Frames that every host hears before the fault and after it: a quarter of a second, so that what a
switch does wrong just after it has started is seen."""
AT_ONCE = 15.0
"""Seconds in which a switch forwards that has nothing to find out first, on a busy machine too."""
OVER_BONDS = 60.0
"""Seconds in which one does over a bond. With LACP that takes up to 30 s more: while flows are
restored nothing is heard of the other end, and if that takes longer than 3 s, an end that knows
nothing speaks every 30 s (``LACP_SLOW_TIME_TX`` in lib/lacp.c)."""
_CARRIES = re.compile(r"^(?:member|slave) (\S+): enabled$", re.MULTILINE)

Pairs = Iterable[tuple[str, str]]


class UnderTraffic(Protocol):
    """Do this to a lab, each fault inside the one before, while traffic flows between ``pairs``
    (all that can hear each other, if none are named). What the history then says; outages are
    recorded. Where the switch is not to forward afterwards (``forwards``), frames are only sent
    for a while, and nobody waits for any to arrive."""

    def __call__(
        self,
        *faults: Fault,
        pairs: Pairs | None = None,
        rate: float = RATE,
        forwards: bool = True,
    ) -> Verdict: ...


class FramesFlow(Protocol):
    """Wait until every host that is talked to has been sent some more frames by its switch. Raise
    :class:`NeverHappenedError` when none come."""

    def __call__(self, pairs: Pairs) -> None: ...


@pytest.fixture
def frames_flow(lab: Lab) -> FramesFlow:
    return partial(_flows, lab, frames=BEFORE)


@pytest.fixture
def carried(lab: Lab, target: Target) -> float:
    """Frames a second that a switch carries while it is restarted, perhaps not in their order."""
    if target.datapath == "kernel":
        # Frames that were sent up are handled one by one, while later ones already go by the flow
        # that the first of them had put into the datapath.
        lab.expect("reordered")
    return RATE / _slowness(lab)


@pytest.fixture
def under_traffic(lab: Lab, carried: float) -> UnderTraffic:
    def run(
        *faults: Fault, pairs: Pairs | None = None, rate: float = RATE, forwards: bool = True
    ) -> Verdict:
        chosen = list(pairs) if pairs is not None else _talking(lab)
        with lab.traffic(rate=min(rate, carried), pairs=chosen):
            _flows(lab, chosen, BEFORE)
            with ExitStack() as stack:
                for fault in faults:
                    stack.enter_context(lab.fault(fault))
            if forwards:
                # What is not forwarded any more the judgement names.
                with suppress(NeverHappenedError):
                    _flows(lab, chosen, AFTER)
                    _bonds_carry(lab)
            else:
                _is_sent(lab, chosen, AFTER)
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
    _more(lab, {to for _source, to in pairs}, "arrive at", frames)


def _is_sent(lab: Lab, pairs: Pairs, frames: int) -> None:
    _more(lab, {source for source, _to in pairs}, "come from", frames)


_COUNTERS: dict[str, str] = {"arrive at": "tx_packets", "come from": "rx_packets"}
"""Of the port of a host, as its switch sees it."""


def _more(lab: Lab, hosts: Iterable[str], what: str, frames: int) -> None:
    """Wait until each host has been sent, or has sent, so many frames more."""
    names = sorted(hosts)
    ports = [(switch, port) for switch, _bridge, port in map(lab.place_of, names)]

    def counts() -> list[int]:
        asked = [
            switch.node.read_files_soon([f"/sys/class/net/{port}/statistics/{_COUNTERS[what]}"])
            for switch, port in ports
        ]
        return [int(content or 0) for answer in asked for content in answer.result()]

    wanted = [count + frames for count in counts()]
    eventually(
        counts,
        lambda now: all(count >= least for count, least in zip(now, wanted, strict=True)),
        within=max(AT_ONCE * _slowness(lab), OVER_BONDS if _bonds(lab) else 0),
        what=f"frames {what} {', '.join(names)}",
    )


def _slowness(lab: Lab) -> float:
    """How many times as long as on a real processor things take."""
    return max(switch.node.patience for switch in lab.switches.values())


def _bonds(lab: Lab) -> list[tuple[Switch, BondPort]]:
    return [
        (lab.switch(switch.name), port)
        for switch in lab.spec.switches
        for bridge in switch.bridges
        for port in bridge.ports
        if isinstance(port, BondPort)
    ]


def _bonds_carry(lab: Lab) -> None:
    """Wait until all links of all bonds are in use again."""
    for switch, bond in _bonds(lab):
        _bond_carries(switch, bond)


def _bond_carries(switch: Switch, bond: BondPort) -> None:
    eventually(
        lambda: _CARRIES.findall(switch.unixctl("bond/show", bond.name)),
        lambda links: len(links) == len(bond.members),
        within=OVER_BONDS,
        what=f"the links of {switch.name}'s {bond.name} are in use",
    )


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
