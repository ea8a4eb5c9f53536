"""SPAN by VLAN, and the VLAN tags of the copies.

Source: ovs-vswitchd.conf.db(5), table Mirror, "Selecting Packets for Mirroring", and table Port,
"VLAN Configuration", for the tags with which a frame leaves by the output port.
"""

from typing import Any

import pytest

from harness import Lab, Topology

FRAMES: dict[str, tuple[str, list[int], str | None]] = {
    "in 10": ("a10", [], "b10"),
    "to 10": ("trunk", [10], "a10"),
    "from 10": ("a10", [], "trunk"),
    "in 20": ("a20", [], "trunk"),
    "in 0": ("trunk", [], None),
}
"""From where, with which tags, and to whom (None: to everybody)."""
EVERY_PORT = {"select_all": True}


@pytest.fixture
def mirror() -> dict[str, Any]:
    return EVERY_PORT


@pytest.fixture
def tap() -> dict[str, Any]:
    return {}


@pytest.fixture
def topology(mirror: dict[str, Any], tap: dict[str, Any]) -> Topology:
    topo = Topology("span-vlans")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("a10", tag=10)
    bridge.host("b10", tag=10)
    bridge.host("a20", tag=20)
    bridge.host("trunk")
    bridge.host("tap", **tap)
    bridge.mirror("m0", output_port="tap", **mirror)
    return topo


def copies(lab: Lab) -> dict[str, list[int]]:
    """The VLAN IDs of the copy of each of FRAMES that has one; nobody else hears more or less."""
    lab.announce("a10", "b10", "a20")
    for vlan in (10, 20):
        lab.probe("trunk", vlan=vlan)
    found = {}
    for what, (source, tags, to) in FRAMES.items():
        sent = lab.probe(source, to=to, vlan=tags)
        assert sent.heard_at - {"tap"} == ({to} if to else set())
        if "tap" in sent.heard_at:
            found[what] = sent.seen_on("tap").vlan_ids
    return found


@pytest.mark.parametrize(
    ("mirror", "copied"),
    [
        ({**EVERY_PORT, "select_vlan": [10]}, {"in 10": [10], "to 10": [10], "from 10": [10]}),
        ({**EVERY_PORT, "select_vlan": [20]}, {"in 20": [20]}),
        ({**EVERY_PORT, "select_vlan": [0]}, {"in 0": []}),
        ({**EVERY_PORT, "select_vlan": [0, 20]}, {"in 0": [], "in 20": [20]}),
        (
            EVERY_PORT,
            {"in 10": [10], "to 10": [10], "from 10": [10], "in 20": [20], "in 0": []},
        ),
    ],
)
def test_only_selected_vlans_are_copied(lab: Lab, copied: dict[str, list[int]]) -> None:
    assert copies(lab) == copied


@pytest.mark.parametrize(
    ("mirror", "copied"),
    [
        # "A given packet must enter or leave the bridge through a selected port and it must also be
        # in one of the selected VLANs."
        ({"select_src_port": ["trunk"], "select_vlan": [10]}, {"to 10": [10]}),
        ({"select_dst_port": ["trunk"], "select_vlan": [10]}, {"from 10": [10]}),
        ({"select_src_port": ["trunk"], "select_vlan": [20]}, {}),
        ({"select_src_port": ["a20"], "select_vlan": [20]}, {"in 20": [20]}),
    ],
)
def test_port_and_vlan_must_both_be_selected(lab: Lab, copied: dict[str, list[int]]) -> None:
    assert copies(lab) == copied


@pytest.mark.parametrize(
    ("tap", "tags"),
    [
        pytest.param({}, [[10], [20]], id="trunk"),
        pytest.param({"tag": 99}, [[], []], id="access"),
        pytest.param({"tag": 10, "vlan_mode": "native-untagged"}, [[], [20]], id="native-untagged"),
        pytest.param({"tag": 10, "vlan_mode": "native-tagged"}, [[10], [20]], id="native-tagged"),
    ],
)
def test_the_output_port_tags_copies_as_it_tags_frames(lab: Lab, tags: list[list[int]]) -> None:
    found = copies(lab)
    assert [found["in 10"], found["in 20"]] == tags
    assert found["in 10"] == found["to 10"] == found["from 10"]
