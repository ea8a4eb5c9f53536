"""A link that loses, doubles, corrupts, delays or reorders frames: each shows as what it is,
nothing else does, and afterwards the link is as good as before.

Source: what a network without a fault is measured by: IEEE 802.1Q, 6.5, "Quality of service
maintenance", with frame loss, misordering, duplication, transit delay and undetected errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.checks import judge
from harness.faults import BadLink
from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.restart.conftest import FramesFlow

pytestmark = pytest.mark.requires("bad links")

PAIRS = [("a1", "a2")]
RATE = 400
ENOUGH = 200
"""Frames while the link is bad: of so many, one in five will have been touched."""
LATE = 100_000_000
"""In ns: a hundred times what a good link takes. A busy machine may take that long as well."""


@pytest.fixture
def topology() -> Topology:
    """Flows that send all on, so that a frame whose address is damaged comes through too."""
    topo = Topology("bad-link")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0", fail_mode="secure")
        bridge.uplink(wire)
        bridge.host(f"a{n}")
        bridge.flow(f"in_port=a{n},actions=output:wire")
        bridge.flow(f"in_port=wire,actions=output:a{n}")
    return topo


@pytest.mark.parametrize(
    ("how", "shows_as"),
    [
        ({"loss": 20}, {}),
        ({"duplicate": 20}, {"duplicated": "that had arrived there before"}),
        ({"delay": 150}, {}),
        ({"jitter": 150}, {"reordered": "arrived at a2 behind one that was sent later"}),
        ({"corrupt": 20}, {"changed": "changed at a2", "unaccounted": "sent by nobody"}),
    ],
    ids=["lossy", "doubling", "slow", "reordering", "corrupting"],
)
def test_what_a_bad_link_does_is_named(
    lab: Lab, frames_flow: FramesFlow, how: dict[str, int], shows_as: dict[str, str]
) -> None:
    if "jitter" not in how:
        # Frames that the kernel's datapath sends up are overtaken by later ones (see conftest.py).
        lab.expect("reordered")
    with lab.traffic(rate=RATE, pairs=PAIRS) as traffic:
        frames_flow(PAIRS)
        with lab.fault(BadLink("s1", "wire", **how)):
            eventually_sent(lab, ENOUGH)
        frames_flow(PAIRS)
    verdict = judge(lab.history())
    # What is shown here is none for the end of the scenario.
    lab.expect("changed", "duplicates", "strays")
    failed = {name: part for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert failed.keys() == shows_as.keys(), str(verdict)
    for name, said in shows_as.items():
        assert said in failed[name].findings[0], str(verdict)
    lost = verdict.parts["lost"].measurements["lost"]
    assert bool(lost) == bool({"loss", "corrupt"} & how.keys())
    if {"delay", "jitter"} & how.keys():
        assert any(ns > LATE for sent in traffic.batch for ns in sent.latencies)


def eventually_sent(lab: Lab, frames: int) -> None:
    """Wait until so many more frames have gone out on the wire."""

    def sent() -> int:
        return int(lab.node("s1").read_file("/sys/class/net/wire/statistics/tx_packets"))

    wanted = sent() + frames
    eventually(sent, lambda now: now >= wanted, within=60, what=f"{frames} more frames")
