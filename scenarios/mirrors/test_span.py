"""SPAN: copies of chosen frames go to one port, which is for nothing else.

Source: ovs-vswitchd.conf.db(5), table Mirror; the FAQ "Configuration", "How do I configure a port
as a SPAN port".
"""

from typing import Any

import pytest

from harness import Lab, Topology

BROADCAST = ""
SELECTIONS = [
    ({"select_all": True}, "ab a- ba b- ac ca c- bc cb"),
    ({"select_src_port": ["a"]}, "ab ac a-"),
    ({"select_dst_port": ["b"]}, "ab cb a- c-"),
    ({"select_src_port": ["a"], "select_dst_port": ["a"]}, "ab ac a- ba ca b- c-"),
    ({"select_src_port": ["a"], "select_dst_port": ["b"]}, "ab ac a- cb c-"),
    ({"select_src_port": ["tap"]}, ""),
]
"""What a mirror selects, and what it copies: ``ab`` is a frame from a to b, ``a-`` a broadcast."""


@pytest.fixture
def selection() -> dict[str, Any]:
    return {"select_all": True}


@pytest.fixture
def topology(selection: dict[str, Any]) -> Topology:
    topo = Topology("span")
    bridge = topo.switch("s1").bridge("br0")
    for name in ("a", "b", "c", "tap"):
        bridge.host(name)
    bridge.mirror("m0", output_port="tap", **selection)
    return topo


@pytest.mark.parametrize(("selection", "copied"), SELECTIONS)
def test_exactly_what_is_selected_is_copied(lab: Lab, copied: str) -> None:
    matrix = lab.probe_all()
    heard = {source + "-": sent.heard_at for source, sent in matrix.broadcast.items()}
    heard |= {a + b: sent.heard_at for (a, b), sent in matrix.unicast.items() if "tap" not in (a, b)}

    def expected(what: str) -> set[str]:
        source, to = what[0], set(what[1:]) - {"-"} or {"a", "b", "c"} - {what[0]}
        return set() if source == "t" else to | ({"tap"} if what in copied.split() else set())

    assert heard == {what: expected(what) for what in heard}


def test_copies_are_the_frames_themselves(lab: Lab) -> None:
    sent = lab.probe("a", to="b", size=1514)
    assert sent.seen_on("tap").data == sent.frame()
