"""Pipelines of several tables: what is found there, and what is carried from one to the next.

Source: ovs-actions(7), "The resubmit action", "The goto_table instruction", "The move action",
"The push and pop actions", "The clone action", "The exit action", "The check_pkt_larger action",
"Action Sets", "Instructions"; ovs-fields(7), "Register Fields".
"""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness import Lab

RESUBMIT = [
    ("actions=resubmit(,1)\ntable=1,actions=b", "b"),
    ("actions=goto_table:1\ntable=1,actions=b", "b"),
    ("actions=b,resubmit(,1),d\ntable=1,actions=c", "bcd"),
    ("actions=resubmit(,1),resubmit(,2)\ntable=1,actions=b\ntable=2,actions=c", "bc"),
    ("actions=goto_table:1\ntable=1,actions=b,goto_table:2\ntable=2,actions=c", "bc"),
    # Only goto_table moves on; what is behind a resubmit is still carried out.
    ("actions=resubmit(,9),b\ntable=9,actions=drop", "b"),
    # A table without a matching flow adds nothing.
    ("actions=resubmit(,1),b\ntable=1,in_port=c,actions=d", "b"),
    ("actions=goto_table:1", ""),
    # The other input port is for the search, and for nothing else.
    ("in_port=a,actions=resubmit(b,1),b\ntable=1,in_port=b,actions=c", "bc"),
    ("in_port=a,actions=resubmit(b,1)\ntable=1,in_port=b,actions=a,in_port", "a"),
    ("in_port=a,actions=resubmit:b\nin_port=b,actions=c", "c"),
    # Backwards, as goto_table can not.
    (
        "actions=resubmit(,1)\ntable=1,actions=resubmit(c,0)\npriority=40000,in_port=c,actions=d",
        "d",
    ),
    # No further actions, in outer levels neither.
    ("actions=resubmit(,1),d\ntable=1,actions=b,exit,c", "b"),
]
CARRY = [
    (
        "actions=load:5->reg0,resubmit(,1)\ntable=1,reg0=5,actions=b\ntable=1,priority=0,actions=c",
        "b",
    ),
    (
        "actions=load:4->reg0,resubmit(,1)\ntable=1,reg0=5,actions=b\ntable=1,priority=0,actions=c",
        "c",
    ),
    ("actions=resubmit(,1)\ntable=1,reg0=0,actions=b", "b"),
    ("actions=set_field:0x50000/0xf0000->reg1,goto_table:1\ntable=1,reg1=0x50000,actions=b", "b"),
    (
        "actions=load:0xabcd->reg0,move:reg0[4..7]->reg1[0..3],goto_table:1\n"
        "table=1,reg1=0xc,actions=b\ntable=1,priority=0,actions=c",
        "b",
    ),
    ("actions=write_metadata:7,goto_table:1\ntable=1,metadata=7,actions=b", "b"),
    (
        "actions=set_field:0xff->metadata,write_metadata:0/0xf,goto_table:1\n"
        "table=1,metadata=0xf0,actions=b",
        "b",
    ),
    (
        "actions=load:1->reg0,push:reg0,load:2->reg0,pop:reg1,goto_table:1\n"
        "table=1,reg0=2,reg1=1,actions=b",
        "b",
    ),
    # Changes made in a table that was resubmitted to are kept …
    (
        "actions=resubmit(,1),resubmit(,2)\ntable=1,actions=load:5->reg0\ntable=2,reg0=5,actions=b",
        "b",
    ),
    # … but not those of a clone.
    (
        "actions=clone(load:5->reg0,c),goto_table:2\ntable=2,reg0=5,actions=d\ntable=2,reg0=0,actions=b",
        "bc",
    ),
    ("actions=load:0->reg0,output:reg0,b", "b"),
]
ACTION_SETS = [
    # At the end of the pipeline, whatever came first.
    ("actions=write_actions(output:b),goto_table:1\ntable=1,actions=c", "bc"),
    # "The one added to the set later replaces the earlier action".
    ("actions=write_actions(output:b),goto_table:1\ntable=1,actions=write_actions(output:c)", "c"),
    ("actions=write_actions(output:b),goto_table:1\ntable=1,actions=clear_actions", ""),
    (
        "actions=write_actions(output:b),goto_table:1\n"
        "table=1,actions=clear_actions,write_actions(output:d)",
        "d",
    ),
    # "Actions in the action set are still executed."
    pytest.param(
        "actions=write_actions(output:b),goto_table:1\ntable=1,actions=c,exit,d",
        "bc",
        id="exit",
    ),
]


@pytest.mark.parametrize(("flows", "heard"), [*RESUBMIT, *CARRY, *ACTION_SETS])
def test_pipeline(lab: Lab, heard: str) -> None:
    sent = lab.probe("a")
    assert sent.heard_at == set(heard)


@pytest.mark.parametrize("to", "bcd")
def test_output_to_the_port_in_a_register(lab: Lab, to: str) -> None:
    switch = lab.switch("s1")
    flow = f"actions=load:{switch.ofport(to)}->reg0[0..15],output:reg0[0..15]"
    switch.ofctl("add-flow", "br0", flow)
    assert lab.probe("a").heard_at == {to}


CHECK = """
actions=check_pkt_larger(200)->reg0[0],resubmit(,1)
table=1,reg0=1,actions=b
table=1,reg0=0,actions=c
"""


@pytest.mark.requires("datapath:Check pkt length action")
@pytest.mark.parametrize("flows", [CHECK])
@pytest.mark.parametrize(("size", "to"), [(60, "c"), (200, "c"), (201, "b"), (1514, "b")])
def test_frames_are_told_apart_by_length(lab: Lab, size: int, to: str) -> None:
    assert lab.probe("a", size=size).heard_at == {to}


LOOP = """
in_port=a,actions=b,resubmit(,1)
table=1,actions=resubmit(,1)
in_port=c,actions=d
"""


@pytest.mark.parametrize("flows", [LOOP])
def test_an_endless_loop_ends(lab: Lab) -> None:
    # "Recursion too deep … terminates packet processing", of this packet and not of others.
    sent = lab.probe("a")
    assert sent.heard_at <= {"b"}
    assert lab.probe("c").heard_at == {"d"}


CHANGE = """
udp,actions=mod_nw_dst:10.0.0.9,resubmit(,1)
table=1,priority=1,ip,actions=b
table=1,priority=2,ip,nw_dst=10.0.0.9,actions=c
"""


@pytest.mark.parametrize("flows", [CHANGE])
def test_the_next_table_sees_what_the_first_one_changed(lab: Lab) -> None:
    lab.expect("changed")
    head = Ether(src=lab.mac("a"), dst=lab.mac("b")) / IP(src="10.0.0.1", dst="10.0.0.2")
    sent = lab.send("a", head / UDP(sport=1, dport=2))
    assert sent.heard_at == {"c"}
    assert sent.seen_on("c").packet[IP].dst == "10.0.0.9"
