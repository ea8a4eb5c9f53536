"""What a bridge does by itself: ``standalone`` switches, ``secure`` waits for flows.

Source: ovs-vswitchd.conf.db(5), table Bridge, ``fail_mode``.
"""

import pytest

from harness import Lab, Topology
from harness.polling import eventually
from harness.topology.model import FailMode
from harness.traffic import Reach

TOGETHER = Reach.groups({"a", "b", "c"})
APART = Reach.groups({"a"}, {"b"}, {"c"})


def bridge_in(fail_mode: FailMode | None) -> Topology:
    topo = Topology("fail-mode")
    bridge = topo.switch("sw").bridge("br0", fail_mode=fail_mode)
    for name in ("a", "b", "c"):
        bridge.host(name)
    return topo


def flows(lab: Lab) -> str:
    """All of a bridge's flows, the hidden ones as well."""
    return lab.switch("sw").unixctl("bridge/dump-flows", "br0")


@pytest.mark.parametrize(
    ("topology", "reach"),
    [
        (bridge_in("standalone"), TOGETHER),
        # "The default is standalone if the value is unset."
        (bridge_in(None), TOGETHER),
        (bridge_in("secure"), APART),
    ],
    ids=["standalone", "unset", "secure"],
)
def test_bridge_without_controller(lab: Lab, reach: Reach) -> None:
    assert lab.probe_all().reach == reach


@pytest.mark.parametrize("topology", [bridge_in("secure")], ids=["secure"])
def test_secure_bridge_forwards_what_its_flows_say(lab: Lab) -> None:
    lab.switch("sw").ofctl("add-flow", "br0", "in_port=a,actions=output:b")
    heard = {"a": frozenset({"b"}), "b": frozenset[str](), "c": frozenset[str]()}
    got = lab.probe_all().reach
    assert got.broadcast == heard
    assert got.unicast == heard


@pytest.mark.parametrize(
    ("before", "after", "reach"),
    [("standalone", "secure", APART), ("secure", "standalone", TOGETHER)],
)
class TestChange:
    @pytest.fixture
    def topology(self, before: FailMode) -> Topology:
        return bridge_in(before)

    def test_change_clears_the_flows(self, lab: Lab, after: str, reach: Reach) -> None:
        # "Changing fail_mode when no primary controllers are configured clears the OpenFlow flow
        # tables, group table, and meter table."
        lab.switch("sw").ofctl("add-flow", "br0", "priority=9,in_port=a,actions=output:b")
        lab.switch("sw").vsctl("set-fail-mode", "br0", after)
        assert "priority=9" not in flows(lab)
        assert lab.probe_all().reach == reach


@pytest.mark.parametrize(
    ("topology", "reach"),
    [(bridge_in("standalone"), TOGETHER), (bridge_in("secure"), APART)],
    ids=["standalone", "secure"],
)
def test_bridge_whose_controller_cannot_be_reached(lab: Lab, reach: Reach) -> None:
    # Open vSwitch takes over after three times the inactivity probe interval. Zero turns the probes
    # off, and three times that is at once.
    unreachable = ("set-controller", "br0", "tcp:127.0.0.1:9")
    lab.switch("sw").vsctl(*unreachable, "--", "set", "Controller", "br0", "inactivity_probe=0")
    if reach == TOGETHER:
        eventually(
            lambda: flows(lab),
            lambda said: "actions=NORMAL" in said,
            within=60,
            what="the bridge takes over from its controller",
        )
    assert lab.probe_all().reach == reach
