"""A balance-tcp bond between two switches that negotiate it by LACP.

Source: Documentation/topics/bonding.rst, "LACP Bonding"; ovs-vswitchd.conf.db(5), table Port,
"Bonding Configuration": "Balances flows among members based on L3 and L4 protocol information".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from harness import Lab, Topology
from harness.traffic import Reach

if TYPE_CHECKING:
    from scenarios.bonds.conftest import Bond

MEMBERS = ("w1", "w2")


@pytest.fixture(
    scope="module", params=["active-active", "active-passive", "active-active, lb_output"]
)
def topology(request: pytest.FixtureRequest) -> Topology:
    lacp, _, action = request.param.partition(", ")
    config = {"bond-rebalance-interval": "0"}
    if action:
        config["lb-output-action"] = "true"
    topo = Topology("balance-tcp")
    wires = [topo.underlay(name) for name in MEMBERS]
    for name, hosts, role in zip(("s1", "s2"), ("ab", "cd"), lacp.split("-"), strict=True):
        bridge = topo.switch(name).bridge("br0")
        bridge.bond("bond0", wires, mode="balance-tcp", lacp=role, other_config=config)
        for host in hosts:
            bridge.host(host)
    return topo


@pytest.fixture(scope="module")
def pair(module_lab: Lab, bond_of: type[Bond]) -> Lab:
    """The lab, once both ends of the bond have agreed and share their flows out."""
    for switch in ("s1", "s2"):
        bond_of(module_lab, switch).negotiates(*MEMBERS)
    for switch in ("s1", "s2"):
        # A member that was agreed on later than the other one gets flows when they are rebalanced,
        # which takes load, or when they are hashed anew.
        module_lab.switch(switch).vsctl("set", "Port", "bond0", "other_config:bond-hash-basis=7")
    return module_lab


def test_everybody_hears_everything_once(pair: Lab) -> None:
    matrix = pair.probe_all()
    assert matrix.reach == Reach.groups("abcd")
    crossing = {tuple(p): len(s.crossed) for p, s in matrix.unicast.items() if {*p} & {*"ab"}}
    assert crossing == {(a, b): int({a, b} not in ({*"ab"}, {*"cd"})) for a, b in crossing}


@pytest.mark.parametrize("protocol", [UDP, TCP])
@pytest.mark.parametrize(("source", "to"), ["ac", "ca"])
def test_flows_spread_over_both_members_each_on_one(
    pair: Lab, protocol: type[Packet], source: str, to: str
) -> None:
    pair.announce()
    head = Ether(src=pair.mac(source), dst=pair.mac(to)) / IP(src="10.0.0.1", dst="10.0.0.2")
    flows = [(source, head / protocol(sport=5000 + n, dport=80)) for n in range(32)]
    used = set()
    for sent in pair.send_all(flows, to=to, count=4):
        (wire,) = sent.crossed
        used.add(wire)
        assert sent.heard_at == {to}
        assert (sent.count_at(wire), sent.count_at(to)) == (4, 4)
    assert used == set(MEMBERS)


def test_a_flow_keeps_to_its_member_for_good(pair: Lab) -> None:
    pair.announce()
    head = Ether(src=pair.mac("a"), dst=pair.mac("c")) / IP(src="10.0.0.1", dst="10.0.0.2")
    flows = [("a", head / UDP(sport=6000 + n, dport=80)) for n in range(8)]
    first, *later = [[sent.crossed for sent in pair.send_all(flows)] for _ in range(3)]
    assert [len(crossed) for crossed in first] == [1] * len(flows)
    assert later == [first, first]
