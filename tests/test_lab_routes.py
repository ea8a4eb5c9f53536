"""The next hop of a packet, and whom tunnel ends have to meet before the first frame."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.lab import Lab, plan
from harness.lab.routes import next_hop
from harness.topology import Topology

OWN = ["10.0.0.1/24", "192.0.2.1/30", "fd00::1/64"]


@pytest.mark.parametrize(
    ("remote", "routes", "hop"),
    [
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["default via 10.0.0.254"], "10.0.0.2"),
        ("192.0.2.5", [], None),
        ("192.0.2.5", ["default via 10.0.0.254"], "10.0.0.254"),
        ("192.0.2.5", ["default via 10.0.0.254", "192.0.2.0/24 via 10.0.0.9 dev br0"], "10.0.0.9"),
        ("192.0.2.5", ["192.0.2.0/24 via 10.0.0.9", "192.0.2.5 via 10.0.0.8"], "10.0.0.8"),
        ("10.0.0.2", ["10.0.0.2/32 via 10.0.0.254"], "10.0.0.254"),
        ("192.0.2.5", ["192.0.2.0/24 dev br0"], "192.0.2.5"),
        ("192.0.2.5", ["default dev br0"], "192.0.2.5"),
        ("192.0.2.5", ["unicast default via 10.0.0.254"], "10.0.0.254"),
        ("192.0.2.5", ["default via 10.0.0.254", "blackhole 192.0.2.4/30"], None),
        ("192.0.2.5", ["default via fd00::254"], None),
        ("fd01::5", ["default via fd00::254"], "fd00::254"),
        ("fd01::5", ["default via 10.0.0.254"], None),
        ("fd01::5", ["fd01::/16 via fd00::9", "unreachable default"], "fd00::9"),
        # As Open vSwitch writes them.
        ("fd00:0::0005", [], "fd00::5"),
        ("fd01::5", ["fd01::/16 via fd00:0::09"], "fd00::9"),
        ("fd02::5", ["fd01::/16 via fd00::9", "unreachable default"], None),
    ],
)
def test_next_hop(remote: str, routes: list[str], hop: str | None) -> None:
    assert next_hop(remote, OWN, routes) == hop


def routed(remote: str, *routes: str, local: str | None = None) -> Topology:
    """Two switches, a router between their networks, and a tunnel that begins at the first."""
    topo = Topology("routed")
    wires = [topo.underlay("w1"), topo.underlay("w2")]
    router = topo.switch("router")
    for n, wire in enumerate(wires, 1):
        switch = topo.switch(f"hv{n}", routes=routes if n == 1 else ())
        bridge = switch.bridge("br-phy", addresses=[f"10.0.{n}.1/24"])
        bridge.uplink(wire)
        router.bridge(f"br{n}", addresses=[f"10.0.{n}.254/24"]).uplink(wire)
        if n == 1:
            bridge.tunnel("vxlan", remote=remote, local=local)
    return topo


def neighbours(topology: Topology) -> set[tuple[str, str]]:
    """Whom the first switch meets."""
    return set(plan.make(topology.freeze()).switches["hv1"].neighbours)


@pytest.mark.parametrize(
    ("remote", "routes", "met"),
    [
        ("10.0.1.254", [], {"10.0.1.254"}),
        # Through the router, also to where this topology does not reach.
        ("10.0.2.1", ["default via 10.0.1.254"], {"10.0.1.254"}),
        ("192.0.2.1", ["default via 10.0.1.254"], {"10.0.1.254"}),
        # Nobody could answer: there is no way, or nobody there.
        ("10.0.2.1", [], set()),
        ("10.0.1.99", [], set()),
        ("10.0.2.1", ["default via 10.0.1.99"], set()),
        ("flow", [], {"10.0.1.254"}),
        ("flow", ["10.0.2.0/24 via 10.0.1.254"], {"10.0.1.254"}),
    ],
)
def test_a_tunnel_end_meets_its_next_hop(remote: str, routes: list[str], met: set[str]) -> None:
    assert neighbours(routed(remote, *routes)) == {("", address) for address in met}


def test_it_is_met_from_the_local_address_of_the_tunnel() -> None:
    topo = routed("10.0.2.1", "default via 10.0.1.254", local="10.0.1.1")
    assert neighbours(topo) == {("10.0.1.1", "10.0.1.254")}


def test_the_router_is_met_at_once(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(routed("10.0.2.1", "default via 10.0.1.254"))
    assert lab.switch("hv1").tunnel_neighbours() == {"10.0.1.254"}
    # Beyond the router nobody answers, and nobody was asked.
    pings = [done.argv[-1] for done in lab.commands if done.argv[0] == "ping"]
    assert set(pings) == {"10.0.1.254"}
