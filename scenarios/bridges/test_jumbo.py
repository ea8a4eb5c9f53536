"""Frames and the MTUs of the ports that they leave by.

Source: ovs-vswitchd.conf.db(5), table Interface, "MTU"; Open vSwitch documentation, "Jumbo Frames"
(howto): a port drops frames that are larger than its MTU.
"""

import pytest

from harness import Lab, Topology
from harness.polling import eventually

HEADER, TAG = 14, 4
"""Bytes of an Ethernet header, and of a VLAN tag, which the MTU does not count."""


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("jumbo")
    wire = topo.underlay("wire", mtu=9000)
    near, far = (topo.switch(name).bridge("br0") for name in ("near", "far"))
    near.uplink(wire)
    far.uplink(wire)
    near.host("jumbo1", mtu=9000)
    near.host("small1")
    far.host("jumbo2", mtu=9000)
    far.host("small2")
    far.host("middle2", mtu=9000, interface={"mtu_request": 4000})
    return topo


@pytest.mark.parametrize(
    ("payload", "heard"),
    [
        (1500, {"small1", "small2", "middle2", "jumbo2"}),
        (1501, {"middle2", "jumbo2"}),
        (4000, {"middle2", "jumbo2"}),
        (4001, {"jumbo2"}),
        (9000, {"jumbo2"}),
    ],
)
@pytest.mark.parametrize("tags", [[], [7]], ids=["untagged", "tagged"])
def test_frame_leaves_by_ports_that_it_fits(
    module_lab: Lab, payload: int, heard: set[str], tags: list[int]
) -> None:
    size = payload + HEADER + TAG * len(tags)
    sent = module_lab.probe("jumbo1", size=size, vlan=tags)
    assert sent.heard_at == heard
    assert sent.seen_on("wire").wire_len == size
    assert [sent.seen_on(host).vlan_ids for host in sorted(heard)] == [tags] * len(heard)


def test_mtu_is_reported(module_lab: Lab) -> None:
    expected = {"jumbo2": 9000, "small2": 1500, "middle2": 4000, "wire": 9000}

    def reported() -> dict[str, object]:
        rows = module_lab.switch("far").db("Interface", ["name", "mtu"])
        return {row["name"]: row["mtu"] for row in rows if row["name"] in expected}

    eventually(reported, lambda mtus: mtus == expected, within=60, what="the ports' MTUs")


def test_mtu_can_be_changed_while_frames_flow(lab: Lab) -> None:
    assert lab.probe("jumbo1", size=5000 + HEADER).heard_at == {"jumbo2"}
    lab.switch("far").vsctl("set", "Interface", "middle2", "mtu_request=5000")
    assert lab.probe("jumbo1", size=5000 + HEADER).heard_at == {"jumbo2", "middle2"}
    assert lab.probe("jumbo1", size=5001 + HEADER).heard_at == {"jumbo2"}
