"""What ovs-ofctl 2.15 to 4.0 prints, read as data."""

from __future__ import annotations

import pytest

from harness.ovs.dumps import (
    Flow,
    TlvMapping,
    parse_flow,
    parse_flows,
    parse_groups,
    parse_meters,
    parse_tlv_map,
)
from harness.ovs.errors import UnexpectedOutputError


@pytest.mark.parametrize(
    ("line", "flow"),
    [
        (" priority=0 actions=NORMAL", Flow(table=0, priority=0, match="", actions="NORMAL")),
        (" actions=drop", Flow(table=0, priority=32768, match="", actions="drop")),
        (
            " table=1, actions=resubmit(,2)",
            Flow(table=1, priority=32768, match="", actions="resubmit(,2)"),
        ),
        (
            " priority=100,in_port=2 actions=output:1",
            Flow(table=0, priority=100, match="in_port=2", actions="output:1"),
        ),
        (
            " cookie=0x77, idle_timeout=60, hard_timeout=600, send_flow_rem check_overlap"
            " reset_counts no_packet_counts importance=5, priority=10,tcp,dl_vlan=5,"
            "nw_src=10.0.0.0/8,tp_dst=80 actions=pop_vlan,group:1",
            Flow(
                table=0,
                priority=10,
                match="tcp,dl_vlan=5,nw_src=10.0.0.0/8,tp_dst=80",
                actions="pop_vlan,group:1",
                cookie=0x77,
                idle_timeout=60,
                hard_timeout=600,
                importance=5,
                flags=("check_overlap", "no_packet_counts", "reset_counts", "send_flow_rem"),
            ),
        ),
        (
            " table=4, tun_metadata0=0x5 actions=set_field:0x1->tun_metadata1,LOCAL",
            Flow(
                table=4,
                priority=32768,
                match="tun_metadata0=0x5",
                actions="set_field:0x1->tun_metadata1,LOCAL",
            ),
        ),
        (
            " table=6, ct_state=+trk,ip actions=ct(commit,table=7,nat(src=1.1.1.1-1.1.1.9))",
            Flow(
                table=6,
                priority=32768,
                match="ct_state=+trk,ip",
                actions="ct(commit,table=7,nat(src=1.1.1.1-1.1.1.9))",
            ),
        ),
        (
            " priority=5,packet_type=(1,0x800) actions=learn(table=3,priority=7,actions=drop)",
            Flow(
                table=0,
                priority=5,
                match="packet_type=(1,0x800)",
                actions="learn(table=3,priority=7,actions=drop)",
            ),
        ),
        (
            " cookie=0x0, duration=0.263s, table=0, n_packets=7, n_bytes=0, idle_age=0, "
            "hard_age=3, priority=0 actions=NORMAL",
            Flow(table=0, priority=0, match="", actions="NORMAL"),
        ),
        (
            " cookie=0xffffffffffffffff, table=254, idle_timeout=1, ipv6,in_port=LOCAL"
            " actions=drop",
            Flow(
                table=254,
                priority=32768,
                match="ipv6,in_port=LOCAL",
                actions="drop",
                cookie=0xFFFFFFFFFFFFFFFF,
                idle_timeout=1,
            ),
        ),
    ],
)
def test_a_flow(line: str, flow: Flow) -> None:
    assert parse_flow(line) == flow


def test_a_line_that_is_no_flow_is_refused() -> None:
    with pytest.raises(UnexpectedOutputError, match="not a flow"):
        parse_flows("br0 is not a bridge\n")


def test_flows_are_in_an_order_of_their_own_and_headings_are_none() -> None:
    text = (
        "NXST_FLOW reply (xid=0x4):\n"
        " table=1, priority=1 actions=drop\n"
        "OFPST_FLOW reply (OF1.5) (xid=0x4): flags=[more]\n"
        " priority=0 actions=NORMAL\n"
        " priority=9,ip actions=drop\n"
        " priority=9,arp actions=drop\n"
    )
    assert [flow.key for flow in parse_flows(text)] == [
        "table=0,priority=9,arp",
        "table=0,priority=9,ip",
        "table=0,priority=0",
        "table=1,priority=1",
    ]


def test_a_flow_in_words() -> None:
    flow = Flow(
        table=2,
        priority=5,
        match="ip",
        actions="drop",
        cookie=5,
        hard_timeout=3,
        flags=("send_flow_rem",),
    )
    words = "table=2,priority=5,ip,cookie=0x5,hard_timeout=3,send_flow_rem actions=drop"
    assert str(flow) == words


def test_groups() -> None:
    text = (
        "OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):\n"
        " group_id=7,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1\n"
        " group_id=1,type=select,selection_method=hash,fields(ip_src,tcp_src),"
        "bucket=bucket_id:0,weight:10,actions=output:1\n"
    )
    groups = parse_groups(text)
    assert list(groups.items()) == [
        (
            1,
            "type=select,selection_method=hash,fields(ip_src,tcp_src),"
            "bucket=bucket_id:0,weight:10,actions=output:1",
        ),
        (7, "type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1"),
    ]
    assert parse_groups("NXST_GROUP_DESC reply (xid=0x2):\n") == {}


def test_meters() -> None:
    text = (
        "OFPST_METER_CONFIG reply (OF1.5) (xid=0x2):\n"
        "meter=1 pktps burst stats bands=\n"
        "type=drop rate=100 burst_size=10\n"
        "\n"
        "meter=controller kbps bands=\n"
        "type=drop rate=5\n"
    )
    assert parse_meters(text) == {
        "1": "pktps burst stats bands= type=drop rate=100 burst_size=10",
        "controller": "kbps bands= type=drop rate=5",
    }


def test_tlv_map() -> None:
    text = (
        "NXT_TLV_TABLE_REPLY (OF1.5) (xid=0x2):\n"
        " max option space=256 max fields=64\n"
        " allocated option space=12\n"
        "\n"
        " mapping table:\n"
        "  class  type  length  match field\n"
        " ------  ----  ------  --------------\n"
        "    0x3  0x1f       8  tun_metadata10\n"
        " 0xffff     0       4  tun_metadata2\n"
    )
    assert parse_tlv_map(text) == (
        TlvMapping(0xFFFF, 0, 4, "tun_metadata2"),
        TlvMapping(3, 0x1F, 8, "tun_metadata10"),
    )
