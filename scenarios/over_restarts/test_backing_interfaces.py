"""The kernel's interface behind tunnels of a type stays the same one over a restart.

Source: the release notes of 3.1.1's commit 87249e136 ("ofproto: Fix re-creation of tunnel backing
interfaces on restart"): making it anew disrupts the connections that go through it.
"""

import pytest

from harness import Lab, Topology
from harness.lab import Target
from harness.topology.model import TunnelType

BACKING: dict[TunnelType, str] = {"geneve": "genev_sys_6081", "vxlan": "vxlan_sys_4789"}


@pytest.fixture(autouse=True)
def in_the_kernel(target: Target) -> None:
    if target.datapath != "kernel":
        pytest.skip(f"{target}: only the kernel's datapath has interfaces behind tunnels")


@pytest.fixture
def topology(tunnel: TunnelType) -> Topology:
    topo = Topology("backing-interface")
    wire = topo.underlay("wire")
    for n in (1, 2):
        switch = topo.switch(f"hv{n}")
        switch.bridge("br-phy", addresses=[f"172.31.0.{n}/24"]).uplink(wire)
        bridge = switch.bridge("br-int")
        bridge.host(f"vm{n}")
        bridge.tunnel(tunnel, "tun", remote=f"172.31.0.{3 - n}", key=7)
    return topo


@pytest.mark.parametrize("tunnel", ["geneve", "vxlan"])
def test_the_backing_interface_outlives_a_restart(lab: Lab, tunnel: TunnelType) -> None:
    switch = lab.switch("hv1")
    index = f"/sys/class/net/{BACKING[tunnel]}/ifindex"
    before = int(switch.node.read_file(index))
    switch.restart()
    assert int(switch.node.read_file(index)) == before
    assert lab.probe("vm1", to="vm2").heard_at == {"vm2"}
