"""Labs on remote machines, that a real ssh leads to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.lab import Lab, Target
from harness.lab.environment import environment
from harness.polling import eventually
from harness.topology import Topology

from .sshd import Machines

GONE = 20.0
"""Seconds for kernels to take everything down, on a busy machine."""


def two_switches(name: str = "remote") -> Topology:
    """Two switches with two hosts each, joined by a wire."""
    topology = Topology(name)
    wire = topology.underlay("wire")
    for number in (1, 2):
        bridge = topology.switch(f"s{number}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"h{number}")
        bridge.host(f"g{number}")
    return topology


def is_as_before(remotes: Machines, before: Mapping[str, str]) -> None:
    """Nothing is left on any machine: network namespaces end a little later than processes."""
    eventually(
        remotes.state, lambda now: now == before, within=GONE, what="machines as they were before"
    )


@pytest.mark.parametrize("text", ["ssh://root@hv1/netdev", "ssh://hv1,root@hv2:22/netdev"])
def test_frames_cross_the_underlay(remotes: Machines, text: str) -> None:
    before = remotes.state()
    with Lab(two_switches(), environment(Target.parse(text)), seed=7) as lab:
        assert lab.probe("h1").heard_at == {"g1", "h2", "g2"}
        assert lab.probe("h2", to="h1").heard_at == {"h1"}
        lab.verify()
    is_as_before(remotes, before)
