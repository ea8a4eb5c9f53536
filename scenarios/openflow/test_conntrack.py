"""Connection tracking with frames written by hand: states, zones, marks and address translation.

Source: ovs-actions(7), "The ct action"; ovs-fields(7), "Connection Tracking Fields"; the tutorial
"OVS Conntrack Tutorial". No host has the addresses that the frames carry: none of them answers.
"""

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from harness import Lab
from harness.lab import Target
from harness.traffic.batch import Sent

pytestmark = pytest.mark.requires("datapath:CT state", "datapath:CT zone", "datapath:CT mark")

# The firewall of ovs-actions(7), with hosts a and b for its ports 1 and 2.
FIREWALL = """
table=0,priority=1,actions=drop
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit),b
table=1,in_port=a,ip,ct_state=+trk+est,actions=b
table=1,in_port=b,ip,ct_state=+trk+new,actions=drop
table=1,in_port=b,ip,ct_state=+trk+est,actions=a
"""
ZONES = """
table=0,priority=100,ip,in_port=a,ct_state=-trk,actions=ct(table=1,zone=1)
table=0,priority=100,ip,in_port=b,ct_state=-trk,actions=ct(table=1,zone=1)
table=0,priority=100,ip,in_port=c,ct_state=-trk,actions=ct(table=1,zone=2)
table=0,priority=100,ip,in_port=d,ct_state=-trk,actions=ct(table=1,zone=2)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit,zone=1),b
table=1,in_port=c,ip,ct_state=+trk+new,actions=ct(commit,zone=2),d
table=1,in_port=b,ip,ct_state=+trk+est,ct_zone=1,actions=a
table=1,in_port=d,ip,ct_state=+trk+est,ct_zone=2,actions=c
"""
MARKS = """
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1)
table=1,udp,in_port=a,tp_dst=53,ct_state=+new,actions=ct(commit,exec(set_field:7->ct_mark)),b
table=1,udp,in_port=a,tp_dst=54,ct_state=+new,actions=ct(commit,exec(set_field:8->ct_mark)),b
table=1,ip,in_port=b,ct_state=+est,ct_mark=7,actions=a,c
table=1,ip,in_port=b,ct_state=+est,ct_mark=8,actions=a
"""
STATES = """
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1)
table=1,priority=30,ip,ct_state=+trk+inv,actions=d
table=1,priority=20,ip,ct_state=+trk+new,actions=ct(commit),b
table=1,priority=20,ip,ct_state=+trk+est-rpl,actions=b
table=1,priority=20,ip,ct_state=+trk+est+rpl,actions=c
"""
SOURCE_NAT = """
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1,nat)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit,nat(src=10.9.9.9)),b
table=1,in_port=a,ip,ct_state=+trk+est,actions=b
table=1,in_port=b,ip,ct_state=+trk+est,actions=a
"""
DESTINATION_NAT = """
table=0,priority=100,ip,in_port=a,ct_state=-trk,actions=ct(table=1,nat)
table=0,priority=100,ip,in_port=b,ct_state=-trk,actions=ct(table=1,nat)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit,nat(dst=10.0.0.77:8080)),b
table=1,in_port=a,ip,ct_state=+trk+est,actions=b
table=1,in_port=b,ip,ct_state=+trk+est,actions=a
"""
NEAR, FAR = "10.0.0.1", "10.0.0.2"


def send(lab: Lab, route: str, packet: Packet) -> Sent:
    """Send an IP packet from the first to the second host of ``route``."""
    source, to = list(route)
    return lab.send(source, Ether(src=lab.mac(source), dst=lab.mac(to)) / packet)


def there(flags: str = "S", *, sport: int = 1000, seq: int = 1, ack: int = 0) -> Packet:
    return IP(src=NEAR, dst=FAR) / TCP(sport=sport, dport=80, flags=flags, seq=seq, ack=ack)


def back(flags: str = "SA", *, sport: int = 1000, seq: int = 1, ack: int = 2) -> Packet:
    return IP(src=FAR, dst=NEAR) / TCP(sport=80, dport=sport, flags=flags, seq=seq, ack=ack)


def udp_there(port: int = 53) -> Packet:
    return IP(src=NEAR, dst=FAR) / UDP(sport=1000, dport=port)


def udp_back(port: int = 53) -> Packet:
    return IP(src=FAR, dst=NEAR) / UDP(sport=port, dport=1000)


@pytest.mark.parametrize("flows", [FIREWALL])
@pytest.mark.parametrize(
    ("outgoing", "answer", "stranger"),
    [
        pytest.param(there(), back(), back(sport=1001), id="TCP"),
        pytest.param(udp_there(), udp_back(), udp_back(54), id="UDP"),
    ],
)
def test_a_firewall_lets_answers_in(
    lab: Lab, outgoing: Packet, answer: Packet, stranger: Packet
) -> None:
    assert send(lab, "ba", answer).heard_at == set()
    assert send(lab, "ab", outgoing).heard_at == {"b"}
    assert send(lab, "ba", answer).heard_at == {"a"}
    assert send(lab, "ba", stranger).heard_at == set()
    assert send(lab, "ab", outgoing).heard_at == {"b"}


@pytest.mark.parametrize("flows", [STATES])
def test_new_established_and_invalid(lab: Lab) -> None:
    assert send(lab, "ab", there("S", seq=1)).heard_at == {"b"}
    assert send(lab, "ba", back("SA", seq=1, ack=2)).heard_at == {"c"}
    assert send(lab, "ab", there("A", seq=2, ack=2)).heard_at == {"b"}
    # No TCP sends these flags together.
    assert send(lab, "ab", there("SF", sport=1001)).heard_at == {"d"}


@pytest.mark.parametrize("flows", [STATES])
def test_far_outside_of_the_window(lab: Lab, target: Target) -> None:
    """User space takes it for invalid. No manual page says so, and from 5.11 on Linux leaves the
    window of an established connection to its ends (``__ovs_ct_lookup()`` in
    net/openvswitch/conntrack.c)."""
    send(lab, "ab", there("S", seq=1))
    send(lab, "ba", back("SA", seq=1, ack=2))
    assert send(lab, "ab", there("A", seq=2, ack=2)).heard_at == {"b"}
    far = send(lab, "ab", there("A", seq=0x7000_0000, ack=2))
    release = lab.node("s1").run(["uname", "-r"]).stdout.split(".")
    liberal = target.datapath == "kernel" and (int(release[0]), int(release[1])) >= (5, 11)
    assert far.heard_at == ({"b"} if liberal else {"d"})


@pytest.mark.parametrize("flows", [ZONES])
def test_zones_know_nothing_of_each_other(lab: Lab) -> None:
    assert send(lab, "ab", there()).heard_at == {"b"}
    assert send(lab, "dc", back()).heard_at == set()
    assert send(lab, "ba", back()).heard_at == {"a"}
    assert send(lab, "cd", there()).heard_at == {"d"}
    assert send(lab, "dc", back()).heard_at == {"c"}


@pytest.mark.parametrize("flows", [MARKS])
def test_a_mark_stays_with_the_connection(lab: Lab) -> None:
    for port, heard in ((53, {"a", "c"}), (54, {"a"})):
        assert send(lab, "ab", udp_there(port)).heard_at == {"b"}
        assert send(lab, "ba", udp_back(port)).heard_at == heard


@pytest.mark.requires("datapath:CT state NAT")
@pytest.mark.parametrize("flows", [SOURCE_NAT])
def test_the_source_is_translated_and_back(lab: Lab) -> None:
    lab.expect("changed")
    out = send(lab, "ab", there())
    assert out.heard_at == {"b"}
    answer = IP(src=FAR, dst="10.9.9.9") / TCP(sport=80, dport=1000, flags="SA", seq=1, ack=2)
    back_in = send(lab, "ba", answer)
    assert back_in.heard_at == {"a"}
    assert addresses(out, "b") == ("10.9.9.9", 1000, FAR, 80)
    assert addresses(back_in, "a") == (FAR, 80, NEAR, 1000)
    # To the address behind the translation nobody gets through.
    assert send(lab, "ba", back()).heard_at == set()


@pytest.mark.requires("datapath:CT state NAT")
@pytest.mark.parametrize("flows", [DESTINATION_NAT])
def test_the_destination_is_translated_and_back(lab: Lab) -> None:
    lab.expect("changed")
    out = send(lab, "ab", there())
    assert out.heard_at == {"b"}
    answer = IP(src="10.0.0.77", dst=NEAR) / TCP(sport=8080, dport=1000, flags="SA", seq=1, ack=2)
    back_in = send(lab, "ba", answer)
    assert back_in.heard_at == {"a"}
    assert addresses(out, "b") == (NEAR, 1000, "10.0.0.77", 8080)
    assert addresses(back_in, "a") == (FAR, 80, NEAR, 1000)


def addresses(sent: Sent, host: str) -> tuple[str, int, str, int]:
    """Addresses and ports of what was heard, its checksums being right."""
    seen = sent.seen_on(host)
    packet = seen.packet
    found = (packet[IP].src, packet[TCP].sport, packet[IP].dst, packet[TCP].dport)
    again = Ether(seen.data)
    del again[IP].chksum, again[TCP].chksum
    assert bytes(again) == seen.data
    return found
