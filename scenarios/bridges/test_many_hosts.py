"""Sixteen hosts on one bridge: all hear all, whatever network they belong to.

Source: Open vSwitch FAQ, "VLANs": "What's a VLAN?" (ports of one VLAN are one switch, and the
VLANs are independent switches).
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

HOSTS = [f"h{n}" for n in range(16)]


def bridge(vlans: int) -> Topology:
    """Sixteen hosts, dealt out to so many VLANs; one VLAN is none."""
    topo = Topology(f"sixteen-{vlans}")
    made = topo.switch("sw").bridge("br0")
    for n, name in enumerate(HOSTS):
        made.host(name, tag=None if vlans == 1 else 1 + n % vlans)
    return topo


@pytest.mark.parametrize(
    ("topology", "groups"),
    [
        (bridge(1), [HOSTS]),
        (bridge(2), [HOSTS[0::2], HOSTS[1::2]]),
        (bridge(4), [HOSTS[0::4], HOSTS[1::4], HOSTS[2::4], HOSTS[3::4]]),
        (bridge(16), [[host] for host in HOSTS]),
    ],
    ids=["1-network", "2-networks", "4-networks", "16-networks"],
)
def test_every_host_hears_its_network(lab: Lab, groups: list[list[str]]) -> None:
    assert lab.probe_all().reach == Reach.groups(*groups)
