"""A machine whose power is cut, and which boots again from what was on its disk.

Source: RFC 7047, 5.2.8, "Commit": a transaction that asks for it is on the disk before its answer
comes; ovsdb(7): transactions are atomic. ovs-vsctl does not ask (docs/findings/
ovs-vsctl-does-not-wait-for-the-disk.md). Flows are in the memory of ovs-vswitchd alone.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness import Lab, Topology
from harness.faults import Cut, PowerCut
from harness.nodes.base import NodeError
from harness.ovs import Switch
from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

pytestmark = pytest.mark.requires("power cuts")

PAIRS = [("red1", "red2"), ("red1", "near1"), ("blue1", "blue2")]
"""Frames that all come from the machine that has power."""
SLOW = 40
WRITES, ANSWERS = 300, 60
"""Transactions, and how many of them are answered before the power is cut."""


def vlans() -> Topology:
    """Two hypervisors with two VLANs, and a third one that nobody of the two talks to."""
    topo = Topology("vlans")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0", addresses=[f"192.0.2.{n}/24"])
        bridge.uplink(wire)
        for tag, names in ((10, ("red", "near")), (20, ("blue",)), (30, ("other",))):
            for name in names:
                bridge.host(f"{name}{n}", tag=tag)
        bridge.internal(f"in{n}", tag=30, addresses=[f"198.51.100.{n}/24"])
    return topo


def tunnel() -> Topology:
    topo = Topology("tunnel")
    wire = topo.underlay("wire")
    for n, other in ((1, 2), (2, 1)):
        switch = topo.switch(f"s{n}")
        outside = switch.bridge("br-ex", addresses=[f"192.0.2.{n}/24"])
        outside.uplink(wire)
        inside = switch.bridge("br-int")
        inside.tunnel("vxlan", remote=f"192.0.2.{other}", key=7)
        inside.host(f"red{n}", tag=10)
        inside.host(f"blue{n}", tag=20)
    return topo


def flows() -> Topology:
    topo = Topology("flows")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0", fail_mode="secure")
        bridge.uplink(wire)
        bridge.host(f"red{n}")
        bridge.host(f"other{n}")
        bridge.flow(f"cookie=0x5,in_port=red{n},actions=output:wire")
        bridge.flow(f"cookie=0x5,in_port=wire,actions=output:red{n}")
    return topo


@pytest.mark.parametrize("topology", [vlans(), tunnel()], ids=["vlans", "tunnel"])
def test_what_was_on_the_disk_is_kept_and_nothing_leaks(
    lab: Lab, under_traffic: UnderTraffic
) -> None:
    pairs = [pair for pair in PAIRS if {*pair} <= lab.hosts.keys()]
    verdict = under_traffic(PowerCut("s2"), pairs=pairs, rate=SLOW)
    assert verdict.outcome == "pass", str(verdict)


@pytest.mark.parametrize("topology", [flows()], ids=["secure"])
def test_secure_bridge_has_lost_its_flows_and_forwards_nothing(under_traffic: UnderTraffic) -> None:
    verdict = under_traffic(PowerCut("s2"), pairs=[("red1", "red2")], rate=SLOW, forwards=False)
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"delivered"}, str(verdict)


@pytest.mark.parametrize("topology", [vlans()], ids=["vlans"])
def test_the_others_lose_their_carrier_and_no_frame(lab: Lab, under_traffic: UnderTraffic) -> None:
    carrier = "/sys/class/net/wire/carrier"
    node = lab.node("s1")
    with lab.fault(PowerCut("s2")):
        eventually(
            lambda: node.read_file(carrier).strip(),
            lambda up: up == b"0",
            within=60,
            what="no carrier",
        )
        assert lab.probe("red1").heard_at == {"near1"}
        lab.verify()
    assert node.read_file(carrier).strip() == b"1"
    verdict = under_traffic(PowerCut("s2"), pairs=[("red1", "near1")])
    assert verdict.outcome == "pass", str(verdict)
    assert verdict.parts["lost"].measurements["lost"] == 0


@pytest.mark.parametrize("topology", [vlans()], ids=["vlans"])
def test_the_power_of_all_is_cut(lab: Lab) -> None:
    """Also while the wire between them is cut, so that they come up without each other."""
    before = {name: switch.state() for name, switch in lab.switches.items()}
    changes = PowerCut("s1").changes
    with lab.fault(Cut("s1", "wire")), ExitStack() as both:
        for name in lab.switches:
            both.enter_context(lab.fault(PowerCut(name)))
    for name, switch in lab.switches.items():
        assert switch.state().without(*changes) == before[name].without(*changes)
    assert lab.probe("red1").heard_at == {"near1", "red2", "near2"}
    assert lab.probe("other2").heard_at == {"other1", "s1:in1", "s2:in2"}


@pytest.fixture
def topology() -> Topology:
    topo = Topology("database")
    topo.switch("s1").bridge("br0").host("a")
    return topo


def add_key(key: str, *, durable: bool) -> list[dict[str, Any]]:
    pairs = ["map", [[key, "there"]]]
    mutation = ["external_ids", "insert", pairs]
    mutate = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [mutation]}
    return [mutate, {"op": "commit", "durable": durable}]


def keys(switch: Switch) -> list[str]:
    (root,) = switch.db("Open_vSwitch", ["external_ids"])
    return [key for key, value in root["external_ids"].items() if value == "there"]


def test_what_was_waited_for_is_kept(lab: Lab) -> None:
    lab.node("s1").run(["sync"])
    switch = lab.switch("s1")
    switch.database.transact(add_key("waited", durable=True))
    with lab.fault(PowerCut("s1", synced=False)):
        pass
    assert keys(switch) == ["waited"]


def test_what_nobody_waited_for_is_there_or_is_not(lab: Lab) -> None:
    """All of it or nothing: a bridge with ports is one transaction of several records."""
    lab.node("s1").run(["sync"])
    switch = lab.switch("s1")
    add = "add-br br1 -- add-port br1 in1 -- set Interface in1 type=internal"
    switch.vsctl(*add.split())
    with lab.fault(PowerCut("s1", synced=False)):
        pass
    bridges = switch.vsctl("list-br").split()
    lab.record("kept", "br1" in bridges)
    assert {"br0"} <= {*bridges} <= {"br0", "br1"}
    assert [row["name"] for row in switch.db("Port", ["name"], {"name": "in1"})] == [
        "in1" for bridge in bridges if bridge == "br1"
    ]
    assert keys(switch) == []


def test_power_is_cut_while_the_database_is_written(lab: Lab) -> None:
    """What has been answered is there, and what is there is what came first."""
    lab.node("s1").run(["sync"])
    switch = lab.switch("s1")
    writes = [
        switch.database.transact_soon(add_key(f"{number:03}", durable=True))
        for number in range(WRITES)
    ]
    for write in writes[:ANSWERS]:
        write.result()
    with lab.fault(PowerCut("s1", synced=False)):
        pass
    answered = 0
    with suppress(NodeError):
        for write in writes:
            write.result()
            answered += 1
    assert ANSWERS <= answered < WRITES
    kept = keys(switch)
    lab.record("answered", answered)
    lab.record("kept", len(kept))
    assert kept == [f"{number:03}" for number in range(len(kept))]
    assert len(kept) >= answered
