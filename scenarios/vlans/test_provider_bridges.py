"""Two customers' VLANs through one provider: dot1q-tunnel ports at its edge, a trunk between.

Source: ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration": ``dot1q-tunnel`` and
``other_config:qinq-ethtype``.
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Reach, Tag


@pytest.fixture(params=["802.1ad", "802.1q"])
def qinq(request: pytest.FixtureRequest) -> str:
    """The EtherType of service tags, by the name that Open vSwitch has for it."""
    return str(request.param)


@pytest.fixture
def topology(qinq: str) -> Topology:
    topo = Topology("provider-bridges")
    wire = topo.underlay("wire", mtu=1504)
    for n in (1, 2):
        bridge = topo.switch(f"pe{n}").bridge("br0")
        bridge.uplink(wire, trunks=[100, 200])
        for customer, tag in (("red", 100), ("blue", 200)):
            setting = {"qinq-ethtype": qinq}
            bridge.host(f"{customer}{n}", vlan_mode="dot1q-tunnel", tag=tag, other_config=setting)
    return topo


@pytest.mark.parametrize("customer_tags", [(), (Tag.of(20),), (Tag.of(20, pcp=3), Tag.of(30))])
def test_customers_frames_cross_as_they_are(
    lab: Lab, qinq: str, customer_tags: tuple[Tag, ...]
) -> None:
    tpid = {"802.1ad": 0x88A8, "802.1q": 0x8100}[qinq]
    red, blue = (lab.probe(host, vlan=customer_tags, size=1514) for host in ("red1", "blue2"))

    assert red.heard_at == {"red2"}
    assert red.seen_on("red2").tags == customer_tags
    assert red.seen_on("wire").tags == (Tag.of(100, tpid=tpid), *customer_tags)
    assert blue.heard_at == {"blue1"}
    assert blue.seen_on("blue1").tags == customer_tags
    assert blue.seen_on("wire").tags == (Tag.of(200, tpid=tpid), *customer_tags)


def test_customers_do_not_hear_each_other(lab: Lab) -> None:
    assert lab.probe_all().reach == Reach.groups({"red1", "red2"}, {"blue1", "blue2"})
