"""Tunnel ends in two IP networks, with a router between them.

Source: "Connecting VMs Using Tunnels (Userspace)" (howto), and "Userspace tunneling" in the
documentation of the user-space datapath (``ovs-appctl ovs/route/show``, ``tnl/neigh/show``): the
next hop comes from the routing table, and its MAC address from ARP or neighbour discovery.
"""

from typing import NamedTuple

import pytest

from harness import Lab, Topology
from harness.topology.model import TunnelType


class Kind(NamedTuple):
    """A tunnel, and its underlay's addresses: of network ``{0}``, in it host ``{1}``."""

    type: TunnelType
    address: str
    length: int
    forwarding: str

    def end(self, network: int) -> str:
        return self.address.format(network, 1)

    def router(self, network: int) -> str:
        return self.address.format(network, 254)


IPV4 = ("172.31.{}.{}", 24, "/proc/sys/net/ipv4/ip_forward")
IPV6 = ("fd00:{}::{}", 64, "/proc/sys/net/ipv6/conf/all/forwarding")
KINDS = [Kind("vxlan", *IPV4), Kind("vxlan", *IPV6), Kind("gre", *IPV4), Kind("ip6gre", *IPV6)]


@pytest.fixture(
    params=[
        pytest.param(
            kind,
            id=f"{kind.type}-ipv{6 if ':' in kind.address else 4}",
            marks=pytest.mark.requires(f"tunnel:{kind.type}"),
        )
        for kind in KINDS
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def topology(kind: Kind) -> Topology:
    topo = Topology("routed-underlay")
    router = topo.switch("router")
    for n in (1, 2):
        wire = topo.underlay(f"wire{n}")
        net = router.bridge(f"br-net{n}", addresses=[f"{kind.router(n)}/{kind.length}"])
        net.uplink(wire)
        switch = topo.switch(f"hv{n}", routes=[f"default via {kind.router(n)}"])
        switch.bridge("br-phy", addresses=[f"{kind.end(n)}/{kind.length}"]).uplink(wire)
        br_int = switch.bridge("br-int")
        br_int.host(f"vm{n}")
        br_int.tunnel(kind.type, remote=kind.end(3 - n), key=7)
    return topo


def test_frames_pass_the_router(lab: Lab, kind: Kind) -> None:
    # So far it is a host that passes nothing on.
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == set()
    assert sent.crossed == {"wire1"}
    lab.node("router").run(["sh", "-c", f"echo 1 >{kind.forwarding}"])
    for source, to in ((1, 2), (2, 1)):
        sent = lab.probe(f"vm{source}", to=f"vm{to}")
        assert sent.heard_at == {f"vm{to}"}
        assert sent.crossed == {"wire1", "wire2"}
        first, second = (sent.seen_on(f"wire{n}") for n in (source, to))
        assert first.inner == second.inner == sent.frame()
        ends = (kind.end(source), kind.end(to))
        for seen in (first, second):
            outer = seen.packet.payload
            assert (outer.src, outer.dst) == ends
