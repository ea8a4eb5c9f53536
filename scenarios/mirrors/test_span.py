"""SPAN: copies of chosen frames go to one port, which is for nothing else.

Source: ovs-vswitchd.conf.db(5), table Mirror; the FAQ "Configuration", "How do I configure a port
as a SPAN port".
"""

from itertools import permutations
from typing import Any

import pytest
from scapy.layers.l2 import Ether

from harness import Lab, Topology

HOSTS = "abc"
TAP = "t"
SELECTIONS = [
    ({"select_all": True}, "ab ac at a- ba bc bt b- ca cb ct c-"),
    ({"select_src_port": ["a"]}, "ab ac at a-"),
    ({"select_dst_port": ["b"]}, "ab at a- cb ct c-"),
    ({"select_src_port": ["a"], "select_dst_port": ["a"]}, "ab ac at a- ba bt b- ca ct c-"),
    ({"select_src_port": ["a"], "select_dst_port": ["b"]}, "ab ac at a- cb ct c-"),
    ({"select_src_port": [TAP]}, ""),
]
"""What a mirror selects, and the frames that it copies: ``ab`` from a to b, ``a-`` a broadcast."""
BPDU = "01:80:c2:00:00:00"
NEW_MAC = "02:aa:aa:aa:aa:aa"


@pytest.fixture
def selection() -> dict[str, Any]:
    return {"select_all": True}


@pytest.fixture
def topology(selection: dict[str, Any]) -> Topology:
    topo = Topology("span")
    bridge = topo.switch("s1").bridge("br0")
    for name in HOSTS + TAP:
        bridge.host(name)
    bridge.mirror("m0", output_port=TAP, **selection)
    return topo


def without_mirror(what: str) -> set[str]:
    """Who hears a frame: nobody hears the tap's, and nobody knows where the tap is."""
    source, to = list(what)
    if source == TAP:
        return set()
    return {to} if to in HOSTS else set(HOSTS) - {source}


@pytest.mark.parametrize(("selection", "copied"), SELECTIONS)
def test_what_is_selected_is_copied_and_nothing_else(lab: Lab, copied: str) -> None:
    matrix = lab.probe_all()
    heard = {source + "-": sent.heard_at for source, sent in matrix.broadcast.items()}
    heard |= {a + b: sent.heard_at for (a, b), sent in matrix.unicast.items()}
    assert heard == {
        what: without_mirror(what) | ({TAP} if what in copied.split() else set())
        for what in (a + b for a, b in permutations(HOSTS + TAP + "-", 2) if a != "-")
    }


def test_a_copy_is_the_whole_frame(lab: Lab) -> None:
    lab.announce("b")
    sent = lab.probe("a", to="b", size=1514)
    assert sent.heard_at == {"b", TAP}
    assert sent.seen_on(TAP).data == sent.frame()


def test_what_the_bridge_does_not_forward_is_copied_too(lab: Lab) -> None:
    # Without other_config:forward-bpdu a bridge drops what is for 01:80:c2:00:00:0x.
    sent = lab.send("a", Ether(src=lab.mac("a"), dst=BPDU))
    assert sent.heard_at == {TAP}


@pytest.mark.parametrize("selection", [{"select_src_port": ["a"]}])
def test_several_mirrors_copy_to_a_port_once(lab: Lab) -> None:
    lab.switch("s1").vsctl(
        *("--", "--id=@b", "get", "Port", "b", "--", "--id=@t", "get", "Port", TAP),
        *("--", "--id=@m", "create", "Mirror", "name=m1", "select-dst-port=@b", "output-port=@t"),
        *("--", "add", "Bridge", "br0", "mirrors", "@m"),
    )
    lab.announce()
    batch = lab.send_all(
        (source, Ether(src=lab.mac(source), dst=lab.mac(to))) for source, to in ("ab", "ac", "cb")
    )
    # By both mirrors, by the first, by the second.
    assert [sent.count_at(TAP) for sent in batch] == [1, 1, 1]
    assert [sent.heard_at for sent in batch] == [{"b", TAP}, {"c", TAP}, {"b", TAP}]


@pytest.mark.parametrize("selection", [{"select_src_port": ["a"]}])
def test_two_mirrors_copy_to_two_ports(lab: Lab) -> None:
    lab.switch("s1").vsctl(
        *("--", "--id=@b", "get", "Port", "b", "--", "--id=@c", "get", "Port", "c"),
        *("--", "--id=@m", "create", "Mirror", "name=m1", "select-dst-port=@b", "output-port=@c"),
        *("--", "add", "Bridge", "br0", "mirrors", "@m"),
    )
    lab.announce("a", "b")
    assert lab.probe("a", to="b").heard_at == {"b", "c", TAP}
    assert lab.probe("b", to="a").heard_at == {"a"}


def test_without_mirrors_the_port_is_an_ordinary_one_again(lab: Lab) -> None:
    lab.switch("s1").vsctl("clear", "Bridge", "br0", "mirrors")
    lab.announce()
    assert lab.probe("a", to="b").heard_at == {"b"}
    assert lab.probe("a", to=TAP).heard_at == {TAP}
    assert lab.probe(TAP, to="a").heard_at == {"a"}


@pytest.mark.parametrize(
    ("selection", "seen"),
    [
        # "Modifications made before the first output that makes it eligible … are visible."
        pytest.param({"select_src_port": ["a"]}, ["as it came"], id="src"),
        pytest.param({"select_dst_port": ["b"]}, ["as it went"], id="dst"),
        # Documented as once, by its ingress; from 3.3 on once again when it is changed:
        # docs/findings/mirror-copies-changed-frames-again.md.
        pytest.param({"select_all": True}, ["as it came", "as it went"], id="all"),
    ],
)
def test_a_mirror_sees_the_frame_as_it_is_there(lab: Lab, seen: list[str]) -> None:
    lab.expect("changed", "duplicates")
    lab.switch("s1").ofctl("add-flow", "br0", f"in_port=a,actions=mod_dl_src:{NEW_MAC},b")
    sent = lab.probe("a", to="b")
    assert sent.heard_at == {"b", TAP}
    assert sent.seen_on("b").packet.src == NEW_MAC
    words = {lab.mac("a"): "as it came", NEW_MAC: "as it went"}
    copies = [words[copy.packet.src] for copy in sent.all_on(TAP)]
    assert copies in (seen, seen[:1])


@pytest.mark.parametrize("selection", [{"select_all": True, "snaplen": 100}])
@pytest.mark.parametrize(("size", "copied"), [(99, 99), (100, 100), (101, 100), (1514, 100)])
def test_snaplen_cuts_the_copy_only(lab: Lab, size: int, copied: int) -> None:
    if copied < size:
        lab.expect("changed")
    lab.announce("b")
    frame = bytes(Ether(src=lab.mac("a"), dst=lab.mac("b"))) + bytes(size - 14)
    sent = lab.send("a", frame)
    assert sent.heard_at == {"b", TAP}
    assert sent.seen_on("b").data == frame
    assert sent.seen_on(TAP).data == frame[:copied]
