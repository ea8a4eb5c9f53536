"""Mirrors with a filter: of the frames that are selected, only those that match are copied.

Source: ovs-vswitchd.conf.db(5), table Mirror, column ``filter``: "only packets that match filter
are selected for mirroring"; it "is applied after select_all, select_dst_port, select_src_port, and
select_vlan". ovs-fields(7) for what can be matched.
"""

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from harness import Lab, Topology
from harness.polling import eventually

pytestmark = pytest.mark.requires("column:Mirror.filter")

V4, V6 = IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")
FRAMES: dict[str, tuple[str, str, Packet]] = {
    "http": ("a", "b", V4 / TCP(sport=5000, dport=80)),
    "ssh": ("a", "b", V4 / TCP(sport=5000, dport=22)),
    "udp": ("a", "b", V4 / UDP(sport=5000, dport=80)),
    "http6": ("a", "b", V6 / TCP(sport=5000, dport=80)),
    "arp": ("a", "b", ARP(op=2, psrc="10.0.0.1", pdst="10.0.0.2")),
    "back": ("b", "a", IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=80, dport=5000)),
}
"""From where, to whom, and what."""


@pytest.fixture
def mirror() -> dict[str, Any]:
    return {"select_all": True, "filter": "tcp"}


@pytest.fixture
def topology(mirror: dict[str, Any]) -> Topology:
    topo = Topology("span-filter")
    bridge = topo.switch("s1").bridge("br0")
    for name in ("a", "b", "tap"):
        bridge.host(name)
    bridge.mirror("m0", output_port="tap", **mirror)
    return topo


def copied(lab: Lab) -> set[str]:
    """Which of FRAMES are copied. All of them arrive where they should, and nowhere else."""
    batch = lab.send_all(
        (source, Ether(src=lab.mac(source), dst=lab.mac(to)) / packet / bytes(46))
        for source, to, packet in FRAMES.values()
    )
    found = set()
    for (name, (_, to, _)), sent in zip(FRAMES.items(), batch, strict=True):
        assert sent.heard_at - {"tap"} == {to}
        if "tap" in sent.heard_at:
            found.add(name)
            assert sent.seen_on("tap").data == sent.frame()
    return found


@pytest.mark.parametrize(
    ("mirror", "names"),
    [
        ({"select_all": True}, set(FRAMES)),
        ({"select_all": True, "filter": "tcp"}, {"http", "ssh", "back"}),
        ({"select_all": True, "filter": "tcp,tp_dst=80"}, {"http"}),
        ({"select_all": True, "filter": "tcp6"}, {"http6"}),
        ({"select_all": True, "filter": "udp"}, {"udp"}),
        ({"select_all": True, "filter": "arp"}, {"arp"}),
        ({"select_all": True, "filter": "ip,nw_src=10.0.0.2"}, {"back"}),
        ({"select_all": True, "filter": "ipv6,ipv6_dst=fd00::2"}, {"http6"}),
        ({"select_all": True, "filter": "udp,tp_dst=81"}, set()),
        pytest.param({"select_all": True, "filter": "ip,nw_src=10.0.0.2/31"}, {"back"}, id="mask"),
        # What the selection leaves out a filter does not bring back.
        ({"select_src_port": ["a"], "filter": "tcp"}, {"http", "ssh"}),
        ({"select_dst_port": ["a"], "filter": "tcp"}, {"back"}),
        ({"select_src_port": ["b"], "filter": "udp"}, set()),
    ],
)
def test_what_is_selected_and_matches_is_copied(lab: Lab, names: set[str]) -> None:
    lab.announce("a", "b")
    assert copied(lab) == names


def test_a_filter_is_changed_and_taken_away(lab: Lab) -> None:
    switch = lab.switch("s1")

    def copies(names: set[str]) -> None:
        # The flows in the datapath are brought up to date a moment after the configuration.
        eventually(lambda: copied(lab), lambda now: now == names, within=60, what="what is copied")

    lab.announce("a", "b")
    assert copied(lab) == {"http", "ssh", "back"}
    switch.vsctl("set", "Mirror", "m0", "filter=arp")
    copies({"arp"})
    switch.vsctl("clear", "Mirror", "m0", "filter")
    copies(set(FRAMES))
