"""What actions do to VLAN tags.

Source: ovs-actions(7), "The strip_vlan and pop actions", "The push_vlan action", "The set_field and
load actions", "Inconsistencies"; ovs-fields(7), "VLAN Fields"; OpenFlow 1.0, table 5, for
mod_vlan_vid and mod_vlan_pcp. Two tags need other_config:vlan-limit=2 (ovs-vswitchd.conf.db(5),
table Open_vSwitch).

A frame is written as its tags from the outermost: ``10``, ``10p5`` with a priority, ``ad`` for an
802.1ad tag, ``-`` for none.
"""

import re

import pytest

from harness import Lab, Topology
from harness.traffic import Tag

CASES = [
    # what the flow matches, its actions, and frames: as they come and as they go.
    ("dl_vlan=20", "strip_vlan", {"20": "-", "20p5": "-", "20 30": "30", "20ad 30": "30"}),
    (
        "dl_vlan=20",
        "mod_vlan_vid:10",
        {"20": "10", "20p5": "10p5", "20ad": "10ad", "20 30": "10 30"},
    ),
    ("dl_vlan=20", "mod_vlan_pcp:6", {"20": "20p6", "20p5": "20p6", "20 30": "20p6 30"}),
    ("dl_vlan=20", "set_field:4106->vlan_vid", {"20": "10", "20p5": "10p5"}),
    ("dl_vlan=20", "set_field:6->vlan_pcp", {"20p1": "20p6"}),
    ("dl_vlan=20", "load:10->vlan_tci[0..11]", {"20p5": "10p5"}),
    ("vlan_tci=0", "push_vlan:0x8100,set_field:4106->vlan_vid", {"-": "10"}),
    ("vlan_tci=0", "push_vlan:0x88a8,set_field:4106->vlan_vid", {"-": "10ad"}),
    ("vlan_tci=0", "push_vlan:0x8100", {"-": "0"}),
    (
        "dl_vlan=20",
        "push_vlan:0x88a8,set_field:4106->vlan_vid",
        {"20": "10ad 20", "20p5": "10ad 20p5"},
    ),
    ("dl_vlan=20", "push_vlan:0x8100,set_field:4106->vlan_vid", {"20": "10 20"}),
    (
        "vlan_tci=0",
        "push_vlan:0x8100,set_field:4126->vlan_vid,push_vlan:0x88a8,set_field:4106->vlan_vid",
        {"-": "10ad 30"},
    ),
    ("dl_vlan=20", "pop_vlan,push_vlan:0x88a8,set_field:4106->vlan_vid", {"20": "10ad"}),
    ("", "set_field:0->vlan_tci", {"-": "-", "20": "-", "20p5": "-"}),
]
OPENFLOW10 = [
    # What OpenFlow 1.1 and later refuse: "When OVS executes an action inconsistent with the packet,
    # it treats it as a no-op."
    ("", "strip_vlan", {"-": "-", "20": "-"}),
    ("", "strip_vlan,strip_vlan", {"-": "-", "20": "-", "20 30": "-"}),
    # "If no VLAN is present, a new header is added."
    ("", "mod_vlan_vid:10", {"-": "10", "20": "10", "20p5": "10p5"}),
    ("", "mod_vlan_pcp:5", {"-": "0p5", "20": "20p5"}),
]


def mac(number: int) -> str:
    return f"02:00:00:00:ff:{number:02x}"


def tags(text: str) -> list[Tag]:
    found = re.finditer(r"(\d+)(?:p(\d))?(ad)?", text)
    return [
        Tag.of(int(vid), pcp=int(pcp or 0), tpid=0x88A8 if ad else 0x8100)
        for vid, pcp, ad in (match.groups() for match in found)
    ]


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("vlan-actions")
    bridge = topo.switch("s1", other_config={"vlan-limit": "2"}).bridge("br0", fail_mode="secure")
    for name in "abc":
        bridge.host(name)
    for number, (match, actions, _frames) in enumerate(CASES):
        words = [f"dl_dst={mac(number)}", match, f"actions={actions},b"]
        bridge.flow(",".join(filter(None, words)))
    return topo


@pytest.fixture(scope="module")
def with_openflow10(module_lab: Lab) -> Lab:
    for number, (_match, actions, _frames) in enumerate(OPENFLOW10, len(CASES)):
        flow = f"dl_dst={mac(number)},actions={actions},b"
        module_lab.switch("s1").ofctl("-O", "OpenFlow10", "add-flow", "br0", flow)
    return module_lab


@pytest.mark.parametrize(
    ("number", "came", "goes"),
    [
        pytest.param(number, came, goes, id=f"{actions} on {came}")
        for number, (_match, actions, frames) in enumerate([*CASES, *OPENFLOW10])
        for came, goes in frames.items()
    ],
)
def test_tags(with_openflow10: Lab, number: int, came: str, goes: str) -> None:
    # Whatever came before: see the test of a second tag below.
    with_openflow10.switch("s1").unixctl("revalidator/purge")
    sent = with_openflow10.probe("a", mac=mac(number), vlan=tags(came))
    assert sent.heard_at == {"b"}
    assert list(sent.seen_on("b").tags) == tags(goes)


@pytest.mark.parametrize(
    ("number", "came"),
    [
        pytest.param(number, came, id=f"{match} and {came}")
        for number, (match, _actions, _frames) in enumerate(CASES)
        if match
        for came in (["-", "30", "0"] if match == "dl_vlan=20" else ["20", "0"])
    ],
)
def test_other_tags_do_not_match(module_lab: Lab, number: int, came: str) -> None:
    assert module_lab.probe("a", mac=mac(number), vlan=tags(came)).heard_at == set()


@pytest.fixture(scope="module")
def in_order(module_lab: Lab) -> str:
    """An address whose frames go out before and after they get another VLAN ID."""
    flow = f"dl_dst={mac(255)},dl_vlan=20,actions=b,mod_vlan_vid:10,c"
    module_lab.switch("s1").ofctl("add-flow", "br0", flow)
    return mac(255)


def test_actions_are_carried_out_in_order(module_lab: Lab, in_order: str) -> None:
    # The FAQ "OpenFlow": what comes after an output does not change what went out.
    sent = module_lab.probe("a", mac=in_order, vlan=20)
    assert sent.heard_at == {"b", "c"}
    assert (sent.seen_on("b").vlan_ids, sent.seen_on("c").vlan_ids) == ([20], [10])


def test_a_second_tag_is_stripped_whatever_came_before(with_openflow10: Lab) -> None:
    number = len(CASES) + [actions for _, actions, _ in OPENFLOW10].index("strip_vlan,strip_vlan")
    with_openflow10.switch("s1").unixctl("revalidator/purge")
    seen = [
        with_openflow10.probe("a", mac=mac(number), vlan=tags(came)).seen_on("b").vlan_ids
        for came in ("-", "20", "20 30")
    ]
    assert seen == [[], [], []]
