"""What a tunnel's options make of the outer headers: TTL, ToS, DF, checksums, ports, sequence
numbers.

Source: ovs-vswitchd.conf.db(5), Interface, "Tunnel Options": ``ttl``, ``tos``, ``df_default``,
``csum``, ``dst_port``, and for GRE ``seq``. Every case has its own bridge and its own tunnel key
on one pair of switches, so all of them share one lab.
"""

from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet

from harness import Lab, Topology
from harness.topology.model import TunnelType
from harness.traffic.batch import Sent

IPV4, IPV6 = "172.31.0.{}", "fd00:31::{}"
DEFAULT_TTL = 64
DSCP, ECT0, ECT1 = 0xB8, 2, 1

CASES: dict[str, tuple[TunnelType, str, dict[str, str]]] = {
    "default": ("vxlan", IPV4, {}),
    "default6": ("vxlan", IPV6, {}),
    "gre": ("gre", IPV4, {}),
    "ttl": ("vxlan", IPV4, {"ttl": "10"}),
    "ttl6": ("geneve", IPV6, {"ttl": "10"}),
    "ttl-inherit": ("geneve", IPV4, {"ttl": "inherit"}),
    "tos": ("vxlan", IPV4, {"tos": "0x20"}),
    "tos6": ("vxlan", IPV6, {"tos": "0x20"}),
    "tos-inherit": ("vxlan", IPV4, {"tos": "inherit"}),
    "tos-inherit6": ("vxlan", IPV6, {"tos": "inherit"}),
    "no-df": ("gre", IPV4, {"df_default": "false"}),
    "csum": ("vxlan", IPV4, {"csum": "true"}),
    "csum-geneve": ("geneve", IPV4, {"csum": "true"}),
    "csum-gre": ("gre", IPV4, {"csum": "true"}),
    "no-csum6": ("vxlan", IPV6, {"csum": "false"}),
    "dst-port": ("vxlan", IPV4, {"dst_port": "8472"}),
    "dst-port-gnv": ("geneve", IPV4, {"dst_port": "6082"}),
    "seq": ("gre", IPV4, {"seq": "true"}),
}


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("outer-headers")
    wire = topo.underlay("wire")
    for n in (1, 2):
        switch = topo.switch(f"hv{n}")
        addresses = [f"{IPV4.format(n)}/24", f"{IPV6.format(n)}/64"]
        switch.bridge("br-phy", addresses=addresses).uplink(wire)
        for key, (case, (kind, address, options)) in enumerate(CASES.items(), 1):
            bridge = switch.bridge(f"br{key}")
            bridge.host(f"{case}-{n}")
            bridge.tunnel(kind, remote=address.format(3 - n), key=key, options=options)
    return topo


def inside(*layers: Packet) -> Packet:
    """A UDP datagram in ``layers``, from a host to another."""
    packet: Packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for layer in (*layers, UDP(sport=1, dport=2)):
        packet /= layer
    return packet


def ipv4(**fields: Any) -> Packet:
    return inside(IP(src="10.0.0.1", dst="10.0.0.2", **fields))


def ipv6(**fields: Any) -> Packet:
    return inside(IPv6(src="fd00::1", dst="fd00::2", **fields))


def through(lab: Lab, case: str, frame: Packet | None = None) -> Sent:
    """Send a frame (any, if none is given) through the tunnel of a case: it arrives as it was."""
    here, there = f"{case}-1", f"{case}-2"
    sent = lab.probe(here, to=there) if frame is None else lab.send(here, frame, to=there)
    assert sent.heard_at == {there}
    assert sent.seen_on(there).data == sent.frame()
    return sent


def outer(lab: Lab, case: str, frame: Packet | None = None) -> Any:
    """The outer IP packet of such a frame, on the wire."""
    return through(lab, case, frame).seen_on("wire").packet.payload


def recomputed(packet: Any, layer: Any) -> int:
    """The checksum that ``layer`` ought to have."""
    fresh = packet.copy()
    del fresh[layer].chksum
    checksum: int = type(packet)(bytes(fresh))[layer].chksum
    return checksum


@pytest.mark.parametrize(
    ("case", "frame", "ttl"),
    [
        ("default", None, DEFAULT_TTL),
        ("default", ipv4(ttl=33), DEFAULT_TTL),
        ("ttl", ipv4(ttl=33), 10),
        ("ttl-inherit", ipv4(ttl=33), 33),
        ("ttl-inherit", None, DEFAULT_TTL),
    ],
    ids=["default", "default-ip", "fixed", "inherit", "inherit-no-ip"],
)
def test_ttl(module_lab: Lab, case: str, frame: Packet | None, ttl: int) -> None:
    assert outer(module_lab, case, frame).ttl == ttl


def test_hop_limit_takes_the_place_of_the_ttl(module_lab: Lab) -> None:
    assert outer(module_lab, "default6").hlim == DEFAULT_TTL
    assert outer(module_lab, "ttl6").hlim == 10
    assert outer(module_lab, "ttl-inherit", ipv6(hlim=33)).ttl == 33


@pytest.mark.parametrize(
    ("case", "frame", "tos"),
    [
        ("default", ipv4(tos=DSCP), 0),
        ("default", ipv4(tos=DSCP | ECT0), ECT0),
        ("default", ipv4(tos=ECT1), ECT1),
        ("default", ipv6(tc=ECT1), ECT1),
        ("tos", None, 0x20),
        ("tos", ipv4(tos=DSCP | ECT0), 0x20 | ECT0),
        ("tos-inherit", ipv4(tos=DSCP), DSCP),
        ("tos-inherit", ipv4(tos=DSCP | ECT1), DSCP | ECT1),
        ("tos-inherit", ipv6(tc=DSCP), DSCP),
        ("tos-inherit", None, 0),
    ],
    ids=[
        "default",
        "default-ect0",
        "default-ect1",
        "default-ect1-of-ipv6",
        "fixed",
        "fixed-ect0",
        "inherit",
        "inherit-ect1",
        "inherit-of-ipv6",
        "inherit-no-ip",
    ],
)
def test_tos_and_ecn(module_lab: Lab, case: str, frame: Packet | None, tos: int) -> None:
    assert outer(module_lab, case, frame).tos == tos


@pytest.mark.parametrize(
    ("case", "frame", "tos"),
    [
        ("default6", ipv4(tos=DSCP | ECT0), ECT0),
        ("tos6", ipv4(), 0x20),
        ("tos-inherit6", ipv4(tos=DSCP), DSCP),
        ("tos-inherit6", ipv6(tc=DSCP | ECT0), DSCP | ECT0),
    ],
    ids=["default", "fixed", "inherit-of-ipv4", "inherit-of-ipv6"],
)
def test_traffic_class(module_lab: Lab, case: str, frame: Packet, tos: int) -> None:
    assert outer(module_lab, case, frame).tc == tos


@pytest.mark.parametrize(("case", "fragment"), [("default", "DF"), ("gre", "DF"), ("no-df", "")])
def test_dont_fragment(module_lab: Lab, case: str, fragment: str) -> None:
    assert str(outer(module_lab, case).flags) == fragment


@pytest.mark.parametrize("case", ["default6", "csum", "csum-geneve"])
def test_udp_checksum_is_there_and_right(module_lab: Lab, case: str) -> None:
    packet = outer(module_lab, case, ipv4())
    assert packet[UDP].chksum != 0
    assert packet[UDP].chksum == recomputed(packet, UDP)


@pytest.mark.parametrize("case", ["default", "no-csum6"])
def test_udp_checksum_is_left_out(module_lab: Lab, case: str) -> None:
    assert outer(module_lab, case)[UDP].chksum == 0


def test_gre_checksum(module_lab: Lab) -> None:
    packet = outer(module_lab, "csum-gre", ipv4())
    assert packet[GRE].chksum_present
    assert packet[GRE].chksum == recomputed(packet, GRE)
    assert not outer(module_lab, "gre")[GRE].chksum_present


@pytest.mark.parametrize("case", ["default", "tos", "no-df", "csum"])
def test_ip_checksum_is_right(module_lab: Lab, case: str) -> None:
    packet = outer(module_lab, case)
    assert packet.chksum == recomputed(packet, IP)


@pytest.mark.parametrize(
    ("case", "port"), [("default", 4789), ("dst-port", 8472), ("dst-port-gnv", 6082)]
)
def test_destination_port(module_lab: Lab, case: str, port: int) -> None:
    assert outer(module_lab, case)[UDP].dport == port


def test_source_port_is_ephemeral_and_one_per_flow(module_lab: Lab) -> None:
    frame = ipv4()
    one, again = (outer(module_lab, "default", frame)[UDP].sport for _ in range(2))
    assert one == again
    assert one >= 32768


def test_gre_sequence_numbers_rise_by_one(module_lab: Lab) -> None:
    sent = module_lab.probe("seq-1", to="seq-2", count=3)
    assert sent.heard_at == {"seq-2"}
    headers = [seen.packet[GRE] for seen in sent.all_on("wire")]
    assert all(header.seqnum_present for header in headers)
    first = headers[0].sequence_number
    assert [header.sequence_number for header in headers] == [first, first + 1, first + 2]
    assert not outer(module_lab, "gre")[GRE].seqnum_present
