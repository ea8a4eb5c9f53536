"""A bridge learns where addresses are, and sends frames for them there and nowhere else.

Source: ovs-actions(7), "The OVS Normal Pipeline"; ovs-vswitchd(8), "BRIDGE COMMANDS" (``fdb/``);
ovs-vswitchd.conf.db(5), table Bridge, ``other_config:mac-table-size``.
"""

import pytest
from scapy.layers.l2 import Ether

from harness import Lab, Topology
from harness.polling import eventually
from harness.traffic import Reach

OTHERS = {"b", "c", "d"}
NOBODY = "02:00:00:00:77:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def topology() -> Topology:
    topo = Topology("learning")
    bridge = topo.switch("sw").bridge("br0")
    for name in ("a", "b", "c", "d"):
        bridge.host(name)
    return topo


def comes_to_be_heard_at(lab: Lab, source: str, mac: str, hosts: set[str]) -> None:
    """A bridge takes note of what it learns at once, and brings the flows that it has in the
    datapath already up to date a moment later."""
    eventually(
        lambda: lab.probe(source, mac=mac).heard_at,
        lambda heard: heard == hosts,
        within=60,
        what=f"frames from {source} to {mac} arrive at {sorted(hosts)} alone",
    )


def test_unknown_unicast_is_flooded_until_the_host_is_heard(lab: Lab) -> None:
    assert lab.probe("a", to="b").heard_at == OTHERS
    assert lab.probe("b", to="a").heard_at == {"a"}
    comes_to_be_heard_at(lab, "a", lab.mac("b"), {"b"})


def test_any_frame_teaches_where_its_sender_is(lab: Lab) -> None:
    lab.probe("a", mac=NOBODY)
    (learned,) = lab.switch("sw").fdb("br0")
    assert (learned.mac, learned.vlan) == (lab.mac("a"), 0)
    assert int(learned.port) == lab.switch("sw").ofport("a")


def test_everybody_hears_what_is_for_them(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups({"a", "b", "c", "d"})


def test_address_moves_with_its_host(lab: Lab) -> None:
    moving = Ether(src=NOBODY, dst=BROADCAST, type=0x88B5)
    for home in ("b", "c", "b"):
        lab.send(home, moving)
        comes_to_be_heard_at(lab, "a", NOBODY, {home})
        comes_to_be_heard_at(lab, "d", NOBODY, {home})


def test_multicast_sender_is_not_learned(lab: Lab) -> None:
    sent = lab.send("a", Ether(src="03:00:00:00:00:01", dst=BROADCAST, type=0x88B5))
    assert sent.heard_at == OTHERS
    assert lab.switch("sw").fdb("br0") == []


def test_flushed_table_floods_again(lab: Lab) -> None:
    lab.announce()
    assert lab.probe("a", to="b").heard_at == {"b"}
    lab.switch("sw").unixctl("fdb/flush", "br0")
    assert lab.switch("sw").fdb("br0") == []
    comes_to_be_heard_at(lab, "a", lab.mac("b"), OTHERS)


def test_removed_ports_addresses_are_forgotten(lab: Lab) -> None:
    lab.announce()
    assert lab.probe("a", to="b").heard_at == {"b"}
    lab.switch("sw").vsctl("del-port", "b")
    assert lab.mac("b") not in {one.mac for one in lab.switch("sw").fdb("br0")}
    comes_to_be_heard_at(lab, "a", lab.mac("b"), {"c", "d"})


def test_full_table_forgets_the_oldest(lab: Lab) -> None:
    lab.switch("sw").vsctl("set", "Bridge", "br0", "other_config:mac-table-size=10")
    stations = [f"02:00:00:00:77:{n:02x}" for n in range(1, 13)]
    for mac in stations:
        lab.send("a", Ether(src=mac, dst=BROADCAST, type=0x88B5))

    assert {one.mac for one in lab.switch("sw").fdb("br0")} == set(stations[2:])
    assert lab.probe("b", mac=stations[0]).heard_at == {"a", "c", "d"}
    assert lab.probe("b", mac=stations[-1]).heard_at == {"a"}
