"""Flows that are added, changed and deleted, by cookie, in bundles and by their own timeouts.

Source: ovs-ofctl(8): ``add-flow``, ``mod-flows``, ``del-flows``, ``replace-flows``, ``--strict``,
``--bundle``, "Flow Syntax" (cookie, timeouts, check_overlap).
"""

import pytest

from harness import Lab
from harness.nodes.base import CommandFailed
from harness.ovs.switch import Switch
from harness.polling import eventually

THREE = """
cookie=0x11,priority=30,in_port=a,actions=b
cookie=0x12,priority=30,in_port=b,actions=c
cookie=0x21,priority=10,actions=d
"""
ALL_THREE = {"a": "b", "b": "c", "c": "d"}


@pytest.fixture
def flows() -> str:
    return THREE


def heard(lab: Lab) -> dict[str, str]:
    """Who hears each of three hosts, once the switch has taken every change."""
    return {name: "".join(sorted(lab.probe(name).heard_at)) for name in "abc"}


@pytest.mark.parametrize(
    ("command", "then"),
    [
        (["del-flows", "br0", "cookie=0x11/-1"], {"a": "d", "b": "c", "c": "d"}),
        (["del-flows", "br0", "cookie=0x10/0xf0"], {"a": "d", "b": "d", "c": "d"}),
        (["del-flows", "br0", "cookie=0x21/0xffff"], {"a": "b", "b": "c", "c": ""}),
        (["del-flows", "br0", "cookie=0x33/-1"], ALL_THREE),
        (["del-flows", "br0", "in_port=a"], {"a": "d", "b": "c", "c": "d"}),
        (["del-flows", "br0", "out_port=c"], {"a": "b", "b": "d", "c": "d"}),
        (["del-flows", "br0"], {"a": "", "b": "", "c": ""}),
        # With --strict, only the flow with just this match and this priority.
        (["--strict", "del-flows", "br0", "priority=29,in_port=a"], ALL_THREE),
        (["--strict", "del-flows", "br0", "priority=30,in_port=a"], {"a": "d", "b": "c", "c": "d"}),
        (["--strict", "del-flows", "br0", "priority=10"], {"a": "b", "b": "c", "c": ""}),
        (["mod-flows", "br0", "in_port=a,actions=c"], {"a": "c", "b": "c", "c": "d"}),
        (["mod-flows", "br0", "actions=in_port"], {"a": "a", "b": "b", "c": "c"}),
        (["mod-flows", "br0", "cookie=0x10/0xf0,actions=drop"], {"a": "", "b": "", "c": "d"}),
        # Nothing matches, and nothing is added.
        (["mod-flows", "br0", "cookie=0x33/-1,in_port=c,actions=a"], ALL_THREE),
        (
            ["--strict", "mod-flows", "br0", "priority=30,in_port=b,actions=d"],
            {**ALL_THREE, "b": "d"},
        ),
        (["add-flow", "br0", "priority=30,in_port=a,actions=c"], {**ALL_THREE, "a": "c"}),
        (["add-flow", "br0", "priority=5,in_port=a,actions=c"], ALL_THREE),
    ],
)
def test_a_change_takes_effect_on_frames(
    lab: Lab, command: list[str], then: dict[str, str]
) -> None:
    assert heard(lab) == ALL_THREE
    lab.switch("s1").ofctl(*command)
    assert heard(lab) == then


def test_replace_flows(lab: Lab) -> None:
    assert heard(lab) == ALL_THREE
    text = "priority=30,in_port=a,actions=c\npriority=1,in_port=c,actions=a\n"
    lab.switch("s1").ofctl("replace-flows", "br0", "-", stdin=text)
    assert heard(lab) == {"a": "c", "b": "", "c": "a"}


@pytest.mark.requires("openflow:OpenFlow14")
def test_a_bundle_is_all_or_nothing(lab: Lab) -> None:
    switch = lab.switch("s1")
    before = switch.state()
    with pytest.raises(CommandFailed):
        # A group that there is not.
        switch.ofctl(
            *("-O", "OpenFlow14", "--bundle", "add-flows", "br0", "-"),
            stdin="delete\npriority=99,in_port=a,actions=d\npriority=99,in_port=b,actions=group:77\n",
        )
    assert switch.state() == before
    assert heard(lab) == ALL_THREE
    switch.ofctl(
        *("-O", "OpenFlow14", "--bundle", "add-flows", "br0", "-"),
        stdin="delete\npriority=99,in_port=a,actions=d\n",
    )
    assert heard(lab) == {"a": "d", "b": "", "c": ""}


def test_overlapping_flows_are_refused_when_asked(lab: Lab) -> None:
    overlapping = "check_overlap,priority=30,dl_type=0x88b5,actions=d"
    with pytest.raises(CommandFailed, match="OVERLAP"):
        lab.switch("s1").ofctl("add-flow", "br0", overlapping)
    assert heard(lab) == ALL_THREE
    lab.switch("s1").ofctl("add-flow", "br0", overlapping.replace("priority=30", "priority=31"))
    assert heard(lab) == {"a": "d", "b": "d", "c": "d"}


def test_flows_end_by_their_timeouts(lab: Lab) -> None:
    switch = lab.switch("s1")
    switch.ofctl(
        *("add-flows", "br0", "-"),
        stdin=(
            "priority=40,hard_timeout=1,in_port=a,actions=c\n"
            "priority=40,idle_timeout=1,in_port=b,actions=d\n"
            "priority=40,idle_timeout=600,hard_timeout=600,in_port=c,actions=a\n"
        ),
    )
    assert timed(switch) == {"a", "b", "c"}
    eventually(lambda: timed(switch), lambda left: left == {"c"}, within=60, what="timeouts")
    assert heard(lab) == {"a": "b", "b": "c", "c": "a"}


def timed(switch: Switch) -> set[str]:
    """The ports of flows that have a timeout."""
    rows = switch.ofctl("--names", "--no-stats", "dump-flows", "br0").splitlines()
    return {row.partition("in_port=")[2].strip('"')[0] for row in rows if "_timeout" in row}
