"""Actions that change addresses, ports, TTL and DSCP, with the checksums that go with them.

Source: ovs-actions(7), "Field Modification Actions", "The dec_ttl action"; ovs-fields(7).
"""

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from harness import Lab

UDP4 = IP(src="10.0.0.1", dst="10.0.0.2", ttl=64, tos=3) / UDP(sport=1000, dport=2000)
TCP4 = IP(src="10.0.0.1", dst="10.0.0.2", ttl=64) / TCP(sport=1000, dport=2000)
UDP6 = IPv6(src="fc00::1", dst="fc00::2", hlim=64) / UDP(sport=1000, dport=2000)
REQUEST = ARP(op=1, psrc="10.0.0.1", pdst="10.0.0.2")
NEW_MAC = "02:00:00:00:00:99"

CASES: list[tuple[str, Packet, dict[tuple[type[Packet], str], object]]] = [
    (f"mod_dl_dst:{NEW_MAC}", UDP4, {(Ether, "dst"): NEW_MAC}),
    (f"mod_dl_src:{NEW_MAC}", UDP4, {(Ether, "src"): NEW_MAC}),
    (f"set_field:{NEW_MAC}->eth_src", UDP6, {(Ether, "src"): NEW_MAC}),
    (
        "set_field:02:00:00:00:00:00/ff:00:00:00:00:00->eth_dst,load:0x77->eth_dst[0..7]",
        UDP4,
        {(Ether, "dst"): "02:00:00:01:00:77"},
    ),
    ("mod_nw_src:10.9.9.9", UDP4, {(IP, "src"): "10.9.9.9"}),
    ("mod_nw_dst:10.9.9.9", TCP4, {(IP, "dst"): "10.9.9.9"}),
    ("mod_nw_tos:32", UDP4, {(IP, "tos"): 35}),
    ("mod_nw_ecn:1", UDP4, {(IP, "tos"): 1}),
    ("mod_nw_ttl:9", UDP4, {(IP, "ttl"): 9}),
    ("dec_ttl", UDP4, {(IP, "ttl"): 63}),
    ("dec_ttl,dec_ttl", TCP4, {(IP, "ttl"): 62}),
    ("dec_ttl", UDP6, {(IPv6, "hlim"): 63}),
    ("mod_tp_src:5555", UDP4, {(UDP, "sport"): 5555}),
    ("mod_tp_dst:5555", TCP4, {(TCP, "dport"): 5555}),
    ("mod_tp_dst:5555", UDP6, {(UDP, "dport"): 5555}),
    ("set_field:fc00::99->ipv6_dst", UDP6, {(IPv6, "dst"): "fc00::99"}),
    ("set_field:2->arp_op", REQUEST, {(ARP, "op"): 2}),
    ("set_field:10.9.9.9->arp_spa", REQUEST, {(ARP, "psrc"): "10.9.9.9"}),
    # Two fields change places.
    (
        "push:ip_src,push:ip_dst,pop:ip_src,pop:ip_dst",
        UDP4,
        {(IP, "src"): "10.0.0.2", (IP, "dst"): "10.0.0.1"},
    ),
    (
        "move:udp_src[]->reg0[0..15],move:udp_dst[]->udp_src[],move:reg0[0..15]->udp_dst[]",
        UDP4,
        {(UDP, "sport"): 2000, (UDP, "dport"): 1000},
    ),
]


def match_of(frame: Packet) -> str:
    if ARP in frame:
        return "arp"
    return ("udp" if UDP in frame else "tcp") + ("6" if IPv6 in frame else "")


def with_sums(frame: Packet) -> bytes:
    """The frame with the checksums that belong to what it says now."""
    for layer in (IP, UDP, TCP):
        if layer in frame:
            del frame[layer].chksum
    return bytes(frame)


@pytest.mark.parametrize(
    ("flows", "inner", "changes"),
    [
        pytest.param(f"{match_of(inner)},actions={actions},b,c", inner, changes, id=actions)
        for actions, inner, changes in CASES
    ],
)
def test_just_the_field_and_its_checksums_change(
    lab: Lab, inner: Packet, changes: dict[tuple[type[Packet], str], object]
) -> None:
    lab.expect("changed")
    sent = lab.send("a", Ether(src=lab.mac("a"), dst=lab.mac("b")) / inner)
    expected = Ether(sent.frame())
    for (layer, field), value in changes.items():
        setattr(expected[layer], field, value)
    assert sent.heard_at == {"b", "c"}
    for host in "bc":
        assert sent.seen_on(host).data == with_sums(expected)


@pytest.mark.parametrize(
    ("flows", "heard"),
    [
        # A TTL of 0 or 1 ends the current set of actions; those of outer levels, which reached it
        # by resubmit, go on.
        ("ip,actions=b,dec_ttl,c", {2: "bc", 1: "b", 0: "b"}),
        ("ip,actions=resubmit(,1),d\ntable=1,ip,actions=b,dec_ttl,c", {2: "bcd", 1: "bd", 0: "bd"}),
    ],
)
def test_what_must_not_live_longer_is_not_sent_on(lab: Lab, heard: dict[int, str]) -> None:
    lab.expect("changed")
    head = Ether(src=lab.mac("a"), dst=lab.mac("b"))
    udp = UDP(sport=1000, dport=2000)
    batch = lab.send_all(
        ("a", head / IP(src="10.0.0.1", dst="10.0.0.2", ttl=ttl) / udp) for ttl in heard
    )
    assert [sent.heard_at for sent in batch] == [set(hosts) for hosts in heard.values()]


@pytest.mark.parametrize("flows", ["actions=b,mod_dl_dst:02:00:00:00:00:99,c"])
def test_what_was_sent_before_is_not_changed(lab: Lab) -> None:
    lab.expect("changed")
    sent = lab.probe("a", to="d")
    assert sent.heard_at == {"b", "c"}
    assert sent.seen_on("b").packet.dst == lab.mac("d")
    assert sent.seen_on("c").packet.dst == "02:00:00:00:00:99"
