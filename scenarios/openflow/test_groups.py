"""Groups: all, select, indirect and fast failover.

Source: ovs-actions(7), "The group action" and "Action Sets"; ovs-ofctl(8), "Group Syntax".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from harness import Lab

if TYPE_CHECKING:
    from scenarios.openflow.conftest import SetPort

ALL = """
group_id=1,type=all,bucket=b,bucket=c,bucket=d
"""
BUCKETS_DIFFER = """
group_id=1,type=all,bucket=set_field:02:00:00:00:00:99->eth_dst,output:b,bucket=output:c
"""
FAILOVER = """
group_id=1,type=ff,bucket=watch_port:b,b,bucket=watch_port:c,c,bucket=watch_port:d,d
"""
FAILOVER_TO_ANOTHER = """
group_id=1,type=ff,bucket=watch_port:b,d,bucket=watch_port:c,d
"""
SELECT = """
group_id=1,type=select,bucket=b,bucket=c
"""


@pytest.fixture
def flows() -> str:
    return "in_port=a,actions=group:1"


@pytest.mark.parametrize(
    ("groups", "heard"),
    [
        (ALL, "bcd"),
        ("group_id=1,type=all", ""),
        ("group_id=1,type=indirect,bucket=c", "c"),
        # An action set has one output, and drops what comes back out of its own port.
        ("group_id=1,type=all,bucket=a,bucket=b", "b"),
        ("group_id=1,type=all,bucket=in_port,bucket=b", "ab"),
        ("group_id=1,type=all,bucket=resubmit(,1),bucket=b", "b"),
        # Groups in groups.
        (
            "group_id=2,type=all,bucket=b,bucket=c\ngroup_id=1,type=all,bucket=group:2,bucket=d",
            "bcd",
        ),
        ("group_id=1,type=select,bucket=d", "d"),
    ],
)
def test_buckets(lab: Lab, heard: str) -> None:
    assert lab.probe("a").heard_at == set(heard)
    assert lab.probe("b").heard_at == set()


@pytest.mark.parametrize("groups", [BUCKETS_DIFFER])
def test_each_bucket_starts_from_the_same_packet(lab: Lab) -> None:
    lab.expect("changed")
    sent = lab.probe("a", to="d")
    assert sent.heard_at == {"b", "c"}
    assert sent.seen_on("b").packet.dst == "02:00:00:00:00:99"
    assert sent.seen_on("c").data == sent.frame()


@pytest.mark.parametrize("groups", [BUCKETS_DIFFER])
@pytest.mark.parametrize("flows", ["in_port=a,actions=group:1,d"])
def test_after_a_group_the_packet_is_as_before(lab: Lab) -> None:
    lab.expect("changed")
    sent = lab.probe("a", to="d")
    assert sent.heard_at == {"b", "c", "d"}
    assert sent.seen_on("d").data == sent.frame()


@pytest.mark.parametrize("groups", [SELECT])
def test_select_spreads_flows_each_to_one_bucket(lab: Lab) -> None:
    head = Ether(src=lab.mac("a"), dst=lab.mac("b")) / IP(src="10.0.0.1", dst="10.0.0.2")
    flows = [("a", head / TCP(sport=5000 + n, dport=80)) for n in range(64)]
    rounds = [[sent.heard_at for sent in lab.send_all(flows, count=2)] for _ in range(2)]
    assert set(rounds[0]) == {frozenset("b"), frozenset("c")}
    assert rounds[0] == rounds[1]


BY_ADDRESS = "selection_method=hash,fields(ip_src)"


@pytest.mark.parametrize("groups", [f"group_id=1,type=select,{BY_ADDRESS},bucket=b,bucket=c"])
def test_select_by_the_fields_that_are_named(lab: Lab) -> None:
    def flows(count: int) -> list[tuple[str, Ether]]:
        head = Ether(src=lab.mac("a"), dst=lab.mac("b"))
        return [
            ("a", head / IP(src=f"10.0.{last}.1", dst="10.0.0.2") / UDP(sport=port, dport=80))
            for last in range(count)
            for port in range(5000, 5004)
        ]

    heard = [sent.heard_at for sent in lab.send_all(flows(32))]
    by_address = [set(heard[at : at + 4]) for at in range(0, len(heard), 4)]
    assert [len(found) for found in by_address] == [1] * 32
    assert set().union(*by_address) == {frozenset("b"), frozenset("c")}


@pytest.mark.parametrize("groups", [FAILOVER])
def test_fast_failover_takes_the_first_live_port(lab: Lab, set_port: SetPort) -> None:
    assert lab.probe("a").heard_at == {"b"}
    for port, up, heir in (("b", False, "c"), ("c", False, "d"), ("b", True, "b")):
        set_port(port, up=up)
        assert lab.probe("a").heard_at == {heir}


@pytest.mark.parametrize("groups", [FAILOVER_TO_ANOTHER])
def test_fast_failover_without_a_live_port_drops(lab: Lab, set_port: SetPort) -> None:
    """The watched ports decide, although the one that the frames leave by is up."""
    assert lab.probe("a").heard_at == {"d"}
    for port in "bc":
        set_port(port, up=False)
    assert lab.probe("a").heard_at == set()


@pytest.mark.parametrize("groups", [ALL])
def test_a_group_is_changed_under_its_flows(lab: Lab) -> None:
    switch = lab.switch("s1")
    assert lab.probe("a").heard_at == {"b", "c", "d"}
    switch.ofctl("-O", "OpenFlow13", "mod-group", "br0", "group_id=1,type=indirect,bucket=d")
    assert lab.probe("a").heard_at == {"d"}
    # "When a group is deleted, Open vSwitch also deletes all of the flows that output to it."
    switch.ofctl("-O", "OpenFlow13", "del-groups", "br0", "group_id=1")
    assert lab.probe("a").heard_at == set()
    assert switch.ofctl("dump-flows", "--no-stats", "br0") == ""
