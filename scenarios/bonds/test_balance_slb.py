"""A balance-slb bond: each source address in each VLAN keeps to one member.

Source: Documentation/topics/bonding.rst, "SLB Bonding" (the numbers of its complications are given
below); ovs-vswitchd.conf.db(5), table Port, "Bonding Configuration": the upstream switch knows
nothing of the bond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.l2 import ARP, Dot1Q, Ether

from harness import Lab, Topology
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")
NEAR = [f"n{number}" for number in range(8)]
FAR = ["f0", "f1"]
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def topology() -> Topology:
    topo = Topology("balance-slb")
    wires = [topo.underlay(name) for name in MEMBERS]
    bridge = topo.switch("s1").bridge("br0")
    bridge.bond("bond0", wires, mode="balance-slb", other_config={"bond-rebalance-interval": "0"})
    for name in NEAR:
        bridge.host(name)
    upstream = topo.switch("up").bridge("br0")
    for wire in wires:
        upstream.uplink(wire)
    for name in FAR:
        upstream.host(name)
    return topo


@pytest.fixture(autouse=True)
def members_are_up(bond: Bond) -> None:
    bond.becomes_enabled(*MEMBERS)


def test_everybody_hears_everything_once(lab: Lab) -> None:
    # 1 and 2: no second copy by the other member, not even to where the frame came from.
    assert lab.probe_all().reach == Reach.groups([*NEAR, *FAR])


def test_a_flooded_frame_crosses_each_wire_once(lab: Lab) -> None:
    lab.announce()
    for source in (*NEAR, *FAR):
        sent = lab.probe(source)
        assert sent.heard_at == {*NEAR, *FAR} - {source}
        assert [sent.count_at(wire) for wire in MEMBERS] == [1, 1]
        out = [seen for wire in MEMBERS for seen in sent.all_on(wire) if seen.port == f"s1:{wire}"]
        assert len(out) == (1 if source in NEAR else 0)


def test_each_address_keeps_to_one_member(lab: Lab) -> None:
    matrix = lab.probe_all()
    wire = {}
    for name in NEAR:
        (wire[name],) = matrix.unicast[name, "f0"].crossed
    assert set(wire.values()) == set(MEMBERS)
    for name in NEAR:
        # "Learning in the remote switch causes it to send packets to that MAC+VLAN through the same
        # link."
        for far in FAR:
            assert matrix.unicast[name, far].crossed == {wire[name]}
            assert matrix.unicast[far, name].crossed == {wire[name]}


def test_each_vlan_keeps_to_one_member(lab: Lab) -> None:
    vlans = range(1, 17)
    announced = Ether(src=lab.mac("f0"), dst=BROADCAST)
    lab.send_all(("f0", announced / Dot1Q(vlan=vlan)) for vlan in vlans)
    head = Ether(src=lab.mac("n0"), dst=lab.mac("f0"))
    batch = lab.send_all((("n0", head / Dot1Q(vlan=vlan)) for vlan in vlans), count=5)
    used = set()
    for vlan, sent in zip(vlans, batch, strict=True):
        (wire,) = sent.crossed
        used.add(wire)
        assert sent.heard_at == {"f0"}
        assert [seen.vlan_ids for seen in sent.all_on(wire)] == [[vlan]] * 5
    assert used == set(MEMBERS)


@pytest.mark.parametrize("member", MEMBERS)
def test_an_address_is_moved_to_another_member(lab: Lab, bond: Bond, member: str) -> None:
    number = bond.switch.unixctl("bond/hash", lab.mac("n0"), "0").strip()
    bond.switch.unixctl("bond/migrate", "bond0", number, member)
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups([*NEAR, *FAR])
    for far in FAR:
        assert matrix.unicast["n0", far].crossed == matrix.unicast[far, "n0"].crossed == {member}


@pytest.mark.parametrize("failing", MEMBERS)
def test_the_other_member_takes_over(lab: Lab, bond: Bond, failing: str) -> None:
    lab.expect("strays")
    lab.announce()
    bond.set_link(failing, up=False)
    bond.becomes_enabled(*{*MEMBERS} - {failing})
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups([*NEAR, *FAR])
    crossed = {wire for sent in matrix.unicast.values() for wire in sent.crossed}
    assert crossed == {*MEMBERS} - {failing}
    bond.taught_upstream()


@pytest.mark.parametrize("gratuitous", [False, True])
def test_an_address_that_moves_upstream(lab: Lab, gratuitous: bool) -> None:
    # 2: dropped, for it may be a reflection. 3: "A gratuitous ARP received on an SLB bond is not
    # dropped and updates the MAC learning table."
    lab.announce()
    moved = Ether(src=lab.mac("n0"), dst=BROADCAST)
    if gratuitous:
        moved /= ARP(op="is-at", hwsrc=lab.mac("n0"), psrc="10.0.0.1", pdst="10.0.0.1")
    sent = lab.send("f0", moved)
    assert sent.heard_at == {"f1", *(NEAR if gratuitous else [])}
    (entry,) = [entry for entry in lab.switch("s1").fdb("br0") if entry.mac == lab.mac("n0")]
    bond_ports = {str(lab.switch("s1").ofport(member)) for member in MEMBERS}
    assert (entry.port in bond_ports) is gratuitous
