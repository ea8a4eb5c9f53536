"""MPLS: labels that are pushed, changed, matched and popped.

Source: ovs-actions(7), "The push_mpls action", "The pop_mpls action" and "The dec_mpls_ttl and
dec_mpls_ttl actions"; ovs-fields(7), "Multiprotocol Label Switching Fields".
"""

import struct

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from harness import Lab

UNICAST, MULTICAST = 0x8847, 0x8848
UP = UDP(sport=5000, dport=6000)
V4 = IP(src="10.0.0.1", dst="10.0.0.2", ttl=33, tos=0xB8) / UP
V6 = IPv6(src="fd00::1", dst="fd00::2", hlim=44, tc=0x28) / UP
Label = tuple[int, int, int, int]
"""Label, traffic class, bottom of the stack, TTL."""


def frame(lab: Lab, packet: Packet, *labels: Label, kind: int = UNICAST) -> Ether:
    """A frame from a to b, with a label stack from the outermost on before the packet."""
    head = Ether(src=lab.mac("a"), dst=lab.mac("b"))
    if labels:
        head.type = kind
    for label, cos, bottom, ttl in labels:
        head /= MPLS(label=label, cos=cos, s=bottom, ttl=ttl)
    return head / packet


def stack(data: bytes) -> list[Label]:
    """The label stack of a frame, from the outermost label on (RFC 3032, 2.1)."""
    found: list[Label] = []
    if int.from_bytes(data[12:14]) in (UNICAST, MULTICAST):
        while not found or not found[-1][2]:
            (entry,) = struct.unpack_from("!I", data, 14 + 4 * len(found))
            found.append((entry >> 12, entry >> 9 & 7, entry >> 8 & 1, entry & 255))
    return found


@pytest.mark.parametrize("kind", [UNICAST, MULTICAST], ids=hex)
@pytest.mark.parametrize(
    ("packet", "label"),
    [
        # "2, if the packet contains IPv6, 0 otherwise"; "the low 3 bits of the packet's DSCP";
        # "copied from the IP TTL".
        pytest.param(V4, (0, 0xB8 >> 2 & 7, 1, 33), id="ipv4"),
        pytest.param(V6, (2, 0x28 >> 2 & 7, 1, 44), id="ipv6"),
    ],
)
def test_a_first_label_is_taken_from_the_packet(
    lab: Lab, packet: Packet, label: Label, kind: int
) -> None:
    lab.expect("changed")
    lab.switch("s1").ofctl("add-flow", "br0", f"in_port=a,actions=push_mpls:{kind:#x},b")
    sent = lab.send("a", frame(lab, packet))
    assert sent.heard_at == {"b"}
    got = sent.seen_on("b")
    assert got.packet.type == kind
    assert stack(got.data) == [label]
    # Nothing else has changed.
    assert got.data[:12] + got.data[18:] == sent.frame()[:12] + sent.frame()[14:]


@pytest.mark.parametrize(
    ("flows", "labels"),
    [
        (
            "in_port=a,ip,actions=push_mpls:0x8847,"
            "set_field:100->mpls_label,set_field:5->mpls_tc,set_mpls_ttl(9),b",
            [(100, 5, 1, 9)],
        ),
        # "Initializes the new outermost label as a copy of the existing outermost label."
        (
            "in_port=a,ip,actions=push_mpls:0x8847,set_field:100->mpls_label,push_mpls:0x8847,b",
            [(100, 6, 0, 33), (100, 6, 1, 33)],
        ),
        (
            "in_port=a,ip,actions=push_mpls:0x8847,set_field:100->mpls_label,"
            "push_mpls:0x8847,set_field:200->mpls_label,push_mpls:0x8847,"
            "set_field:300->mpls_label,b",
            [(300, 6, 0, 33), (200, 6, 0, 33), (100, 6, 1, 33)],
        ),
        (
            "in_port=a,ip,actions=push_mpls:0x8847,set_field:100->mpls_label,"
            "push_mpls:0x8847,set_field:200->mpls_label,pop_mpls:0x8847,b",
            [(100, 6, 1, 33)],
        ),
    ],
    ids=["set", "two", "three", "two less one"],
)
def test_labels_are_set_and_stacked(lab: Lab, labels: list[Label]) -> None:
    lab.expect("changed")
    sent = lab.send("a", frame(lab, V4))
    assert sent.heard_at == {"b"}
    got = sent.seen_on("b")
    assert stack(got.data) == labels
    assert got.data[14 + 4 * len(labels) :] == sent.frame()[14:]


@pytest.mark.parametrize(
    ("flows", "packet", "labels", "left"),
    [
        ("in_port=a,mpls,actions=pop_mpls:0x0800,b", V4, [(100, 3, 1, 64)], []),
        ("in_port=a,mpls,actions=pop_mpls:0x86dd,b", V6, [(100, 3, 1, 64)], []),
        (
            "in_port=a,mpls,actions=pop_mpls:0x8847,b",
            V4,
            [(200, 1, 0, 63), (100, 3, 1, 64)],
            [(100, 3, 1, 64)],
        ),
        # What is below is looked at again, here in another table.
        (
            "in_port=a,mpls,actions=pop_mpls:0x8847,resubmit(,1)\n"
            "table=1,mpls,mpls_label=100,actions=pop_mpls:0x0800,resubmit(,2)\n"
            "table=2,ip,nw_dst=10.0.0.2,actions=b",
            V4,
            [(200, 1, 0, 63), (100, 3, 1, 64)],
            [],
        ),
        (
            "in_port=a,mpls,actions=dec_mpls_ttl,b",
            V4,
            [(200, 1, 0, 63), (100, 3, 1, 64)],
            [(200, 1, 0, 62), (100, 3, 1, 64)],
        ),
    ],
    ids=["ipv4", "ipv6", "outer", "both", "ttl"],
)
def test_labels_are_popped(
    lab: Lab, packet: Packet, labels: list[Label], left: list[Label]
) -> None:
    lab.expect("changed")
    sent = lab.send("a", frame(lab, packet, *labels))
    assert sent.heard_at == {"b"}
    got = sent.seen_on("b")
    assert stack(got.data) == left
    inner = 14 + 4 * len(labels)
    assert got.data[14 + 4 * len(left) :] == sent.frame()[inner:]
    if not left:
        assert got.packet.type == (0x86DD if IPv6 in packet else 0x0800)


@pytest.mark.parametrize(
    ("match", "heard"),
    [
        ("mpls", "bcde"),
        ("mplsm", "f"),
        ("mpls,mpls_label=100", "b"),
        ("mpls,mpls_label=100,mpls_tc=3", "b"),
        ("mpls,mpls_label=100,mpls_tc=4", ""),
        ("mpls,mpls_tc=4", "c"),
        ("mpls,mpls_bos=1", "bcd"),
        ("mpls,mpls_bos=0", "e"),
        ("mpls,mpls_ttl=1", "d"),
        # Only the outermost label is looked at, and what is behind labels is not.
        ("mpls,mpls_label=101", "c"),
        ("ip", ""),
    ],
)
def test_matching(lab: Lab, match: str, heard: str) -> None:
    """``heard``: which of the frames match; each is named by a letter."""
    frames = {
        "b": frame(lab, V4, (100, 3, 1, 64)),
        "c": frame(lab, V4, (101, 4, 1, 64)),
        "d": frame(lab, V4, (102, 0, 1, 1)),
        "e": frame(lab, V4, (103, 0, 0, 64), (101, 0, 1, 64)),
        "f": frame(lab, V4, (100, 3, 1, 64), kind=MULTICAST),
    }
    lab.switch("s1").ofctl("add-flow", "br0", f"in_port=a,{match},actions=b")
    batch = lab.send_all([("a", one) for one in frames.values()])
    found = "".join(name for name, sent in zip(frames, batch, strict=True) if sent.heard_at)
    assert found == heard
    assert {point for sent in batch for point in sent.heard_at} <= {"b"}


@pytest.mark.parametrize("flows", ["in_port=a,mpls,actions=b,dec_mpls_ttl,c"])
def test_a_ttl_that_runs_out_ends_there(lab: Lab) -> None:
    lab.expect("changed")
    assert lab.send("a", frame(lab, V4, (100, 3, 1, 2))).heard_at == {"b", "c"}
    assert lab.send("a", frame(lab, V4, (100, 3, 1, 1))).heard_at == {"b"}
