"""IP multicast on a bridge, without and with IGMP snooping.

Source: ovs-vswitchd.conf.db(5), table Bridge, "Multicast Snooping Configuration"; table Port,
``other_config:mcast-snooping-flood``; RFC 4541, section 2.1.
"""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import checksum

from harness import Lab, Topology
from harness.polling import eventually

GROUP, GROUP_MAC = "239.1.2.3", "01:00:5e:01:02:03"
LOCAL_GROUP, LOCAL_GROUP_MAC = "224.0.0.251", "01:00:5e:00:00:fb"


def bridge(*, snooping: bool, **other_config: str) -> Topology:
    topo = Topology("multicast")
    keys = {f"mcast-snooping-{key}".replace("_", "-"): value for key, value in other_config.items()}
    made = topo.switch("sw").bridge("br0", mcast_snooping=snooping, other_config=keys)
    for name in ("sender", "member", "other", "router"):
        made.host(name)
    return topo


OFF = bridge(snooping=False)
ON = bridge(snooping=True)
STRICT = bridge(snooping=True, disable_flood_unregistered="true")


def stream(lab: Lab, group: str = GROUP, mac: str = GROUP_MAC) -> Packet:
    ip = IP(src="10.0.0.1", dst=group)
    return Ether(src=lab.mac("sender"), dst=mac) / ip / UDP(sport=5004, dport=5004)


def igmp(lab: Lab, host: str, *, kind: int, to: str, mac: str, group: str) -> frozenset[str]:
    """Have a host send an IGMPv2 message (RFC 2236); say who heard it."""
    message = bytes([kind, 100, 0, 0, *map(int, group.split("."))])
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    router_alert = b"\x94\x04\x00\x00"
    ip = IP(src="10.0.0.2", dst=to, ttl=1, proto=2, options=router_alert)
    frame = bytes(Ether(src=lab.mac(host), dst=mac) / ip / message)
    return lab.send(host, frame.ljust(60, b"\0")).heard_at


def join(lab: Lab) -> frozenset[str]:
    """``member`` reports that it is in the group."""
    return igmp(lab, "member", kind=0x16, to=GROUP, mac=GROUP_MAC, group=GROUP)


def query(lab: Lab) -> frozenset[str]:
    """``router`` asks who is in which group."""
    return igmp(lab, "router", kind=0x11, to="224.0.0.1", mac="01:00:5e:00:00:01", group="0.0.0.0")


@pytest.mark.parametrize("topology", [OFF], ids=["off"])
def test_without_snooping_multicast_is_flooded(lab: Lab) -> None:
    assert query(lab) == {"sender", "member", "other"}
    assert join(lab) == {"sender", "other", "router"}
    assert lab.send("sender", stream(lab)).heard_at == {"member", "other", "router"}


@pytest.mark.parametrize("topology", [ON], ids=["on"])
def test_group_without_members_is_flooded(lab: Lab) -> None:
    assert lab.send("sender", stream(lab)).heard_at == {"member", "other", "router"}


@pytest.mark.parametrize("topology", [ON, STRICT], ids=["on", "strict"])
def test_snooping_forwards_to_members_and_routers(lab: Lab) -> None:
    assert query(lab) == {"sender", "member", "other"}
    # "A snooping switch should forward IGMP Membership Reports only to those ports where multicast
    # routers are attached."
    assert join(lab) == {"router"}
    assert lab.send("sender", stream(lab)).heard_at == {"member", "router"}


@pytest.mark.parametrize("topology", [STRICT], ids=["strict"])
def test_group_without_members_goes_to_routers_only(lab: Lab) -> None:
    assert lab.send("sender", stream(lab)).heard_at == set()
    query(lab)
    # The flow that drops them is in the datapath already: it is brought up to date in a moment.
    eventually(
        lambda: lab.send("sender", stream(lab)).heard_at,
        lambda heard: heard == {"router"},
        within=60,
        what="the group's frames arrive at the router alone",
    )


@pytest.mark.parametrize("topology", [STRICT], ids=["strict"])
def test_local_groups_and_broadcasts_are_flooded_all_the_same(lab: Lab) -> None:
    everybody = {"member", "other", "router"}
    assert lab.send("sender", stream(lab, LOCAL_GROUP, LOCAL_GROUP_MAC)).heard_at == everybody
    assert lab.probe("sender").heard_at == everybody


@pytest.mark.parametrize("topology", [STRICT], ids=["strict"])
def test_port_set_to_flood_hears_every_group(lab: Lab) -> None:
    lab.switch("sw").vsctl("set", "Port", "other", "other_config:mcast-snooping-flood=true")
    join(lab)
    assert lab.send("sender", stream(lab)).heard_at == {"member", "other"}
