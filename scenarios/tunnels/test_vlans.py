"""VLANs inside a tunnel: a tunnel port has VLAN modes like any other port.

Source: ovs-vswitchd.conf.db(5), Port, "VLAN Configuration"; the FAQ, "VLANs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import Lab, Topology
from harness.topology.bridges import LocalColumns
from harness.traffic import Reach, Tag

if TYPE_CHECKING:
    from scenarios.tunnels.conftest import Hypervisors

RED, BLUE = {"red1", "red2"}, {"blue1", "blue2"}


@pytest.fixture
def ports() -> list[dict[str, Any]]:
    """The VLAN columns of the tunnel port of the first switch, and of the second's."""
    return [{}, {}]


@pytest.fixture
def local() -> LocalColumns:
    """The columns of the local ports that the tunnel's packets go through."""
    return {}


@pytest.fixture
def topology(
    ports: list[dict[str, Any]], local: LocalColumns, hypervisors: Hypervisors
) -> Topology:
    topo = Topology("vlans-in-a-tunnel")
    for n, switch in hypervisors(topo, local=local).items():
        br_int = switch.bridge("br-int")
        br_int.host(f"red{n}", tag=100)
        br_int.host(f"blue{n}", tag=200)
        br_int.tunnel("geneve", remote=f"172.31.0.{3 - n}", key=7, **ports[n - 1])
    return topo


@pytest.mark.parametrize(
    ("ports", "reach", "tags"),
    [
        ([{}, {}], Reach.groups(RED, BLUE), {"red1": [100], "blue1": [200]}),
        (
            [{"trunks": [100]}, {"trunks": [100]}],
            Reach.groups(RED, {"blue1"}, {"blue2"}),
            {"red1": [100]},
        ),
        (
            [{"trunks": [100]}, {}],
            Reach.groups(RED, {"blue1"}, {"blue2"}),
            {"red1": [100]},
        ),
        ([{"tag": 100}, {"tag": 100}], Reach.groups(RED, {"blue1"}, {"blue2"}), {"red1": []}),
        (
            [{"tag": 100}, {"tag": 200}],
            Reach.groups({"red1", "blue2"}, {"red2"}, {"blue1"}),
            {"red1": []},
        ),
        (
            [{"tag": 100, "vlan_mode": "native-untagged"}] * 2,
            Reach.groups(RED, BLUE),
            {"red1": [], "blue1": [200]},
        ),
        (
            [{"tag": 100, "vlan_mode": "native-tagged"}] * 2,
            Reach.groups(RED, BLUE),
            {"red1": [100], "blue1": [200]},
        ),
    ],
    ids=[
        "trunk",
        "trunk-of-100",
        "trunk-of-100-one-sided",
        "access",
        "access-to-another-vlan",
        "native-untagged",
        "native-tagged",
    ],
)
def test_the_tunnel_port_says_which_vlans_go_inside_and_how(
    lab: Lab, reach: Reach, tags: dict[str, list[int]]
) -> None:
    matrix = lab.probe_all()
    assert matrix.reach == reach
    crossed = {host: matrix.broadcast[host].all_on("wire") for host in ("red1", "blue1")}
    inside = {host: seen[0].inner_vlan_ids for host, seen in crossed.items() if seen}
    assert inside == tags
    assert all(seen[0].vlan_ids == [] for seen in crossed.values() if seen)


class TestServiceTags:
    """Customers' tags pass unseen below a service tag: dot1q-tunnel access on both sides."""

    @pytest.fixture
    def topology(self) -> Topology:
        topo = Topology("service-tags")
        wire = topo.underlay("wire")
        for n in (1, 2):
            switch = topo.switch(f"hv{n}", other_config={"vlan-limit": "2"})
            switch.bridge("br-phy", addresses=[f"172.31.0.{n}/24"]).uplink(wire)
            br_int = switch.bridge("br-int")
            br_int.host(f"customer{n}", tag=300, vlan_mode="dot1q-tunnel")
            br_int.host(f"other{n}", tag=301, vlan_mode="dot1q-tunnel")
            br_int.tunnel("vxlan", remote=f"172.31.0.{3 - n}", key=7)
        return topo

    def test_both_tags_go_through_the_tunnel(self, lab: Lab) -> None:
        sent = lab.probe("customer1", to="customer2", vlan=100)
        assert sent.heard_at == {"customer2"}
        assert sent.seen_on("wire").inner_tags == (Tag.of(300, tpid=0x88A8), Tag.of(100))
        assert sent.seen_on("customer2").vlan_ids == [100]


class TestTaggedUnderlay:
    """The tunnel's packets cross the underlay in VLAN 50, for the physical bridge's own port is an
    access port of it."""

    @pytest.fixture
    def local(self) -> LocalColumns:
        return {"tag": 50}

    def test_the_outer_tag_is_that_of_the_underlay(self, lab: Lab) -> None:
        sent = lab.probe("red1", to="red2")
        assert sent.heard_at == {"red2"}
        seen = sent.seen_on("wire")
        assert (seen.vlan_ids, seen.inner_vlan_ids) == ([50], [100])

    def test_the_other_end_listens_in_the_same_vlan_only(self, lab: Lab) -> None:
        lab.switch("hv2").vsctl("set", "Port", "br-phy", "tag=51")
        sent = lab.probe("red1", to="red2")
        assert sent.heard_at == set()
        assert sent.seen_on("wire").vlan_ids == [50]
