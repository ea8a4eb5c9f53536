"""The active member of a bond stays the active one over a restart.

Source: ovs-vswitchd.conf.db(5), Port ``bond_active_slave``: "For a bonded port, record the MAC
address of the current active member"; commit 3e5aeeb5 ("bridge: Keep bond active slave selection
across OVS restart") says what for.
"""

import re

import pytest

from harness import Lab, Topology
from harness.ovs.switch import Switch
from harness.polling import eventually

MEMBERS = ("w1", "w2", "w3", "w4")
CHOSEN = ("w3", "w1", "w4", "w2", "w4", "w1")
"""One after the other; a switch that does not remember takes any."""


@pytest.fixture
def topology() -> Topology:
    topo = Topology("bond-over-restart")
    wires = [topo.underlay(name) for name in MEMBERS]
    bridge = topo.switch("s1").bridge("br0")
    bridge.bond("bond0", wires, mode="active-backup")
    bridge.host("a")
    return topo


def active(switch: Switch) -> str:
    """The active member, once all carry traffic; until then ``none``."""
    shown = switch.unixctl("bond/show", "bond0")
    if len(re.findall(r"^(?:member|slave) \S+: enabled$", shown, re.MULTILINE)) < len(MEMBERS):
        return "none"
    (name,) = re.findall(r"^active (?:member|slave) mac: \S+\((.+)\)$", shown, re.MULTILINE)
    return str(name)


def settled(switch: Switch) -> str:
    return eventually(lambda: active(switch), lambda name: name != "none", within=60, what="a bond")


def choose(switch: Switch, member: str) -> None:
    """Make a member the active one, and wait until that is recorded."""
    settled(switch)
    switch.unixctl("bond/set-active-slave", "bond0", member)
    assert active(switch) == member
    (interface,) = switch.db("Interface", ["mac_in_use"], where={"name": member})
    eventually(
        lambda: switch.db("Port", ["bond_active_slave"], where={"name": "bond0"}),
        lambda rows: rows[0]["bond_active_slave"] == interface["mac_in_use"],
        within=60,
        what="the record of the active member",
    )


def test_the_active_member_outlives_restarts(lab: Lab) -> None:
    switch = lab.switch("s1")
    after = []
    for member in CHOSEN:
        choose(switch, member)
        switch.restart()
        after.append(settled(switch))
    assert after == [*CHOSEN]
