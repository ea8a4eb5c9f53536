"""Network Service Header (RFC 8300): frames that are wrapped in one, steered by it, and unwrapped.

Source: ovs-actions(7), "The encap action" and "The decap action"; ovs-fields(7), "Network Service
Header (NSH) Fields".
"""

import pytest
from scapy.contrib.nsh import NSH
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness import Lab

NSH_TYPE = 0x894F
FORWARDER = "02:00:00:00:99:01"
PATH, INDEX, TTL = 0x123, 7, 63
CONTEXT = bytes(range(16))
WRAPPED = 14 + 8 + len(CONTEXT)
"""Outer Ethernet header, base and service path headers, and the context of type 1."""
SET = f"set_field:{PATH:#x}->nsh_spi,set_field:{INDEX}->nsh_si"
OUTER = f"encap(ethernet),set_field:{FORWARDER}->eth_dst"


def frame(lab: Lab) -> Ether:
    head = Ether(src=lab.mac("a"), dst=lab.mac("b"))
    return head / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5000, dport=6000)


def wrapped(lab: Lab, si: int = INDEX) -> Ether:
    """The frame as a classifier sends it."""
    header = NSH(mdtype=1, nextproto=3, spi=PATH, si=si, ttl=TTL, context_header=CONTEXT)
    return Ether(src=lab.mac("a"), dst=FORWARDER, type=NSH_TYPE) / header / frame(lab)


@pytest.mark.parametrize(
    ("flows", "context"),
    [
        pytest.param(
            f"in_port=a,actions=encap(nsh(md_type=1)),{SET},set_field:0x11223344->nsh_c1,{OUTER},b",
            bytes.fromhex("11223344") + bytes(12),
            id="type 1",
        ),
        # Class, type and length of the one TLV, and its value (RFC 8300, 2.5.1).
        pytest.param(
            f"in_port=a,actions=encap(nsh(md_type=2,tlv(0x1000,10,0x12345678))),{SET},{OUTER},b",
            bytes.fromhex("1000 0a 04 12345678"),
            id="type 2",
        ),
    ],
)
def test_a_frame_is_wrapped_whole(lab: Lab, context: bytes) -> None:
    lab.expect("changed")
    sent = lab.send("a", frame(lab))
    assert sent.heard_at == {"b"}
    got = sent.seen_on("b")
    assert (got.packet.dst, got.packet.type) == (FORWARDER, NSH_TYPE)
    header = got.packet[NSH]
    assert (header.nextproto, header.spi, header.si, header.ttl) == (3, PATH, INDEX, TTL)
    assert header.mdtype == (2 if len(context) == 8 else 1)
    assert got.data[22:] == context + sent.frame()


@pytest.mark.parametrize(
    "flows",
    [
        "in_port=a,dl_type=0x894f,actions=decap(),decap(),b",
        f"in_port=a,dl_type=0x894f,nsh_spi={PATH:#x},nsh_si={INDEX},actions=decap(),decap(),b",
    ],
)
def test_a_frame_is_unwrapped_whole(lab: Lab) -> None:
    lab.expect("changed")
    sent = lab.send("a", wrapped(lab))
    assert sent.heard_at == {"b"}
    assert sent.seen_on("b").data == sent.frame()[WRAPPED:]


@pytest.mark.parametrize(
    "flows",
    [
        f"in_port=a,actions=encap(nsh(md_type=1)),{SET},{OUTER},resubmit(,1)\n"
        f"table=1,dl_type=0x894f,nsh_spi={PATH:#x},nsh_si={INDEX},actions=decap(),decap(),b\n"
        "table=1,priority=1,actions=c"
    ],
)
def test_wrapped_and_unwrapped_it_is_as_before(lab: Lab) -> None:
    sent = lab.send("a", frame(lab))
    assert sent.heard_at == {"b"}
    assert sent.seen_on("b").data == sent.frame()


@pytest.mark.parametrize(
    ("match", "heard"),
    [
        ("", "b"),
        ("nsh_spi=0x123", "b"),
        ("nsh_spi=0x124", ""),
        ("nsh_si=7", "b"),
        ("nsh_si=6", ""),
        ("nsh_mdtype=1", "b"),
        ("nsh_mdtype=2", ""),
        ("nsh_np=3", "b"),
        ("nsh_np=1", ""),
        ("nsh_ttl=63", "b"),
        ("nsh_ttl=62", ""),
        ("nsh_mdtype=1,nsh_c1=0x00010203,nsh_c4=0x0c0d0e0f", "b"),
        ("nsh_mdtype=1,nsh_c2=0", ""),
    ],
)
def test_matching(lab: Lab, match: str, heard: str) -> None:
    lab.switch("s1").ofctl("add-flow", "br0", f"in_port=a,dl_type=0x894f,{match},actions=b")
    assert lab.send("a", wrapped(lab)).heard_at == set(heard)
    # What is not wrapped is not looked at.
    assert lab.send("a", frame(lab)).heard_at == set()


@pytest.mark.parametrize(
    "flows",
    [
        f"in_port=a,dl_type=0x894f,nsh_spi={PATH:#x},nsh_si={INDEX},"
        f"actions=set_field:{INDEX - 1}->nsh_si,dec_nsh_ttl,c"
    ],
)
def test_a_service_function_forwards_along_the_path(lab: Lab) -> None:
    lab.expect("changed")
    sent = lab.send("a", wrapped(lab))
    assert sent.heard_at == {"c"}
    got = sent.seen_on("c")
    assert (got.packet[NSH].si, got.packet[NSH].ttl) == (INDEX - 1, TTL - 1)
    assert got.data[22:] == sent.frame()[22:]
    # Out of its path it goes nowhere.
    assert lab.send("a", wrapped(lab, si=INDEX - 1)).heard_at == set()
