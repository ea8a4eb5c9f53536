"""Where output actions send a frame, and that a bridge without flows sends it nowhere.

Source: ovs-actions(7), "The output action" and "Output to the Input Port"; ovs-ofctl(8),
``mod-port``.
"""

import pytest

from harness import Lab
from harness.traffic import Reach


@pytest.mark.parametrize(
    ("flows", "heard"),
    [
        ("actions=b", "b"),
        ("actions=output:b,c", "bc"),
        ("actions=drop", ""),
        ("actions=all", "bcd"),
        ("actions=flood", "bcd"),
        ("actions=normal", "bcd"),
        # "If the port is the packet's input port, the packet is not output."
        ("actions=a", ""),
        ("actions=a,b,c,d", "bcd"),
        ("actions=in_port", "a"),
        ("actions=all,in_port", "abcd"),
        ("actions=load:0->in_port[],a,b,c,d", "abcd"),
        ("actions=push:NXM_OF_IN_PORT[],load:0->in_port[],a,pop:NXM_OF_IN_PORT[],a,b", "ab"),
        ("actions=local", ""),
        # There is no such port: "All versions of Open vSwitch treat such an action as a no-op."
        ("actions=999,b", "b"),
    ],
)
def test_output(lab: Lab, heard: str) -> None:
    assert lab.probe("a").heard_at == set(heard)


@pytest.mark.parametrize("flows", ["actions=in_port"])
def test_a_hairpin_sends_everything_back(lab: Lab) -> None:
    for name in "abcd":
        assert lab.probe(name, size=1514).heard_at == {name}


def test_a_secure_bridge_without_flows_forwards_nothing(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups(*"abcd")
    assert lab.switch("s1").fdb("br0") == []


@pytest.mark.parametrize(
    ("flag", "flows", "heard"),
    [
        ("no-flood", "actions=flood", {"a": "cd", "b": "acd"}),
        ("no-flood", "actions=normal", {"a": "cd", "b": "acd"}),
        ("no-flood", "actions=all", {"a": "bcd", "b": "acd"}),
        ("no-flood", "actions=b,c", {"a": "bc", "b": "c"}),
        ("no-forward", "actions=all", {"a": "cd", "b": "acd"}),
        ("no-forward", "actions=normal", {"a": "cd", "b": "acd"}),
        ("no-forward", "actions=b,c", {"a": "c", "b": "c"}),
        ("no-receive", "actions=all", {"a": "bcd", "b": ""}),
    ],
)
def test_flags_of_a_port(lab: Lab, flag: str, heard: dict[str, str]) -> None:
    switch = lab.switch("s1")
    switch.ofctl("mod-port", "br0", "b", flag)
    assert {name: lab.probe(name).heard_at for name in heard} == {
        name: set(hosts) for name, hosts in heard.items()
    }
    switch.ofctl("mod-port", "br0", "b", flag.replace("no-", ""))
    assert lab.probe("b").heard_at != set()


@pytest.mark.parametrize("flows", ["actions=output(port=b,max_len=100),c"])
@pytest.mark.parametrize("size", [60, 100, 101, 1514])
def test_truncation_is_for_one_output_only(lab: Lab, size: int) -> None:
    if size > 100:
        lab.expect("changed")
    frame = lab.probe("a", to="b").frame()[:14] + bytes(size - 14)
    sent = lab.send("a", frame)
    assert sent.heard_at == {"b", "c"}
    assert sent.seen_on("b").data == frame[:100]
    assert sent.seen_on("c").data == frame
