"""Protected ports: what is behind one does not hear what is behind another.

Source: ovs-vswitchd.conf.db(5), table Port, column ``protected``: "Traffic between protected ports
is blocked. Protected ports can send traffic to unprotected ports. Unprotected ports can send
traffic to any port."
"""

import pytest

from harness import Lab, Topology
from harness.polling import eventually
from harness.traffic import Reach

PROTECTED, OPEN = frozenset(["p1", "p2", "p3"]), frozenset(["o1", "o2"])
HOSTS = PROTECTED | OPEN
LOCAL = "sw:br0"
"""The bridge's local port, which is protected here too, and hears what is for nobody else."""


@pytest.fixture
def topology() -> Topology:
    topo = Topology("protected")
    bridge = topo.switch("sw").bridge("br0", protected=True, local=True)
    for name in sorted(PROTECTED):
        bridge.host(name, protected=True)
    for name in sorted(OPEN):
        bridge.host(name)
    return topo


def test_protected_hosts_hear_the_others_alone(lab: Lab) -> None:
    heard = {name: OPEN if name in PROTECTED else HOSTS - {name} for name in HOSTS}
    flooded = heard | {name: heard[name] | {LOCAL} for name in OPEN}
    assert lab.probe_all().reach == Reach(heard, flooded)


def test_the_local_port_can_be_protected_too(lab: Lab) -> None:
    assert lab.probe(LOCAL).heard_at == OPEN
    for name in PROTECTED:
        assert lab.probe(name).heard_at == OPEN
    assert lab.probe("o1").heard_at == {LOCAL, "o2"} | PROTECTED


def test_addresses_that_are_not_known_are_not_flooded_there_either(lab: Lab) -> None:
    nobody = "02:00:00:00:77:01"
    assert lab.probe("p1", mac=nobody).heard_at == OPEN
    assert lab.probe("o1", mac=nobody).heard_at == {LOCAL, "o2"} | PROTECTED


@pytest.mark.parametrize(
    ("actions", "heard"),
    [("p2", ""), ("p2,o1", "o1"), ("all", "o1 o2"), ("flood", "o1 o2"), ("local,o2", "o2")],
)
def test_a_flow_cannot_send_there_either(lab: Lab, actions: str, heard: str) -> None:
    lab.switch("sw").ofctl("add-flow", "br0", f"in_port=p1,actions={actions}")
    assert lab.probe("p1").heard_at == set(heard.split())


def test_a_port_is_protected_and_opened_while_it_is_used(lab: Lab) -> None:
    def hear(source: str, to: frozenset[str]) -> None:
        # The flows in the datapath are brought up to date a moment after the configuration.
        eventually(
            lambda: lab.probe(source).heard_at,
            lambda heard: heard == to,
            within=60,
            what=f"{source} is heard at {sorted(to)}",
        )

    assert lab.probe("o1").heard_at == {LOCAL, "o2"} | PROTECTED
    lab.switch("sw").vsctl("set", "Port", "o1", "protected=true")
    hear("o1", OPEN - {"o1"})
    lab.switch("sw").vsctl("set", "Port", "o1", "protected=false")
    hear("o1", HOSTS - {"o1"} | {LOCAL})
