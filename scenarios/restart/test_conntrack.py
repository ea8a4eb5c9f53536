"""Connections that a switch tracks, over a restart.

Source: ovs-actions(7), "The ct action". In the kernel's datapath the kernel tracks connections, and
knows them when ovs-vswitchd is a new one; in user space ovs-vswitchd does it, and has forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from harness import Lab, Topology
from harness.faults import Restart
from harness.lab import Target

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

pytestmark = pytest.mark.requires("datapath:CT state")

NEAR, FAR = "10.0.0.1", "10.0.0.2"
# A firewall for IP; whatever else goes from a to b and back, as the traffic does.
FIREWALL = """
table=0,priority=1,in_port=a,actions=output:b
table=0,priority=1,in_port=b,actions=output:a
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit),b
table=1,in_port=a,ip,ct_state=+trk+est,actions=b
table=1,in_port=b,ip,ct_state=+trk+new,actions=drop
table=1,in_port=b,ip,ct_state=+trk+est,actions=a
"""


@pytest.fixture
def topology() -> Topology:
    topo = Topology("firewall")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", flows=FIREWALL)
    for name in "abc":
        bridge.host(name)
    return topo


def heard(lab: Lab, source: str, to: str, packet: Packet) -> frozenset[str]:
    head = Ether(src=lab.mac(source), dst=lab.mac(to))
    return lab.send(source, head / packet).heard_at


def test_restart_keeps_the_firewall_and_what_the_kernel_tracks(
    lab: Lab, target: Target, under_traffic: UnderTraffic
) -> None:
    opening = IP(src=NEAR, dst=FAR) / TCP(sport=1000, dport=80, flags="S", seq=1)
    answer = IP(src=FAR, dst=NEAR) / TCP(sport=80, dport=1000, flags="SA", seq=1, ack=2)
    assert heard(lab, "b", "a", answer) == set()
    assert heard(lab, "a", "b", opening) == {"b"}
    # Its last words about frames that pass its tables twice.
    lab.expect_logged(r"ofproto_dpif_rid\|ERR\|recirc_id \d+ left allocated")
    verdict = under_traffic(Restart("s1"), pairs=[("a", "b"), ("b", "a")])
    assert verdict.outcome == "pass", str(verdict)
    assert heard(lab, "b", "a", answer) == ({"a"} if target.datapath == "kernel" else set())
    assert heard(lab, "a", "b", opening) == {"b"}
    assert heard(lab, "b", "a", answer) == {"a"}
