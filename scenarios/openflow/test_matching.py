"""Which flow a frame meets: by priority, by what it is, by cookie never.

Source: ovs-fields(7), the fields and "Conjunctive Match Fields"; ovs-ofctl(8), "Flow Syntax",
``priority``. Which of two matching flows with the same priority is taken is not defined: these
tables have none.
"""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from harness import Lab

TCP_FRAME = (
    Ether(dst="02:00:00:00:00:99") / IP(src="10.1.2.3", dst="10.9.0.1", ttl=7) / TCP(dport=80)
)


@pytest.mark.parametrize(
    ("flows", "to"),
    [
        ("priority=10,actions=b\npriority=20,actions=c\npriority=15,actions=d", "c"),
        ("priority=65535,in_port=d,actions=b\npriority=0,actions=c", "c"),
        # However narrow: only the priority counts.
        ("priority=10,in_port=a,tcp,tp_dst=80,actions=b\npriority=11,actions=c", "c"),
        ("priority=10,in_port=a,actions=b\npriority=11,udp,actions=c", "b"),
        ("priority=10,actions=b\npriority=11,in_port=a,actions=drop", ""),
        # 32768 when none is given.
        ("priority=32767,actions=b\nactions=c", "c"),
        ("priority=32769,actions=b\nactions=c", "b"),
        # Without a matching flow a frame is dropped.
        ("in_port=b,actions=c", ""),
        ("", ""),
    ],
)
def test_the_highest_priority_wins(lab: Lab, to: str) -> None:
    assert lab.send("a", TCP_FRAME).heard_at == set(to)


MATCHES: list[tuple[str, Packet, list[Packet]]] = [
    ("dl_dst=02:00:00:00:00:99", Ether(dst="02:00:00:00:00:99"), [Ether(dst="02:00:00:00:00:98")]),
    (
        "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
        Ether(dst="01:00:5e:00:00:01"),
        [Ether(dst="02:00:00:00:00:99")],
    ),
    ("dl_type=0x88b6", Ether(type=0x88B6), [Ether(type=0x88B7)]),
    ("dl_vlan=20", Ether() / Dot1Q(vlan=20), [Ether(), Ether() / Dot1Q(vlan=21)]),
    ("dl_vlan_pcp=5", Ether() / Dot1Q(vlan=20, prio=5), [Ether(), Ether() / Dot1Q(vlan=20)]),
    ("vlan_tci=0x1000/0x1000", Ether() / Dot1Q(vlan=0), [Ether()]),
    ("vlan_tci=0", Ether(), [Ether() / Dot1Q(vlan=0)]),
    ("arp,arp_op=1", Ether() / ARP(op=1), [Ether() / ARP(op=2), Ether() / IP()]),
    ("arp,arp_tpa=10.0.0.0/24", Ether() / ARP(pdst="10.0.0.7"), [Ether() / ARP(pdst="10.0.1.7")]),
    ("ip,nw_src=10.1.0.0/16", TCP_FRAME, [Ether() / IP(src="10.2.0.1"), Ether() / ARP()]),
    ("ip,nw_ttl=7", TCP_FRAME, [Ether() / IP(ttl=8)]),
    ("ip,nw_tos=32", Ether() / IP(tos=33), [Ether() / IP(tos=36)]),
    ("ip,ip_dscp=8", Ether() / IP(tos=33), [Ether() / IP(tos=36)]),
    ("icmp,icmp_type=8", Ether() / IP() / ICMP(type=8), [Ether() / IP() / ICMP(type=0), TCP_FRAME]),
    ("tcp,tp_dst=80", TCP_FRAME, [Ether() / IP() / UDP(dport=80), Ether() / IP() / TCP(dport=81)]),
    ("tcp,tcp_flags=+syn-ack", Ether() / IP() / TCP(flags="S"), [Ether() / IP() / TCP(flags="SA")]),
    (
        "udp,tp_src=0x1000/0xf000",
        Ether() / IP() / UDP(sport=0x1FFF),
        [Ether() / IP() / UDP(sport=0x2000)],
    ),
    (
        "ipv6,ipv6_dst=2001:db8::/32",
        Ether() / IPv6(dst="2001:db8::1"),
        [Ether() / IPv6(dst="2001:db9::1"), Ether() / IP()],
    ),
    ("udp6,udp_dst=53", Ether() / IPv6() / UDP(dport=53), [Ether() / IP() / UDP(dport=53)]),
    ("ip,ip_frag=no", Ether() / IP(), [Ether() / IP(flags="MF"), Ether() / IP(frag=10)]),
    ("ip,ip_frag=later", Ether() / IP(frag=10), [Ether() / IP(flags="MF"), Ether() / IP()]),
]


@pytest.mark.parametrize(
    ("flows", "matching", "others"),
    [(f"{match},actions=b\npriority=0,actions=c", *frames) for match, *frames in MATCHES],
    ids=[match for match, *_frames in MATCHES],
)
def test_a_field_matches_just_its_frames(lab: Lab, matching: Packet, others: list[Packet]) -> None:
    # IP addresses of a host would be looked up for a scapy frame that names none.
    head = Ether(src=lab.mac("a"))
    batch = lab.send_all(("a", with_source(frame, head.src)) for frame in (matching, *others))
    assert [sent.heard_at for sent in batch] == [{"b"}, *([{"c"}] * len(others))]


def with_source(frame: Packet, mac: str) -> Packet:
    made = frame.copy()
    made.src = mac
    if made.dst is None:
        made.dst = "02:00:00:00:00:99"
    for layer, source, target in ((IP, "10.0.0.1", "10.0.0.2"), (IPv6, "fc00::1", "fc00::2")):
        if layer in made:
            made[layer].src = made[layer].fields.get("src") or source
            made[layer].dst = made[layer].fields.get("dst") or target
    return made


CONJUNCTION = """
ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)
ip,nw_src=10.0.0.2,actions=conjunction(7,1/2)
udp,tp_dst=53,actions=conjunction(7,2/2)
udp,tp_dst=67,actions=conjunction(7,2/2)
conj_id=7,ip,actions=b
priority=0,actions=c
"""


@pytest.mark.parametrize("flows", [CONJUNCTION])
def test_a_conjunction_matches_all_of_its_dimensions(lab: Lab) -> None:
    def frame(last: int, port: int) -> Packet:
        addresses = IP(src=f"10.0.0.{last}", dst="10.0.1.1")
        return Ether(src=lab.mac("a"), dst="02:00:00:00:00:99") / addresses / UDP(dport=port)

    choices = [(last, port) for last in (1, 2, 3) for port in (53, 67, 80)]
    batch = lab.send_all(("a", frame(*choice)) for choice in choices)
    assert {choice: sent.heard_at for choice, sent in zip(choices, batch, strict=True)} == {
        (last, port): {"b"} if last < 3 and port != 80 else {"c"} for last, port in choices
    }
