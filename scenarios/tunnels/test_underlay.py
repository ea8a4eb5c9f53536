"""What the underlay does to a tunnel: its MTU, ports that do not match, and a remote end that is
not there.

Sources: "Connecting VMs Using Tunnels" (howto; "it may be necessary to adjust the MTU"), and
ovs-vswitchd.conf.db(5), Interface ``options:dst_port``, ``options:remote_ip`` and
``options:df_default``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import Lab, Topology
from harness.topology.model import TunnelType

if TYPE_CHECKING:
    from scenarios.tunnels.conftest import Hypervisors

ETHERNET = 14
IPV4, IPV6 = "172.31.0.{}", "fd00:31::{}"


class Kind(NamedTuple):
    """A tunnel, and the bytes that it puts between the underlay's Ethernet header and the frame."""

    type: TunnelType
    address: str
    overhead: int


KINDS = {
    "vxlan": Kind("vxlan", IPV4, 20 + 8 + 8),
    "vxlan-ipv6": Kind("vxlan", IPV6, 40 + 8 + 8),
    "geneve": Kind("geneve", IPV4, 20 + 8 + 8),
    "gre": Kind("gre", IPV4, 20 + 8),
    "ip6gre": Kind("ip6gre", IPV6, 40 + 8),
}


@pytest.fixture
def kind() -> Kind:
    return KINDS["vxlan"]


@pytest.fixture
def mtu() -> int:
    return 1500


@pytest.fixture
def remote() -> int:
    """The last number of the address that the first switch takes for the second's."""
    return 2


@pytest.fixture
def ports() -> tuple[str, str]:
    """The UDP port that each switch sends to, and listens on."""
    return "4789", "4789"


@pytest.fixture
def topology(
    kind: Kind, mtu: int, remote: int, ports: tuple[str, str], hypervisors: Hypervisors
) -> Topology:
    topo = Topology("underlay")
    peers = {1: remote, 2: 1}
    for n, switch in hypervisors(topo, kind.address, mtu=mtu).items():
        peer, port = peers[n], ports[n - 1]
        br_int = switch.bridge("br-int")
        br_int.host(f"vm{n}")
        options = {"dst_port": port} if port != "4789" else {}
        br_int.tunnel(kind.type, remote=kind.address.format(peer), key=7, options=options)
    return topo


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_largest_frame_fills_the_underlays_mtu(lab: Lab, kind: Kind) -> None:
    largest = 1500 - kind.overhead
    sent = lab.probe("vm1", to="vm2", size=largest)
    assert sent.heard_at == {"vm2"}
    seen = sent.seen_on("wire")
    assert (seen.wire_len, len(seen.outer)) == (1500 + ETHERNET, kind.overhead + ETHERNET)
    # One byte more, and "don't fragment" is the default.
    sent = lab.probe("vm1", to="vm2", size=largest + 1)
    assert sent.heard_at == set()
    assert sent.crossed == set()


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("mtu", [1600])
def test_an_underlay_with_room_for_the_headers_carries_full_frames(lab: Lab) -> None:
    for source, to in (("vm1", "vm2"), ("vm2", "vm1")):
        sent = lab.probe(source, to=to, size=1500 + ETHERNET)
        assert sent.heard_at == {to}
        assert sent.seen_on("wire").inner == sent.frame()


@pytest.mark.parametrize("kind", [KINDS["vxlan"], KINDS["vxlan-ipv6"]], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("remote", [99])
def test_a_remote_end_that_does_not_answer_gets_nothing(lab: Lab) -> None:
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == set()
    assert sent.crossed == set()


@pytest.mark.parametrize("ports", [("8472", "4789")], ids=["8472-4789"])
def test_nobody_listens_on_another_port(lab: Lab) -> None:
    for source, to in (("vm1", "vm2"), ("vm2", "vm1")):
        sent = lab.probe(source, to=to)
        assert sent.heard_at == set()
        # It did get there; what comes back of it is the other end's "port unreachable".
        assert sent.crossed == {"wire"}
