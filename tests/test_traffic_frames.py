"""Frames to send: where the identity goes, and that every checksum still holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.contrib.lacp import LACP
from scapy.contrib.slowprot import SlowProtocol
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, GRE, LLC, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from harness.traffic.frames import (
    PROBE_ETHERTYPE,
    Tag,
    from_scapy,
    mac_bytes,
    probe_frame,
    tags_of,
    untagged,
)
from harness.traffic.identity import BLANK_TRAILER, TRAILER_SIZE, Template, read, stamp

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
ETHER = Ether(src=A, dst=B)
IP4 = IP(src="10.0.0.1", dst="10.0.0.2")
IP6 = IPv6(src="fd00::1", dst="fd00::2")
OUTER = Ether(src=B, dst=A) / IP(src="192.0.2.1", dst="192.0.2.2")

CARRIERS: dict[str, Packet] = {
    "ether": ETHER,
    "raw": ETHER / Raw(b"hello"),
    "dot1q": ETHER / Dot1Q(vlan=5, type=0x88B5),
    "qinq": ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=5) / IP4 / UDP(),
    "ip": ETHER / IP4,
    "udp": ETHER / IP4 / UDP(sport=1, dport=2),
    "udp odd": ETHER / IP4 / UDP(sport=1, dport=2) / Raw(b"odd"),
    "udp long": ETHER / IP4 / UDP(sport=1, dport=2) / Raw(bytes(1000)),
    "tcp": ETHER / IP4 / TCP(sport=1, dport=2),
    "icmp": ETHER / IP4 / ICMP(),
    "icmp reply of zeros": ETHER / IP4 / ICMP(type=0, id=0, seq=0),
    "udp6": ETHER / IP6 / UDP(sport=1, dport=2) / Raw(b"x"),
    "icmp6": ETHER / IP6 / ICMPv6EchoRequest(),
    "vxlan": OUTER / UDP(dport=4789) / VXLAN(vni=9) / ETHER / IP4 / UDP(sport=1) / Raw(b"odd"),
    "geneve": OUTER / UDP(dport=6081) / GENEVE(vni=9) / ETHER / IP4 / TCP(),
    "gre": OUTER / GRE(proto=0x6558) / ETHER / IP4 / ICMP(),
}
OTHERS: dict[str, Packet] = {
    "arp": ETHER / ARP(),
    "arp vlan": ETHER / Dot1Q(vlan=3) / ARP(),
    "stp": Dot3(src=A, dst="01:80:c2:00:00:00") / LLC() / STP(),
    "lacp": ETHER / SlowProtocol() / LACP(),
    "dns": ETHER / IP4 / UDP() / DNS(qd=DNSQR(qname="example.com")),
    "nd": ETHER / IP6 / ICMPv6ND_NS(tgt="fd00::2"),
    "sctp": ETHER / IP4 / SCTP() / SCTPChunkData(data=b"abcd"),
}
TUNNELLED: dict[str, Packet] = {
    "arp in vxlan": OUTER / UDP(dport=4789) / VXLAN(vni=9) / ETHER / ARP(),
    "arp in gre": OUTER / GRE() / ETHER / ARP(),
}


def stamped(packet: Packet) -> bytes:
    blank = from_scapy(packet)
    assert blank.stamped
    assert blank.data.endswith(BLANK_TRAILER)
    assert len(blank.data) >= 60
    return stamp(Template.make(blank.data, 0xDEADBEEF, 0x12345), 0x1234567)


def checksums(packet: Packet) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    layer = packet
    while layer:
        fields = layer.fields
        found += [
            (type(layer).__name__, fields[name]) for name in ("chksum", "cksum") if name in fields
        ]
        layer = layer.payload
    return found


def recomputed(packet: Packet) -> Packet:
    """The packet with all checksums and lengths as scapy computes them."""
    copy = packet.copy()
    layer = copy
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            layer.fields.pop(name, None)
        layer.raw_packet_cache = None
        layer = layer.payload
    again: Packet = type(packet)(bytes(copy))
    return again


@pytest.mark.parametrize("name", CARRIERS)
def test_identity_lies_inside_lengths_and_checksums(name: str) -> None:
    packet = CARRIERS[name]
    before = bytes(packet)
    frame = stamped(packet)
    got = type(packet)(frame)
    assert got.getlayer("Padding") is None
    assert checksums(got) == checksums(recomputed(got))
    assert len(bytes(recomputed(got))) == len(frame)
    assert bytes(packet) == before


@pytest.mark.parametrize("name", OTHERS)
def test_identity_is_padding_of_what_carries_no_data(name: str) -> None:
    packet = OTHERS[name]
    frame = stamped(packet)
    assert frame.startswith(bytes(packet))
    assert read(frame, len(frame)) is not None


@pytest.mark.parametrize("name", TUNNELLED)
def test_padding_of_a_tunnelled_frame_is_inside_the_tunnel(name: str) -> None:
    packet = TUNNELLED[name]
    frame = stamped(packet)
    got = Ether(frame)
    assert got[IP].len == len(frame) - 14
    assert got[ARP].underlayer.src == A
    assert sum(int.from_bytes(frame[at : at + 2], "big") for at in range(14, 34, 2)) % 0xFFFF == 0
    assert read(frame, len(frame)) is not None


def test_bytes_are_sent_as_they_are() -> None:
    assert from_scapy(b"x" * 20) == (b"x" * 20, False)


@pytest.mark.parametrize(
    ("packet", "error", "said"),
    [
        (IP4 / UDP(), ValueError, r"write Ether\(\)/IP"),
        (b"short", ValueError, "no whole Ethernet header"),
        ("text", TypeError, "not str"),
        (OUTER / UDP() / Raw(b"x") / IP4 / UDP(), ValueError, "odd number of bytes"),
    ],
)
def test_what_is_not_a_frame_is_refused(packet: Packet, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        from_scapy(packet)


@pytest.mark.parametrize(
    ("size", "vlan", "tags"),
    [
        (64, None, ()),
        (60, 900, (Tag.of(900),)),
        (64, 0, (Tag.of(0),)),
        (64, [Tag.of(7, tpid=0x88A8), Tag.of(5, pcp=3, dei=1)], None),
        (9000, None, ()),
    ],
)
def test_probe_frame(size: int, vlan: int | list[Tag] | None, tags: tuple[Tag, ...] | None) -> None:
    frame = probe_frame(A, B, size=size, vlan=vlan)
    assert len(frame) == size
    assert frame[:12] == mac_bytes(B) + mac_bytes(A)
    assert tags_of(frame) == (tuple(vlan) if isinstance(vlan, list) else tags)
    assert untagged(frame)[12:14] == PROBE_ETHERTYPE.to_bytes(2, "big")
    assert frame[-TRAILER_SIZE:] == BLANK_TRAILER


@pytest.mark.parametrize(
    "make",
    [
        lambda: probe_frame(A, "02-00-00-00-00-02"),
        lambda: probe_frame(A, "02:00:00:00:00"),
        lambda: probe_frame(A, B, size=59),
        lambda: probe_frame(A, B, vlan=4096),
        lambda: probe_frame(A, B, size=60, vlan=[Tag.of(1)] * 6),
        lambda: Tag.of(1, pcp=8),
    ],
)
def test_bad_probe_frames_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"not|no room"):
        make()


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        (Tag.of(900), "vlan 900"),
        (Tag.of(0, pcp=5), "vlan 0 pcp 5"),
        (Tag.of(7, tpid=0x88A8, dei=1), "vlan 7 802.1ad dei"),
        (Tag.of(7, tpid=0x9100), "vlan 7 tpid 0x9100"),
    ],
)
def test_a_tag_in_words(tag: Tag, said: str) -> None:
    assert str(tag) == said
    assert Tag.from_tci(tag.tpid, int.from_bytes(tag.wire[2:], "big")) == tag
