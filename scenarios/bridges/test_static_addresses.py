"""Static entries in a bridge's MAC table: put there by hand, and not moved by what is heard.

Source: ovs-vswitchd(8), "BRIDGE COMMANDS": ``fdb/add``, ``fdb/del``; NEWS, v2.16.0.
"""

import pytest
from scapy.layers.l2 import Ether

from harness import Lab, Topology

STATION = "02:00:00:00:77:01"

pytestmark = pytest.mark.requires("appctl:fdb/add")


@pytest.fixture
def topology() -> Topology:
    topo = Topology("static-addresses")
    bridge = topo.switch("sw").bridge("br0")
    for name in ("a", "b", "c"):
        bridge.host(name)
    return topo


@pytest.fixture(autouse=True)
def _station_at_b(lab: Lab) -> None:
    lab.switch("sw").unixctl("fdb/add", "br0", "b", "0", STATION)


def test_frames_go_to_a_static_address_that_was_never_heard(lab: Lab) -> None:
    assert lab.probe("a", mac=STATION).heard_at == {"b"}


def test_static_address_does_not_move(lab: Lab) -> None:
    lab.send("c", Ether(src=STATION, dst="ff:ff:ff:ff:ff:ff", type=0x88B5))
    # No flow of the datapath's own keeps frames from going the new way, if there were one.
    lab.switch("sw").unixctl("revalidator/purge")
    assert lab.probe("a", mac=STATION).heard_at == {"b"}


def test_flush_leaves_static_addresses(lab: Lab) -> None:
    lab.announce()
    lab.switch("sw").unixctl("fdb/flush", "br0")
    (left,) = lab.switch("sw").fdb("br0")
    assert (left.mac, left.age) == (STATION, None)
    assert lab.probe("a", mac=STATION).heard_at == {"b"}
    assert lab.probe("a", to="c").heard_at == {"b", "c"}


def test_removed_static_address_is_flooded(lab: Lab) -> None:
    lab.switch("sw").unixctl("fdb/del", "br0", "0", STATION)
    assert lab.switch("sw").fdb("br0") == []
    assert lab.probe("a", mac=STATION).heard_at == {"b", "c"}
