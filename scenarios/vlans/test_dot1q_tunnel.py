"""dot1q-tunnel ports: customers' VLANs inside a service VLAN (QinQ, IEEE 802.1ad).

Source: ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration": ``dot1q-tunnel``, ``cvlans``
and ``other_config:qinq-ethtype``; table Open_vSwitch, ``other_config:vlan-limit``.
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Tag

Tags = tuple[Tag, ...]

NONE: Tags = ()
C20, C30 = (Tag.of(20),), (Tag.of(30),)
S100, S200, S300 = ((Tag.of(vid, tpid=0x88A8),) for vid in (100, 200, 300))
Q100, Q300 = (Tag.of(100),), (Tag.of(300),)


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("dot1q-tunnel")
    # With both headers matched, "cvlans" and access ports see the customer's VLAN in a frame that
    # a trunk port brings; the default limit is 1.
    bridge = topo.switch("sw", other_config={"vlan-limit": "2"}).bridge("br0")
    bridge.host("core")
    bridge.host("core-100", trunks=[100])
    bridge.host("north", vlan_mode="dot1q-tunnel", tag=100)
    bridge.host("south", vlan_mode="dot1q-tunnel", tag=100)
    bridge.host("picky", vlan_mode="dot1q-tunnel", tag=100, cvlans=[20])
    bridge.host("plain", tag=100)
    bridge.host("acme", vlan_mode="dot1q-tunnel", tag=200)
    for name, tpid in (("old", "802.1q"), ("new", "802.1ad")):
        setting = {"qinq-ethtype": tpid}
        bridge.host(name, vlan_mode="dot1q-tunnel", tag=300, other_config=setting)
    return topo


@pytest.mark.parametrize(
    ("source", "frame", "heard"),
    [
        # A frame of the customer's is in the service VLAN, and in the customer's VLAN inside it.
        ("north", NONE, {"core": S100, "core-100": S100, "south": NONE, "plain": NONE}),
        ("north", C20, {"core": S100 + C20, "core-100": S100 + C20, "south": C20, "picky": C20}),
        ("north", C30, {"core": S100 + C30, "core-100": S100 + C30, "south": C30}),
        ("acme", C20, {"core": S200 + C20}),
        # "If cvlans is set, only allows packets in the specified customer VLANs."
        ("picky", NONE, {}),
        ("picky", C20, {"core": S100 + C20, "core-100": S100 + C20, "north": C20, "south": C20}),
        ("picky", C30, {}),
        # "To egress on the port, a packet's outer VLAN (or only VLAN) must be tag, which is
        # removed before egress, which exposes the inner (customer) VLAN if one is present."
        ("core", NONE, {}),
        ("core", S100, {"core-100": S100, "north": NONE, "south": NONE, "plain": NONE}),
        ("core", S100 + C20, {"core-100": S100 + C20, "north": C20, "south": C20, "picky": C20}),
        ("core", S100 + C30, {"core-100": S100 + C30, "north": C30, "south": C30}),
        ("core", Q100 + C20, {"core-100": Q100 + C20, "north": C20, "south": C20, "picky": C20}),
        ("core", S200 + C30, {"acme": C30}),
        # An access port carries its one VLAN, and that without a customer's inside.
        ("plain", NONE, {"core": Q100, "core-100": Q100, "north": NONE, "south": NONE}),
        ("plain", C20, {}),
        # "qinq-ethtype is the TPID for the service tag." (The default, 802.1ad, is above.)
        ("old", C20, {"core": Q300 + C20, "new": C20}),
        ("new", C20, {"core": S300 + C20, "old": C20}),
        ("old", NONE, {"core": Q300, "new": NONE}),
        ("new", NONE, {"core": S300, "old": NONE}),
    ],
)
def test_customer_vlans_travel_in_the_service_vlan(
    module_lab: Lab, source: str, frame: Tags, heard: dict[str, Tags]
) -> None:
    # What is left of frames before this one is another test's subject.
    module_lab.switch("sw").unixctl("revalidator/purge")
    sent = module_lab.probe(source, vlan=frame)
    assert sent.heard_at == set(heard)
    assert {host: sent.seen_on(host).tags for host in heard} == heard


def test_frame_goes_its_own_way_whatever_came_before(module_lab: Lab) -> None:
    module_lab.switch("sw").unixctl("revalidator/purge")
    sent = [module_lab.probe("core", vlan=frame) for frame in (S100, S100 + C20, S100 + C30)]
    assert sent[0].heard_at == {"core-100", "north", "south", "plain"}
    assert sent[1].heard_at == {"core-100", "north", "south", "picky"}
    assert sent[2].heard_at == {"core-100", "north", "south"}


def test_customers_second_header_is_payload(module_lab: Lab) -> None:
    sent = module_lab.probe("north", vlan=C20 + C30)
    assert sent.heard_at == {"core", "core-100", "south", "picky"}
    assert sent.seen_on("core").tags == sent.seen_on("core-100").tags == S100 + C20 + C30
    assert sent.seen_on("south").tags == sent.seen_on("picky").tags == C20 + C30
