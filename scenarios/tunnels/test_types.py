"""Four virtual machines on two hypervisors, joined by a tunnel of each type that carries Ethernet.

Source: "Connecting VMs Using Tunnels" and "Connecting VMs Using Tunnels (Userspace)" (howto), with
the header of each type from ovs-vswitchd.conf.db(5), Interface, "Tunnel Options", and from
ovs-fields(7), "Tunnel Fields".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.layers.vxlan import VXLAN

from harness import Lab, Topology
from harness.topology.model import TunnelType
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.tunnels.conftest import Hypervisors

KEY = 42
IPV4, IPV6 = "172.31.0.{}", "fd00:31::{}"
ETHERNET = 0x6558  # "Transparent Ethernet Bridging", RFC 1701


class Kind(NamedTuple):
    """A type, the underlay it runs over, and layer, field and value of what it puts on the wire."""

    type: TunnelType
    address: str
    wire: dict[tuple[Any, str], int]
    options: Mapping[str, str] = MappingProxyType({})


VXLAN_HEADER = {(UDP, "dport"): 4789, (VXLAN, "vni"): KEY}
GENEVE_HEADER = {(UDP, "dport"): 6081, (GENEVE, "vni"): KEY, (GENEVE, "proto"): ETHERNET}
GRE_HEADER = {(GRE, "proto"): ETHERNET, (GRE, "key"): KEY}
ERSPAN_1 = {"erspan_ver": "1", "erspan_idx": "0x12345"}
ERSPAN_2 = {"erspan_ver": "2", "erspan_dir": "1", "erspan_hwid": "4"}
ERSPAN_1_HEADER = {
    (GRE, "proto"): 0x88BE,
    (GRE, "seqnum_present"): 1,
    (ERSPAN_II, "ver"): 1,
    (ERSPAN_II, "session_id"): KEY,
    (ERSPAN_II, "index"): 0x12345,
}
ERSPAN_2_HEADER = {
    (GRE, "proto"): 0x22EB,
    (GRE, "seqnum_present"): 1,
    (ERSPAN_III, "ver"): 2,
    (ERSPAN_III, "session_id"): KEY,
    (ERSPAN_III, "d"): 1,
    (ERSPAN_III, "hw"): 4,
}
KINDS = {
    "vxlan": Kind("vxlan", IPV4, VXLAN_HEADER),
    "vxlan-ipv6": Kind("vxlan", IPV6, VXLAN_HEADER),
    "geneve": Kind("geneve", IPV4, GENEVE_HEADER),
    "geneve-ipv6": Kind("geneve", IPV6, GENEVE_HEADER),
    "gre": Kind("gre", IPV4, GRE_HEADER),
    "ip6gre": Kind("ip6gre", IPV6, GRE_HEADER),
    "erspan-1": Kind("erspan", IPV4, ERSPAN_1_HEADER, ERSPAN_1),
    "erspan-2": Kind("erspan", IPV4, ERSPAN_2_HEADER, ERSPAN_2),
    "ip6erspan-1": Kind("ip6erspan", IPV6, ERSPAN_1_HEADER, ERSPAN_1),
    "ip6erspan-2": Kind("ip6erspan", IPV6, ERSPAN_2_HEADER, ERSPAN_2),
}


@pytest.fixture(
    params=[
        pytest.param(kind, id=name, marks=pytest.mark.requires(f"tunnel:{kind.type}"))
        for name, kind in KINDS.items()
    ]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def topology(kind: Kind, hypervisors: Hypervisors) -> Topology:
    topo = Topology(kind.type)
    for n, switch in hypervisors(topo, kind.address).items():
        br_int = switch.bridge("br-int")
        br_int.host(f"vm{2 * n - 1}")
        br_int.host(f"vm{2 * n}")
        remote = kind.address.format(3 - n)
        br_int.tunnel(kind.type, remote=remote, key=KEY, options=kind.options)
    return topo


def test_all_virtual_machines_reach_each_other(lab: Lab) -> None:
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups({"vm1", "vm2", "vm3", "vm4"})
    near = {("vm1", "vm2"), ("vm2", "vm1"), ("vm3", "vm4"), ("vm4", "vm3")}
    assert {pair for pair, sent in matrix.unicast.items() if not sent.crossed} == near


def test_a_frame_crosses_the_wire_once_and_whole_inside_the_tunnel(lab: Lab, kind: Kind) -> None:
    lab.announce()
    sent = lab.probe("vm1", to="vm3")
    assert sent.heard_at == {"vm3"}
    seen = sent.seen_on("wire")
    assert seen.inner == sent.frame()
    assert seen.vlan_ids == []
    outer = seen.packet.payload
    assert isinstance(outer, IPv6 if kind.address is IPV6 else IP)
    assert (outer.src, outer.dst) == (kind.address.format(1), kind.address.format(2))
    header = {(layer, name): getattr(seen.packet[layer], name) for layer, name in kind.wire}
    assert header == kind.wire
