"""The builder: handles, default names, and mistakes that name the call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from harness.topology import Topology, TopologyError
from harness.topology.bridges import BridgeHandle
from harness.topology.model import BondPort, Bridge, PatchPort, TunnelPort, UplinkPort, Vlan


def line_before() -> int:
    return sys._getframe(1).f_lineno - 1


def bridge(topology: Topology) -> Bridge:
    return topology.freeze().switches[0].bridges[0]


@pytest.fixture
def topo() -> Topology:
    return Topology("test")


@pytest.fixture
def br(topo: Topology) -> BridgeHandle:
    return topo.switch("s1").bridge("br0")


def test_the_example_of_the_design_page() -> None:
    topo = Topology("patched-vlan")
    wire = topo.underlay("wire")
    for n in (1, 2):
        switch = topo.switch(f"hv{n}")
        br_int, br_pif = switch.bridge("br-int"), switch.bridge("br-pif")
        br_int.patch(br_pif)
        br_pif.uplink(wire)
        br_int.host(f"vm{n}-a", tag=900)
        br_int.host(f"vm{n}-b", tag=901)
    spec = topo.freeze()
    assert [switch.name for switch in spec.switches] == ["hv1", "hv2"]
    first, second = spec.switches[1].bridges
    assert [port.name for port in first.ports] == ["int-to-pif", "vm2-a", "vm2-b"]
    assert [port.name for port in second.ports] == ["pif-to-int", "wire"]
    assert first.ports[1].vlan == Vlan(tag=900)
    assert topo.freeze() == spec


def test_a_patch_gives_both_ends_and_a_second_one_other_names(topo: Topology) -> None:
    switch = topo.switch("s1")
    one, two = switch.bridge("br-int"), switch.bridge("br-pif")
    near, far = one.patch(two)
    again = two.patch(one, trunks=[900])
    assert (near.name, near.bridge, far.name, far.bridge) == ("int-to-pif", one, "pif-to-int", two)
    assert [end.name for end in again] == ["pif-to-int-2", "int-to-pif-2"]
    ports = topo.freeze().switches[0].bridges[1].ports
    assert ports[1].vlan.trunks == (900,)
    assert isinstance(ports[1], PatchPort)
    assert ports[1].peer == "int-to-pif-2"


def test_a_patch_may_lead_back_to_its_own_bridge(topo: Topology, br: BridgeHandle) -> None:
    near, far = br.patch(br, tag=7)
    assert (near.bridge, far.bridge) == (br, br)
    assert bridge(topo).ports == (
        PatchPort(name="br0-to-br0", peer="br0-to-br0-2", vlan=Vlan(tag=7)),
        PatchPort(name="br0-to-br0-2", peer="br0-to-br0"),
    )


def test_long_bridge_names_still_give_patch_names_that_fit(topo: Topology) -> None:
    switch = topo.switch("s1")
    one, two = switch.bridge("br-integration1"), switch.bridge("br-integration2")
    ends = [*one.patch(two), *one.patch(two)]
    names = [end.name for end in ends]
    assert len(set(names)) == 4
    assert all(len(name) <= 15 for name in names)
    topo.freeze()


def test_a_dangling_patch_is_no_mistake(topo: Topology, br: BridgeHandle) -> None:
    br.dangling_patch("p0", "nobody")
    assert bridge(topo).ports == (PatchPort(name="p0", peer="nobody", peer_missing=True),)


def test_uplinks_are_named_after_their_underlay(topo: Topology, br: BridgeHandle) -> None:
    wire = topo.underlay("a-very-long-wire-name")
    br.uplink(wire)
    br.uplink(wire, tag=7)
    br.uplink("a-very-long-wire-name", "eth7")
    underlay = "a-very-long-wire-name"
    assert bridge(topo).ports == (
        UplinkPort(name="a-very-long-wir", underlay=underlay),
        UplinkPort(name="a-very-long-w-2", underlay=underlay, vlan=Vlan(tag=7)),
        UplinkPort(name="eth7", underlay=underlay),
    )


def test_tunnels_count_and_keys_may_be_numbers(topo: Topology, br: BridgeHandle) -> None:
    br.uplink(topo.underlay("wire"))
    br.address("10.0.0.1/24")
    br.tunnel("gre", remote="10.0.0.2", key=7)
    br.tunnel("gre", remote="10.0.0.2", in_key="flow", out_key=2, local="10.0.0.1")
    br.tunnel("vxlan", "tun0", remote="10.0.0.3", options={"dst_port": "8472"})
    _, *tunnels = bridge(topo).ports
    assert tunnels == [
        TunnelPort(name="gre1", type="gre", remote_ip="10.0.0.2", key="7"),
        TunnelPort(
            name="gre2",
            type="gre",
            remote_ip="10.0.0.2",
            local_ip="10.0.0.1",
            in_key="flow",
            out_key="2",
        ),
        TunnelPort(name="tun0", type="vxlan", remote_ip="10.0.0.3", options={"dst_port": "8472"}),
    ]


def test_a_bond_has_a_member_on_each_underlay(topo: Topology, br: BridgeHandle) -> None:
    wires = [topo.underlay("a"), topo.underlay("b")]
    br.bond("bond0", wires, lacp="active", interface={"other_config": {"lacp-port-id": "1"}})
    (port,) = bridge(topo).ports
    assert isinstance(port, BondPort)
    assert [(member.name, member.underlay) for member in port.members] == [("a", "a"), ("b", "b")]
    assert all(member.interface for member in port.members)
    assert (port.lacp, port.interface) == ("active", {})


def test_handles_stand_for_their_names(topo: Topology, br: BridgeHandle) -> None:
    vm, mon = br.host("vm"), br.internal("mon", addresses=["10.0.0.9/24"])
    br.mirror("span", select_src_port=[vm, br], select_dst_port=["vm"], output_port=mon)
    (mirror,) = bridge(topo).mirrors
    assert mirror.select_src_port == ("vm", "br0")
    assert (mirror.select_dst_port, mirror.output_port) == (("vm",), "mon")


def test_openflow_text_is_gathered_flush_left(topo: Topology) -> None:
    br = topo.switch("s1").bridge("br0", flows="priority=0,actions=drop")
    br.flow("priority=1,actions=normal").flows(
        """
        priority=2,actions=drop
        priority=3,actions=drop
        """
    )
    br.group("group_id=1,type=all,bucket=output:1")
    br.meter("meter=1,kbps,band=type=drop,rate=1")
    br.tlv_map("{class=0xffff,type=0,len=4}->tun_metadata0")
    br.tlv_map("{class=0xffff,type=1,len=4}->tun_metadata1")
    data = bridge(topo)
    assert data.flows.splitlines() == [
        "priority=0,actions=drop",
        "priority=1,actions=normal",
        "priority=2,actions=drop",
        "priority=3,actions=drop",
    ]
    assert data.groups.startswith("group_id=1")
    assert data.meters.startswith("meter=1")
    assert data.tlv_map.count("tun_metadata") == 2
    assert "," in data.tlv_map


def test_a_range_is_a_list_of_vlans(topo: Topology, br: BridgeHandle) -> None:
    br.host("vm", trunks=range(10, 13))
    assert bridge(topo).ports[0].vlan == Vlan(trunks=(10, 11, 12))


def test_a_bridge_has_the_columns_of_its_local_port(topo: Topology) -> None:
    topo.switch("s1").bridge("br0", tag=9, vlan_mode="native-tagged", trunks=[1], protected=True)
    data = bridge(topo)
    assert data.vlan == Vlan(tag=9, mode="native-tagged", trunks=(1,))
    assert data.protected


def test_any_port_may_be_protected(topo: Topology, br: BridgeHandle) -> None:
    br.host("vm", protected=True)
    br.bond("bond0", [topo.underlay("a"), topo.underlay("b")], protected=True)
    br.internal("mgmt")
    assert [port.protected for port in bridge(topo).ports] == [True, True, False]


def test_every_mistake_names_its_own_call(topo: Topology, br: BridgeHandle) -> None:
    br.host("fine")
    br.host("vm", tag=4096)
    first = line_before()
    br.address("10.0.0.1")
    second = line_before()
    br.flow("priority=1\x01")
    third = line_before()
    br.flow("priority=2,actions=drop")
    topo.underlay("wire", mtu=1)
    fourth = line_before()
    with pytest.raises(TopologyError) as caught:
        topo.freeze()
    places = {(m.place.split(" ")[0].rpartition(":")[2], m.place) for m in caught.value.mistakes}
    assert {int(number) for number, _ in places} == {first, second, third, fourth}
    assert all(__file__.rpartition("/")[2] in place for _, place in places)
    assert any("switches[0].bridges[0].ports[1].vlan.tag" in place for _, place in places)
    assert str(caught.value).startswith("4 mistakes in the topology:\n")


Verb = Callable[[BridgeHandle], Any]


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (lambda br: br.host("vm", tag="900"), "'vm': tag: expected `int | None`, got `str`"),
        (lambda br: br.host("vm", tag=True), "'vm': tag: expected `int | None`, got `bool`"),
        (lambda br: br.host("vm", addresses="10.0.0.1/24"), "addresses: expected `list`"),
        (lambda br: br.host(7), "7: name: expected `str`, got `int`"),
        (lambda br: br.host("vm", vlan=7), "'vlan' is no argument of a port of this kind"),
        (lambda br: br.host("vm", vlan_mode="acces"), "mode: invalid enum value 'acces'; use"),
        (lambda br: br.host("vm", other_config=["a"]), "other_config: expected `dict`"),
        (lambda br: br.tunnel("vxlna", remote="10.0.0.1"), "type: invalid enum value 'vxlna'"),
        (lambda br: br.tunnel("gre", remote="10.0.0.1", key=True), "key: expected `str | None`"),
        (lambda br: br.bond("b", ["a", "b"], mode="lacp"), "'balance-slb'"),
        (lambda br: br.flow("a\nb"), "this takes one line, but the text has 2"),
        (lambda br: br.flow(3), "expected flows as text, got 3"),
        (lambda br: br.address(None), "expected an address as text, got None"),
        (lambda br: br.mirror("m", output_vlan="5"), "output_vlan: expected `int | None`"),
        (lambda br: br.host("vm", protected=1), "'vm': protected: expected `bool`, got `int`"),
        (lambda br: br.switch.bridge("b", tag="9"), "'b': tag: expected `int | None`, got `str`"),
        (lambda br: br.switch.bridge("b", protected="x"), "'b': protected: expected `bool`"),
        (lambda br: br.switch.bridge("b", qos={}), "'qos' is no argument of a bridge"),
        (lambda br: br.switch.bridge("b", fail_mode="safe"), "use 'standalone', 'secure'"),
        (lambda br: br.switch.topology.underlay("w", "1500"), "'w': mtu: expected `int`"),
        (lambda br: br.switch.topology.switch("s", routes="default"), "routes: expected `list`"),
    ],
)
def test_a_wrong_type_is_refused_by_the_verb(br: BridgeHandle, verb: Verb, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        verb(br)
    assert said in str(caught.value)
    assert "test_topology_builder.py:" in caught.value.mistakes[0].place
    assert "\n" not in str(caught.value)


def test_a_patch_between_switches_is_refused(topo: Topology, br: BridgeHandle) -> None:
    other = topo.switch("s2").bridge("br0")
    with pytest.raises(TopologyError, match="a patch joins bridges of one switch"):
        br.patch(other)
