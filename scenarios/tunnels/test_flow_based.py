"""Three hypervisors, one tunnel port on each: flows choose the remote end, and read it.

Source: ovs-fields(7), "Tunnel Fields", "Flow-based tunnels" and "Mixed models";
ovs-vswitchd.conf.db(5), Interface ``options:remote_ip=flow`` and ``options:local_ip=flow``.
"""

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import GRE

from harness import Lab, Topology
from harness.topology.model import TunnelType
from harness.traffic import Reach

HYPERVISORS = (1, 2, 3)
KEY = 5001


def address(number: int) -> str:
    return f"172.31.0.{number}"


def mac(number: int) -> str:
    return f"02:00:00:00:00:0{number}"


@pytest.fixture
def tunnel() -> TunnelType:
    return "gre"


@pytest.fixture
def topology(tunnel: TunnelType) -> Topology:
    topo = Topology("flow-based")
    wire = topo.underlay("wire")
    for n in HYPERVISORS:
        switch = topo.switch(f"hv{n}")
        br_int = switch.bridge("br-int", fail_mode="secure")
        switch.bridge("br-phy", addresses=[f"{address(n)}/24"]).uplink(wire)
        br_int.host(f"vm{n}", mac=mac(n))
        br_int.tunnel(tunnel, "tuns", remote="flow", key="flow")
        to_all = ""
        for other in HYPERVISORS:
            if other == n:
                continue
            out = f"set_field:{KEY}->tun_id,set_field:{address(other)}->tun_dst,tuns"
            br_int.flow(f"in_port=vm{n},dl_dst={mac(other)},actions={out}")
            br_int.flow(f"in_port=tuns,tun_src={address(other)},tun_id={KEY},actions=vm{n}")
            to_all += f",{out}"
        br_int.flow(f"in_port=vm{n},dl_dst=ff:ff:ff:ff:ff:ff,actions={to_all.lstrip(',')}")
    return topo


@pytest.mark.parametrize("tunnel", ["gre", "vxlan", "geneve"])
def test_flows_choose_the_remote_end(lab: Lab) -> None:
    matrix = lab.probe_all()
    assert matrix.reach == Reach.groups({"vm1", "vm2", "vm3"})
    for (source, to), sent in matrix.unicast.items():
        outer = sent.seen_on("wire").packet[IP]
        assert (outer.src, outer.dst) == (address(int(source[-1])), address(int(to[-1])))


def test_tun_src_tells_remote_ends_apart(lab: Lab) -> None:
    lab.switch("hv3").ofctl("del-flows", "br-int", f"in_port=tuns,tun_src={address(1)}")
    assert lab.probe("vm1").heard_at == {"vm2"}
    assert lab.probe("vm2").heard_at == {"vm1", "vm3"}


def test_tun_id_tells_keys_apart(lab: Lab) -> None:
    hv1 = lab.switch("hv1")
    hv1.ofctl(
        "add-flow",
        "br-int",
        f"in_port=vm1,dl_dst={mac(2)},"
        f"actions=set_field:{KEY + 1}->tun_id,set_field:{address(2)}->tun_dst,tuns",
    )
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == set()
    assert sent.seen_on("wire").packet[GRE].key == KEY + 1


def test_without_a_destination_nothing_is_sent(lab: Lab) -> None:
    lab.switch("hv1").ofctl("add-flow", "br-int", f"in_port=vm1,dl_dst={mac(2)},actions=tuns")
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == set()
    assert sent.crossed == set()


class TestLocalAddressOfFlows:
    """A switch with two addresses, whose flows say from which of them the tunnel starts."""

    @pytest.fixture
    def topology(self) -> Topology:
        topo = Topology("local-of-flows")
        wire = topo.underlay("wire")
        for n, own in ((1, (1, 11)), (2, (2,))):
            switch = topo.switch(f"hv{n}")
            addresses = [f"{address(number)}/24" for number in own]
            switch.bridge("br-phy", addresses=addresses).uplink(wire)
            br_int = switch.bridge("br-int", fail_mode="secure")
            br_int.host(f"vm{n}")
            br_int.tunnel("vxlan", "tuns", remote="flow", local="flow", key="flow")
        br_int.host("late")
        br_int.flow(f"in_port=tuns,tun_src={address(1)},actions=vm2")
        br_int.flow(f"in_port=tuns,tun_src={address(11)},actions=late")
        br_int.flow(
            f"in_port=vm2,actions=set_field:{address(2)}->tun_src,set_field:{address(11)}->tun_dst,tuns"
        )
        return topo

    @pytest.mark.parametrize(("local", "hears"), [(1, "vm2"), (11, "late")])
    def test_flows_choose_the_local_end(self, lab: Lab, local: int, hears: str) -> None:
        start = f"set_field:{address(local)}->tun_src,set_field:{address(2)}->tun_dst"
        lab.switch("hv1").ofctl("add-flow", "br-int", f"in_port=vm1,actions={start},tuns")
        sent = lab.probe("vm1")
        assert sent.heard_at == {hears}
        outer = sent.seen_on("wire").packet[IP]
        assert (outer.src, outer.dst) == (address(local), address(2))

    @pytest.mark.parametrize(("wanted", "hears"), [(11, {"vm1"}), (1, set())])
    def test_tun_dst_tells_local_addresses_apart(
        self, lab: Lab, wanted: int, hears: set[str]
    ) -> None:
        flow = f"in_port=tuns,tun_dst={address(wanted)},actions=vm1"
        lab.switch("hv1").ofctl("add-flow", "br-int", flow)
        sent = lab.probe("vm2")
        assert sent.heard_at == hears
        assert sent.seen_on("wire").packet[IP].dst == address(11)


class TestMixed:
    """A port-based and a flow-based tunnel on one bridge: what both could take belongs to the
    more specific one (ovs-fields(7), "Mixed models")."""

    @pytest.fixture
    def topology(self) -> Topology:
        topo = Topology("mixed")
        wire = topo.underlay("wire")
        for n in (1, 2):
            switch = topo.switch(f"hv{n}")
            switch.bridge("br-phy", addresses=[f"{address(n)}/24"]).uplink(wire)
            br_int = switch.bridge("br-int", fail_mode="secure")
            br_int.host(f"vm{n}")
            br_int.tunnel("gre", "one", remote=address(3 - n), key=KEY)
            br_int.tunnel("gre", "tuns", remote="flow", key="flow")
        br_int.host("other")
        br_int.flow("in_port=one,actions=vm2")
        br_int.flow("in_port=tuns,actions=other")
        return topo

    @pytest.mark.parametrize(
        ("actions", "key", "hears"),
        [
            ("one", KEY, "vm2"),
            (f"set_tunnel:{KEY},set_field:{address(2)}->tun_dst,tuns", KEY, "vm2"),
            (f"set_tunnel:{KEY + 1},set_field:{address(2)}->tun_dst,tuns", KEY + 1, "other"),
        ],
        ids=["port-based", "flow-based-same-key", "flow-based-other-key"],
    )
    def test_the_most_specific_port_takes_it(
        self, lab: Lab, actions: str, key: int, hears: str
    ) -> None:
        lab.switch("hv1").ofctl("add-flow", "br-int", f"in_port=vm1,actions={actions}")
        sent = lab.probe("vm1")
        assert sent.heard_at == {hears}
        assert sent.seen_on("wire").packet[GRE].key == key
