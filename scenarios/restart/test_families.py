"""Restart with traffic on, on every kind of network: all is kept, and nothing leaks meanwhile.

Source: ovs-ctl(8), "The restart command": it "saves and restores OpenFlow flows"; port numbers and
all of the configuration are in the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from harness import Topology
from harness.faults import Reload, Restart

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

FLOWS = 4000


def learning() -> Topology:
    topo = Topology("learning")
    bridge = topo.switch("s1").bridge("br0", addresses=["192.0.2.1/24"])
    bridge.internal("in0")
    for name in "abc":
        bridge.host(name)
    return topo


def vlans() -> Topology:
    """Access ports, a trunk and a native VLAN, over a wire."""
    topo = Topology("vlans")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"red{n}", tag=10)
        bridge.host(f"blue{n}", tag=20)
        bridge.host(f"native{n}", vlan_mode="native-untagged", tag=20, trunks=[30])
    return topo


def patched() -> Topology:
    """The VLAN case of the guide for Windows."""
    topo = Topology("patched")
    wire = topo.underlay("wire")
    for n in (1, 2):
        switch = topo.switch(f"s{n}")
        inner, outer = switch.bridge("br-int"), switch.bridge("br-pif")
        inner.patch(outer)
        outer.uplink(wire)
        inner.host(f"a{n}", tag=900)
        inner.host(f"b{n}", tag=901)
    return topo


def mirrored() -> Topology:
    topo = Topology("mirrored")
    bridge = topo.switch("s1").bridge("br0")
    for name in ("a", "b", "tap"):
        bridge.host(name)
    bridge.mirror("span", select_all=True, output_port="tap")
    return topo


def protected() -> Topology:
    topo = Topology("protected")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("server")
    for name in "ab":
        bridge.host(name, protected=True)
    return topo


def bonded() -> Topology:
    """One link of two carries what there is, and it is said which: LACP has both links of both
    switches begin anew, one after the other."""
    topo = Topology("bonded")
    wires = [topo.underlay(name) for name in ("w1", "w2")]
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0")
        bridge.bond("bond0", wires, lacp="active", other_config={"bond-primary": "w1"})
        bridge.host(f"a{n}", tag=10)
        bridge.host(f"b{n}", tag=20)
    return topo


def grouped() -> Topology:
    """All, indirect and fast failover; what is in a group depends on the others."""
    topo = Topology("grouped")
    protocols = ["OpenFlow10", "OpenFlow14", "OpenFlow15"]
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", protocols=protocols)
    for name in "abcd":
        bridge.host(name)
    bridge.group("group_id=1,type=all,bucket=output:b,bucket=output:c")
    bridge.group("group_id=2,type=ff,bucket=watch_port:a,output:a,bucket=watch_port:d,output:d")
    bridge.group("group_id=3,type=indirect,bucket=group:1")
    bridge.group("group_id=4,type=select,selection_method=hash,fields(eth_src),bucket=output:a")
    bridge.flow("cookie=0x1,in_port=a,actions=group:3")
    bridge.flow("cookie=0x2,in_port=b,actions=group:2")
    bridge.flow("cookie=0x3,in_port=d,actions=group:4")
    return topo


def flows_of_a_learning_switch() -> Topology:
    """What it would do by itself the flows forbid."""
    topo = Topology("standalone")
    bridge = topo.switch("s1").bridge("br0", fail_mode="standalone")
    for name in "abc":
        bridge.host(name)
    bridge.flow("cookie=0x5,priority=10,in_port=a,actions=output:b")
    bridge.flow("cookie=0x5,priority=10,in_port=b,actions=output:a")
    bridge.flow("cookie=0x6,priority=5,actions=drop")
    return topo


def many_flows() -> Topology:
    """The two that matter come last."""
    topo = Topology("many-flows")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure")
    for name in "abc":
        bridge.host(name)
    address = "02:77:00:00:{:02x}:{:02x}"
    for number in range(FLOWS):
        mac = address.format(*divmod(number, 256))
        bridge.flow(f"table=1,cookie={number:#x},priority=7,dl_dst={mac},actions=output:c")
    bridge.flow("table=0,actions=resubmit(,1)")
    bridge.flow("table=1,priority=1,in_port=a,actions=output:b")
    bridge.flow("table=1,priority=1,in_port=b,actions=output:a")
    return topo


def timeouts_and_flags() -> Topology:
    topo = Topology("timeouts")
    protocols = ["OpenFlow10", "OpenFlow14"]
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", protocols=protocols)
    for name in "abc":
        bridge.host(name)
    for source, to in ("ab", "ba"):
        bridge.flow(
            f"cookie=0xffffffffffffff01,idle_timeout=3000,hard_timeout=6000,importance=9,"
            f"send_flow_rem,in_port={source},actions=output:{to}"
        )
    return topo


def requested_ports() -> Topology:
    """Port numbers that nobody would guess, and flows that name them."""
    topo = Topology("requested-ports")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure")
    for number, name in ((4001, "a"), (17, "b"), (300, "c")):
        bridge.host(name, interface={"ofport_request": number})
    bridge.flow("in_port=4001,actions=output:17")
    bridge.flow("in_port=17,actions=output:4001")
    return topo


def spoken(version: str) -> Callable[[], Topology]:
    """A bridge that speaks one version alone."""

    def made() -> Topology:
        topo = Topology(version.lower())
        bridge = topo.switch("s1").bridge("br0", fail_mode="secure", protocols=[version])
        for name in "abc":
            bridge.host(name)
        bridge.flow("cookie=0x9,priority=10,in_port=b,actions=output:a")
        # More than one table: see test_what_is_lost.py.
        table = 0 if version == "OpenFlow10" else 1
        bridge.flow(f"cookie=0xa,table={table},priority=3,actions=load:5->NXM_NX_REG0[],output:b")
        if table:
            bridge.flow("cookie=0x9,priority=10,in_port=a,actions=resubmit(,1)")
        return topo

    return made


VERSIONS = [f"OpenFlow1{minor}" for minor in range(6)]
FAMILIES = [
    pytest.param(make, id=make.__name__)
    for make in (
        learning,
        vlans,
        patched,
        mirrored,
        protected,
        bonded,
        grouped,
        flows_of_a_learning_switch,
        many_flows,
        timeouts_and_flags,
        requested_ports,
    )
] + [
    pytest.param(spoken(version), id=version, marks=pytest.mark.requires(f"openflow:{version}"))
    for version in VERSIONS
]


@pytest.fixture(params=FAMILIES)
def topology(request: pytest.FixtureRequest) -> Topology:
    make: Callable[[], Topology] = request.param
    return make()


def test_restart_keeps_all_and_leaks_nothing(under_traffic: UnderTraffic) -> None:
    verdict = under_traffic(Restart("s1"))
    assert verdict.outcome == "pass", str(verdict)


@pytest.mark.requires("kernel module")
def test_reload_keeps_all_and_leaks_nothing(under_traffic: UnderTraffic) -> None:
    verdict = under_traffic(Reload("s1"))
    assert verdict.outcome == "pass", str(verdict)
