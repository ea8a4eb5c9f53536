"""Tunnels that carry IP packets without their Ethernet header.

Sources: ovs-vswitchd.conf.db(5), Interface ``options:packet_type=legacy_l3`` ("sends and receives
only non-Ethernet packets, but they are represented as Ethernet frames"), and types ``gtpu`` and
``bareudp``; the FAQ, "Does Open vSwitch support GTP-U?" and "Bareudp".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN

from harness import Lab, Topology
from harness.topology.model import TunnelType

if TYPE_CHECKING:
    from scenarios.tunnels.conftest import Hypervisors

KEY = 42
FROM, TO = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Kind(NamedTuple):
    """A type, its options, and layer, field and value of what it puts before an IPv4 packet."""

    type: TunnelType
    options: dict[str, str]
    wire: dict[tuple[Any, str], int]
    key: int | None = KEY


KINDS = {
    "gre": Kind("gre", {"packet_type": "legacy_l3"}, {(GRE, "proto"): 0x0800, (GRE, "key"): KEY}),
    "vxlan-gpe": Kind(
        "vxlan",
        {"packet_type": "legacy_l3", "exts": "gpe", "dst_port": "4790"},
        {(UDP, "dport"): 4790, (VXLAN, "vni"): KEY, (VXLAN, "NextProtocol"): 1},
    ),
    "gtpu": Kind(
        "gtpu",
        {},
        {
            (UDP, "dport"): 2152,
            (GTP_U_Header, "version"): 1,
            (GTP_U_Header, "PT"): 1,
            (GTP_U_Header, "gtp_type"): 255,  # G-PDU: 3GPP TS 29.281, 6.1
            (GTP_U_Header, "teid"): KEY,
        },
    ),
    "bareudp": Kind(
        "bareudp", {"payload_type": "ip", "dst_port": "6636"}, {(UDP, "dport"): 6636}, key=None
    ),
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
    topo = Topology("layer-3")
    for n, switch in hypervisors(topo).items():
        br_int = switch.bridge("br-int", fail_mode="secure")
        br_int.host(f"vm{n}", mac=FROM if n == 1 else TO)
        remote = f"172.31.0.{3 - n}"
        br_int.tunnel(kind.type, "tun", remote=remote, key=kind.key, options=kind.options)
        br_int.flow(f"priority=1,in_port=vm{n},ip,actions=tun")
        br_int.flow(f"priority=1,in_port=vm{n},ipv6,actions=tun")
    # Nothing is left of the addresses that the frame had: flows write them anew.
    br_int.flow(f"in_port=tun,actions=mod_dl_src:{FROM},mod_dl_dst:{TO},vm2")
    return topo


UP = UDP(sport=1, dport=2)
PACKETS = {
    "ipv4": Ether(src=FROM, dst=TO) / IP(src="10.0.0.1", dst="10.0.0.2") / UP,
    "ipv4-ttl-128": Ether(src=FROM, dst=TO) / IP(src="10.0.0.1", dst="10.0.0.2", ttl=128) / UP,
    "ipv6": Ether(src=FROM, dst=TO) / IPv6(src="fd00::1", dst="fd00::2") / UP,
}


@pytest.mark.parametrize("name", PACKETS)
def test_the_packet_goes_through_without_its_ethernet_header(lab: Lab, name: str) -> None:
    sent = lab.send("vm1", PACKETS[name], to="vm2")
    seen = sent.seen_on("wire")
    assert not seen.has_ethernet
    assert seen.inner == sent.frame()[14:]
    assert sent.heard_at == {"vm2"}
    assert sent.seen_on("vm2").data == sent.frame()


def test_the_header_says_what_is_inside(lab: Lab, kind: Kind) -> None:
    sent = lab.send("vm1", PACKETS["ipv4"], to="vm2")
    assert sent.heard_at == {"vm2"}
    packet = sent.seen_on("wire").packet
    header = {(layer, name): getattr(packet[layer], name) for layer, name in kind.wire}
    assert header == kind.wire


def test_addresses_do_not_cross_the_tunnel(lab: Lab) -> None:
    flow = f"in_port=tun,dl_src={FROM},actions=vm2"
    lab.switch("hv2").ofctl("replace-flows", "br-int", "-", stdin=flow)
    sent = lab.send("vm1", PACKETS["ipv4"], to="vm2")
    assert sent.heard_at == set()
    assert sent.crossed == {"wire"}
