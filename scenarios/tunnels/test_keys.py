"""Tunnel keys: fixed, different in each direction, absent, and two tenants between one pair of
switches.

Source: ovs-vswitchd.conf.db(5), Interface, "Tunnel Options": ``key``, ``in_key``, ``out_key``.
"""

from collections.abc import Callable
from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.l2 import GRE
from scapy.layers.vxlan import VXLAN

from harness import Lab, Topology
from harness.topology.bridges import BridgeHandle
from harness.topology.model import TunnelType
from harness.traffic import Reach

KEYS: dict[TunnelType, Callable[[Any], int | None]] = {
    "vxlan": lambda packet: packet[VXLAN].vni,
    "geneve": lambda packet: packet[GENEVE].vni,
    "gre": lambda packet: packet[GRE].key if packet[GRE].key_present else None,
}
Keys = dict[str, int | str]

every_type = pytest.mark.parametrize(
    "tunnel", [pytest.param(name, marks=pytest.mark.requires(f"tunnel:{name}")) for name in KEYS]
)


def remote(number: int) -> str:
    return f"172.31.0.{3 - number}"


def switches(topo: Topology, *bridges: str) -> list[list[BridgeHandle]]:
    """Two switches that the underlay ``wire`` joins, each with ``bridges`` for its hosts."""
    wire = topo.underlay("wire")
    made = []
    for n in (1, 2):
        switch = topo.switch(f"hv{n}")
        switch.bridge("br-phy", addresses=[f"172.31.0.{n}/24"]).uplink(wire)
        made.append([switch.bridge(name) for name in bridges])
    return made


@pytest.fixture
def tunnel() -> TunnelType:
    return "vxlan"


@pytest.fixture
def keys() -> tuple[Keys, Keys]:
    """Those of the first switch and those of the second."""
    return {}, {}


@pytest.fixture
def topology(tunnel: TunnelType, keys: tuple[Keys, Keys]) -> Topology:
    topo = Topology("keys")
    for n, ((br_int,), given) in enumerate(zip(switches(topo, "br-int"), keys, strict=True), 1):
        br_int.host(f"vm{n}")
        br_int.tunnel(
            tunnel,
            remote=remote(n),
            key=given.get("key"),
            in_key=given.get("in_key"),
            out_key=given.get("out_key"),
        )
    return topo


class TestTwoTenants:
    """Two bridges on each switch, and a tunnel with its own key between each two of one tenant."""

    @pytest.fixture
    def topology(self, tunnel: TunnelType) -> Topology:
        topo = Topology("tenants")
        for n, bridges in enumerate(switches(topo, "br-red", "br-blue"), 1):
            for bridge, key in zip(bridges, (100, 200), strict=True):
                bridge.host(f"{bridge.name.removeprefix('br-')}{n}")
                bridge.tunnel(tunnel, remote=remote(n), key=key)
        return topo

    @every_type
    def test_each_hears_itself_only(self, lab: Lab, tunnel: TunnelType) -> None:
        matrix = lab.probe_all()
        assert matrix.reach == Reach.groups({"red1", "red2"}, {"blue1", "blue2"})
        for tenant, key in (("red", 100), ("blue", 200)):
            for here, there in ((1, 2), (2, 1)):
                seen = matrix.unicast[f"{tenant}{here}", f"{tenant}{there}"].seen_on("wire")
                assert KEYS[tunnel](seen.packet) == key


@every_type
@pytest.mark.parametrize("keys", [({"key": 100}, {"key": 200})], ids=["100-200"])
def test_a_tunnel_takes_no_other_key_than_its_own(lab: Lab, tunnel: TunnelType) -> None:
    for here, there, key in (("vm1", "vm2", 100), ("vm2", "vm1", 200)):
        sent = lab.probe(here, to=there)
        assert sent.heard_at == set()
        assert KEYS[tunnel](sent.seen_on("wire").packet) == key


@every_type
@pytest.mark.parametrize(
    "keys",
    [({"in_key": 100, "out_key": 200}, {"in_key": 200, "out_key": 100})],
    ids=["100-in-200-out"],
)
def test_each_direction_can_have_a_key_of_its_own(lab: Lab, tunnel: TunnelType) -> None:
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups({"vm1", "vm2"})
    assert KEYS[tunnel](matrix.unicast["vm1", "vm2"].seen_on("wire").packet) == 200
    assert KEYS[tunnel](matrix.unicast["vm2", "vm1"].seen_on("wire").packet) == 100


@every_type
@pytest.mark.parametrize("keys", [({}, {})], ids=["no-key"])
def test_without_a_key_none_is_sent_where_the_protocol_can_do_without(
    lab: Lab, tunnel: TunnelType
) -> None:
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups({"vm1", "vm2"})
    for sent in matrix.unicast.values():
        assert KEYS[tunnel](sent.seen_on("wire").packet) == (None if tunnel == "gre" else 0)


@every_type
@pytest.mark.parametrize(
    "keys", [({}, {"in_key": 0}), ({"out_key": "flow"}, {})], ids=["no-key-to-0", "flow-to-no-key"]
)
def test_in_key_0_takes_no_key_as_well_as_key_0(lab: Lab) -> None:
    assert lab.probe("vm1", to="vm2").heard_at == {"vm2"}


@pytest.mark.requires("tunnel:gre")
@pytest.mark.parametrize(
    ("tunnel", "keys"), [("gre", ({"out_key": 0}, {})), ("gre", ({"key": 0}, {}))]
)
def test_out_key_0_is_as_good_as_no_out_key(lab: Lab) -> None:
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == {"vm2"}
    assert not sent.seen_on("wire").packet[GRE].key_present


@every_type
@pytest.mark.parametrize("keys", [({"key": "flow"}, {"key": "flow"})], ids=["flow-flow"])
def test_out_key_flow_is_0_where_no_flow_sets_it(lab: Lab, tunnel: TunnelType) -> None:
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == {"vm2"}
    assert KEYS[tunnel](sent.seen_on("wire").packet) == 0


class TestKeysOfFlows:
    """Two tenants on one bridge and one tunnel: flows say whose key a frame gets, and whose it is.

    ovs-fields(7), "Intermediate models".
    """

    TENANTS = ("red", 100), ("blue", 200)

    @pytest.fixture
    def topology(self, tunnel: TunnelType) -> Topology:
        topo = Topology("keys-of-flows")
        for n, (br_int,) in enumerate(switches(topo, "br-int"), 1):
            br_int.tunnel(tunnel, "tun", remote=remote(n), key="flow")
            br_int.flow("priority=0,actions=drop")
            for tenant, key in self.TENANTS:
                br_int.host(f"{tenant}{n}")
                br_int.flow(f"in_port={tenant}{n},actions=set_field:{key}->tun_id,tun")
                br_int.flow(f"in_port=tun,tun_id={key},actions={tenant}{n}")
        return topo

    @every_type
    def test_each_tenant_hears_itself_only(self, lab: Lab, tunnel: TunnelType) -> None:
        matrix = lab.probe_all()
        assert matrix.reach == Reach.groups({"red1", "red2"}, {"blue1", "blue2"})
        for (source, _to), sent in matrix.unicast.items():
            key = dict(self.TENANTS)[source[:-1]]
            assert KEYS[tunnel](sent.seen_on("wire").packet) == key

    @every_type
    def test_a_key_that_no_flow_takes_is_dropped(self, lab: Lab, tunnel: TunnelType) -> None:
        lab.switch("hv2").ofctl("--strict", "del-flows", "br-int", "in_port=tun,tun_id=100")
        sent = lab.probe("red1", to="red2")
        assert sent.heard_at == set()
        assert KEYS[tunnel](sent.seen_on("wire").packet) == 100
