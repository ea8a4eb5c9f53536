"""The learn action: a switch that teaches itself.

Source: ovs-actions(7), "The learn action"; the tutorial "Open vSwitch Advanced Features",
"Implementing Table 2".
"""

import pytest

from harness import Lab
from harness.traffic import Reach

MAC_LEARNING = """
table=0,actions=learn(table=1,priority=10,eth_dst=eth_src,output:in_port),resubmit(,1)
table=1,priority=0,actions=flood
"""
FIREWALL = """
in_port=a,actions=learn(table=1,eth_src=eth_dst,eth_dst=eth_src,output:in_port),b
in_port=b,actions=resubmit(,1)
"""
LIMIT = """
table=0,actions=learn(table=1,eth_dst=eth_src,limit=2,result_dst=reg0[0],output:in_port),resubmit(,2)
table=2,reg0=1,actions=d
table=2,reg0=0,actions=in_port
"""
DELETED = """
cookie=7,in_port=a,actions=learn(table=1,cookie=9,delete_learned,eth_dst=eth_src,output:in_port),c
in_port=b,actions=resubmit(,1)
"""


def learned(lab: Lab) -> int:
    """How many flows there are in table 1."""
    return len(lab.switch("s1").ofctl("--no-stats", "dump-flows", "br0", "table=1").splitlines())


@pytest.mark.parametrize("flows", [MAC_LEARNING])
def test_a_bridge_made_of_learn(lab: Lab) -> None:
    unknown = lab.probe("a", to="b")
    assert unknown.heard_at == {"b", "c", "d"}
    assert lab.probe_all().reach == Reach.groups("abcd")
    # Four hosts, and the flow that floods.
    assert learned(lab) == 5


@pytest.mark.parametrize("flows", [MAC_LEARNING])
def test_a_moved_address_is_learned_anew(lab: Lab) -> None:
    lab.announce()
    moved = lab.mac("a")
    assert lab.probe("b", mac=moved).heard_at == {"a"}
    from_there = lab.send(
        "c", bytes.fromhex(f"ffffffffffff{moved.replace(':', '')}88b5") + bytes(46)
    )
    assert from_there.heard_at == {"a", "b", "d"}
    assert lab.probe("b", mac=moved).heard_at == {"c"}


@pytest.mark.parametrize("flows", [FIREWALL])
def test_a_firewall_lets_answers_in(lab: Lab) -> None:
    assert lab.probe("b", to="a").heard_at == set()
    assert lab.probe("a", to="b").heard_at == {"b"}
    assert lab.probe("b", to="a").heard_at == {"a"}
    assert lab.probe("b", to="c").heard_at == set()


@pytest.mark.parametrize("flows", [LIMIT])
def test_no_more_than_the_limit_is_learned(lab: Lab) -> None:
    heard = [lab.probe(name).heard_at for name in "abc"]
    assert heard == [{"d"}, {"d"}, {"c"}]
    assert learned(lab) == 2


@pytest.mark.parametrize("flows", [DELETED])
def test_what_was_learned_goes_with_its_teacher(lab: Lab) -> None:
    switch = lab.switch("s1")
    assert lab.probe("a", to="b").heard_at == {"c"}
    assert lab.probe("b", to="a").heard_at == {"a"}
    switch.ofctl("del-flows", "br0", "cookie=7/-1")
    assert learned(lab) == 0
    assert lab.probe("b", to="a").heard_at == set()
