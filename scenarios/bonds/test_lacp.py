"""What a bond with LACP does when its partner is silent, wakes up or loses a link.

Source: ovs-vswitchd.conf.db(5), table Port, "LACP Configuration", columns ``lacp`` and
``other_config:lacp-fallback-ab``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")
FAST = {"lacp-time": "fast", "bond-rebalance-interval": "0"}


@pytest.fixture
def near() -> tuple[str, Literal["active", "passive"], dict[str, str]]:
    return "balance-tcp", "active", {}


@pytest.fixture
def far() -> Literal["active", "passive", "off"]:
    """LACP of the other end's bond; ``off`` is a switch that knows nothing of a bond."""
    return "active"


@pytest.fixture
def topology(near, far) -> Topology:
    mode, lacp, config = near
    topo = Topology("lacp")
    wires = [topo.underlay(name) for name in MEMBERS]
    bridge = topo.switch("s1").bridge("br0")
    bridge.bond("bond0", wires, mode=mode, lacp=lacp, other_config={**FAST, **config})
    bridge.host("a")
    bridge.host("b")
    bridge = topo.switch("s2").bridge("br0")
    if far == "off":
        for wire in wires:
            bridge.uplink(wire)
    else:
        bridge.bond("bond0", wires, mode=mode, lacp=far, other_config=FAST)
    bridge.host("c")
    return topo


