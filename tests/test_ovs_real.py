"""A real Open vSwitch in a namespace node: what is configured is what comes to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.images import Image, resolve
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.ovs import (
    ConfigurationError,
    DaemonError,
    OpenFlowError,
    OvsError,
    PortError,
    Switch,
    apply,
    diff,
    gather,
    load,
)
from harness.polling import eventually
from harness.topology import model

NASTY = 'a,b="c" {d} [e] \\f @r0 ünï --\tg'

INTEGRATION = model.Bridge(
    name="br-int",
    ports=(
        model.HostPort(
            name="vm1",
            vlan=model.Vlan(tag=900),
            interface={"external_ids": {NASTY: NASTY}, "ingress_policing_rate": 100000},
            qos={"type": "linux-htb", "max-rate": "1000000"},
            queues={0: {"max-rate": "1000"}, 7: {}},
        ),
        model.HostPort(name="vm2", vlan=model.Vlan(trunks=(1, 2), tag=3, mode="native-tagged")),
        model.PatchPort(name="to-pif", peer="to-int"),
        model.InternalPort(name="in0", mac="02:00:00:00:00:07", mtu=1400),
        model.TunnelPort(
            name="vx0", type="vxlan", remote_ip="10.0.0.2", local_ip="10.0.0.1", key="5"
        ),
        model.TunnelPort(name="gn0", type="geneve", remote_ip="10.0.0.2", key="flow"),
    ),
    mirrors=(model.Mirror(name="span", select_src_port=("vm1",), output_port="in0"),),
    flows="""\
# by name, with every setting of a flow
table=0,priority=5,cookie=0x5,in_port=vm1,actions=output:to-pif
table=1,tun_metadata0=5,actions=group:1
table=2,idle_timeout=3600,hard_timeout=7200,importance=4,send_flow_rem,icmp,actions=drop
""",
    groups="group_id=1,type=all,bucket=actions=output:1,bucket=actions=output:2",
    tlv_map="{class=0xffff,type=0,len=4}->tun_metadata0",
)
PHYSICAL = model.Bridge(
    name="br-pif",
    ports=(
        model.PatchPort(name="to-int", peer="to-pif"),
        model.BondPort(
            name="bond0",
            members=(
                model.BondMember(name="u0", underlay="a"),
                model.BondMember(name="u1", underlay="b"),
            ),
            updelay=100,
        ),
    ),
    protocols=("OpenFlow10", "OpenFlow13"),
    mac="02:00:00:00:00:01",
    fail_mode="secure",
    mcast_snooping=True,
    flows="actions=normal",
)
OLD = model.Bridge(name="br-old", protocols=("OpenFlow10",), mtu=1300, flows="ip,actions=drop")
SWITCH = model.Switch(name="hv1", bridges=(INTEGRATION, PHYSICAL, OLD), other_config={NASTY: NASTY})


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    image = resolve("trixie")
    with image.hold():
        yield image


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    fabric = Fabric()
    yield fabric
    fabric.close()


@pytest.fixture
def node(fabric: Fabric, image: Image) -> Iterator[NamespaceNode]:
    node = fabric.start_node("hv1", image.lower)
    yield node
    node.close()


def with_links(node: NamespaceNode, *names: str) -> None:
    """Make the interfaces that hosts and uplinks are attached by."""
    for name in names:
        node.run(["ip", "link", "add", name, "up", "type", "veth", "peer", f"{name}-far"])


def started(node: NamespaceNode, *bridges: model.Bridge, datapath: str = "netdev") -> Switch:
    switch = Switch(node, model.Switch(name="hv1", bridges=bridges), datapath)
    switch.start()
    return switch


@pytest.fixture
def switch(node: NamespaceNode) -> Switch:
    """The whole topology, configured."""
    with_links(node, "vm1", "vm2", "u0", "u1")
    switch = Switch(node, SWITCH, "netdev")
    switch.start()
    switch.configure()
    return switch


def test_what_is_configured_is_in_the_database(switch: Switch) -> None:
    (root,) = switch.db("Open_vSwitch", ["other_config"])
    assert root["other_config"] == {NASTY: NASTY}
    (vm1,) = switch.db("Interface", where={"name": "vm1"})
    assert vm1["external_ids"] == {NASTY: NASTY}
    assert vm1["ingress_policing_rate"] == 100000
    assert switch.db("Port", ["tag", "trunks", "vlan_mode"], {"name": "vm2"}) == [
        {"tag": 3, "trunks": [1, 2], "vlan_mode": "native-tagged"}
    ]
    assert switch.db("Interface", ["type", "options"], {"name": "vx0"}) == [
        {
            "type": "vxlan",
            "options": {"key": "5", "local_ip": "10.0.0.1", "remote_ip": "10.0.0.2"},
        }
    ]
    (pif,) = switch.db("Bridge", where={"name": "br-pif"})
    assert pif["fail_mode"] == "secure"
    assert pif["protocols"] == ["OpenFlow10", "OpenFlow13"]
    assert pif["datapath_id"] == "0000020000000001"
    assert switch.ofport("vm1") > 0


def test_state_has_what_was_configured(switch: Switch, tmp_path: Path) -> None:
    state = switch.state()
    bridge = state.bridges["br-int"]
    port = {name: number for name, number in bridge.ports.items() if number is not None}
    assert port["br-int"] == 65534
    assert [str(flow) for flow in bridge.flows] == [
        f"table=0,priority=5,in_port={port['vm1']},cookie=0x5 actions=output:{port['to-pif']}",
        "table=0,priority=0 actions=NORMAL",
        "table=1,priority=32768,tun_metadata0=0x5 actions=group:1",
        "table=2,priority=32768,icmp,idle_timeout=3600,hard_timeout=7200,importance=4,"
        "send_flow_rem actions=drop",
    ]
    assert list(bridge.groups) == [1]
    assert [mapping.field for mapping in bridge.tlv_map] == ["tun_metadata0"]
    assert [str(flow) for flow in state.bridges["br-pif"].flows] == [
        "table=0,priority=32768 actions=NORMAL"
    ]
    assert [flow.match for flow in state.bridges["br-old"].flows] == ["ip", ""]
    assert sorted(state.links) == ["br-int", "br-old", "br-pif", "in0"]
    assert state.links["in0"].mac == "02:00:00:00:00:07"
    assert state.links["in0"].mtu == 1400
    assert state.links["br-old"].mtu == 1300
    assert state.database["QoS"]["vm1.qos"]["queues"]["7"] == "vm1.qos.queues[7]"
    assert state.database["Mirror"]["br-int.mirrors[span]"]["output_port"] == "in0"
    assert switch.state() == state
    state.save(tmp_path / "state.json")
    assert load(tmp_path / "state.json") == state


def test_a_restart_keeps_the_state(switch: Switch) -> None:
    before = switch.state()
    pid = switch.pid()
    printed = switch.restart().stdout
    assert "Restoring saved flows" in printed
    assert switch.pid() != pid
    switch.check_alive()
    assert diff(before, switch.state()) == []
    assert "NORMAL" in switch.trace("br-pif", "in_port=LOCAL")


def test_what_a_restart_loses_is_seen(switch: Switch) -> None:
    switch.ofctl("-O", "OpenFlow13", "add-meter", "br-pif", "meter=1 kbps bands=type=drop rate=5")
    switch.node.run(["ip", "link", "set", "in0", "mtu", "1300"])
    before = switch.state()
    switch.ofctl("-O", "OpenFlow13", "del-meters", "br-pif")
    switch.ofctl("-O", "OpenFlow10", "add-flow", "br-old", "priority=7,arp,actions=flood")
    switch.vsctl("set", "Port", "vm1", "tag=901")
    assert diff(before, switch.state()) == [
        "bridge br-old: flow new: table=0,priority=7,arp actions=FLOOD",
        "bridge br-pif: meter 1 lost: kbps bands= type=drop rate=5",
        "Port vm1: tag: 900 -> 901",
    ]


def test_configure_replaces_what_was_there(node: NamespaceNode) -> None:
    with_links(node, "vm1")
    switch = started(node, model.Bridge(name="br0"), model.Bridge(name="br1"))
    switch.configure()
    bridge = model.Bridge(name="br0", ports=(model.HostPort(name="vm1"),))
    switch.spec = model.Switch(name="hv1", bridges=(bridge,))
    switch.configure()
    assert switch.db("Bridge", ["name"]) == [{"name": "br0"}]
    assert switch.vsctl("list-ports", "br0") == "vm1\n"


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        (
            model.Bridge(name="br0", ports=(model.HostPort(name="nope"),)),
            r"hv1: bridge br0, port nope: could not open network device nope \(No such device\)",
        ),
        (
            model.Bridge(
                name="br0", ports=(model.TunnelPort(name="t0", type="vxlan", remote_ip="x y"),)
            ),
            "hv1: bridge br0, port t0: t0: bad vxlan 'remote_ip'; t0: .* requires valid",
        ),
        (
            model.Bridge(
                name="br0",
                ports=tuple(
                    model.TunnelPort(name=name, type="vxlan", remote_ip="10.0.0.2", key="1")
                    for name in ("t0", "t1")
                ),
            ),
            r"hv1: bridge br0, port t\d: could not add network device t\d to ofproto \(File exi",
        ),
        (
            model.Bridge(name="br0", datapath_type="dummy"),
            "hv1: bridge br0: .*",
        ),
    ],
)
def test_a_port_that_cannot_be_made_is_an_error(
    node: NamespaceNode, bridge: model.Bridge, message: str
) -> None:
    with pytest.raises(PortError, match=message):
        started(node, bridge).configure()


@pytest.mark.parametrize(
    ("bridge", "error", "message"),
    [
        (
            model.Bridge(name="b", flows="actions=drop\nactions=bogus"),
            OpenFlowError,
            "hv1: bridge b: flows, line 2: unknown action bogus: `actions=bogus`",
        ),
        (
            model.Bridge(name="b", flows="actions=drop\nip,actions=group:77"),
            OpenFlowError,
            "hv1: bridge b: flows: OFPBAC_BAD_OUT_GROUP: ADD ip actions=group:77",
        ),
        (
            model.Bridge(name="b", protocols=("OpenFlow10",), flows="ip,actions=group:77"),
            OpenFlowError,
            "hv1: bridge b: flows: OFPBAC_BAD_OUT_GROUP: ADD ip actions=group:77",
        ),
        (
            model.Bridge(name="b", groups="group_id=1,type=all\ngroup_id=1,type=all"),
            OpenFlowError,
            "hv1: bridge b: groups: OFPGMFC_GROUP_EXISTS: ADD group_id=1,type=all",
        ),
        (
            model.Bridge(name="b", meters="meter=1 kbpss"),
            OpenFlowError,
            "hv1: bridge b: meter `meter=1 kbpss`: ",
        ),
        (
            model.Bridge(name="b", tlv_map="{class=0xffff,type=0,len=4}->tun_metadata99"),
            OpenFlowError,
            "hv1: bridge b: TLV map `.*: NXTTMFC_BAD_FIELD_IDX",
        ),
        (
            model.Bridge(name="b", ports=(model.HostPort(name="p", interface={"nonsense": 1}),)),
            ConfigurationError,
            "hv1: the configuration was refused: .*[Nn]o column nonsense",
        ),
        (
            model.Bridge(name="b", protocols=("OpenFlow99",)),
            ConfigurationError,
            "hv1: the configuration was refused: .*OpenFlow99 is not one of the allowed values",
        ),
    ],
)
def test_what_open_vswitch_refuses_is_an_error(
    node: NamespaceNode, bridge: model.Bridge, error: type[OvsError], message: str
) -> None:
    with pytest.raises(error, match=message):
        started(node, bridge).configure()


def test_a_daemon_that_hangs_is_waited_for_until_the_bound(
    node: NamespaceNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "TIMEOUT", 0.1)
    switch = started(node)
    node.run(["kill", "-STOP", str(switch.pid())])
    with pytest.raises(ConfigurationError, match=r"^hv1: ovs-vswitchd did not carry out .* 0\.1 s"):
        switch.configure()
    node.run(["kill", "-CONT", str(switch.pid())])
    monkeypatch.undo()
    switch.configure()


def test_a_killed_daemon_is_found_out(node: NamespaceNode) -> None:
    switch = started(node)
    pid = switch.pid()
    node.run(["kill", "-SEGV", str(pid)])
    error = eventually(lambda: death(switch), within=60, what="the death of the daemon is found")
    assert error.startswith(f"hv1: ovs-vswitchd (pid {pid}) has died")
    assert "the end of /var/log/openvswitch/ovs-vswitchd.log:" in error


def death(switch: Switch) -> str:
    """What is said of a dead daemon; nothing while both live."""
    try:
        switch.check_alive()
    except DaemonError as error:
        return str(error)
    return ""


def test_a_configuration_that_a_stopped_daemon_cannot_carry_out(node: NamespaceNode) -> None:
    switch = started(node, model.Bridge(name="br0"))
    switch.stop()
    assert switch.status() == "ovsdb-server is not running\novs-vswitchd is not running\n"
    with pytest.raises(DaemonError, match="start the switch first"):
        switch.configure()
    switch.start()
    switch.configure()
    assert switch.vsctl("list-br") == "br0\n"


def test_the_dummy_datapath(node: NamespaceNode) -> None:
    bridge = model.Bridge(
        name="br0", ports=(model.HostPort(name="p", interface={"type": "dummy"}),)
    )
    switch = started(node, bridge, datapath="dummy")
    switch.configure()
    state = switch.state()
    assert state.database["Bridge"]["br0"]["datapath_type"] == "dummy"
    assert state.links == {}


def test_looking_is_over_the_sockets(switch: Switch) -> None:
    ran = len(switch.node.commands)
    assert switch.unixctl("version").startswith("ovs-vswitchd (Open vSwitch) ")
    assert switch.fdb("br-int") == []
    assert switch.datapath_counters().lost == 0
    switch.datapaths_soon().result()
    switch.check_alive()
    assert sorted(switch.logs()) == ["ovs-vswitchd", "ovsdb-server"]
    assert "opened log file" in switch.logs()["ovs-vswitchd"]
    assert len(switch.node.commands) == ran


def test_to_settle_does_not_wait_for_what_comes_by_itself(switch: Switch) -> None:
    """Rounds of revalidation that ovs-vswitchd begins by itself come too late for the questions."""
    seldom = "other_config={max-idle=3600000, max-revalidator=3600000}"
    switch.vsctl("set", "Open_vSwitch", ".", seldom)
    for _ in range(400):
        switch.settle_soon().result()


def test_what_is_not_there_is_an_error(switch: Switch) -> None:
    with pytest.raises(OvsError, match="hv1: there is no interface nope"):
        switch.ofport("nope")
    with pytest.raises(OvsError, match="has no table 'Nope'"):
        switch.db("Nope")
    with pytest.raises(OvsError, match="table Port has no column 'nope'"):
        switch.db("Port", ["nope"])
    with pytest.raises(PortError, match=r"hv1: port nope: could not open network device nope"):
        switch.vsctl("add-port", "br-int", "nope")


def test_many_switches_at_the_same_time(fabric: Fabric, image: Image) -> None:
    nodes = [fabric.start_node(f"s{number}", image.lower) for number in range(4)]
    bridge = model.Bridge(name="br0", flows="table=1,actions=drop")
    switches = [Switch(n, model.Switch(name=n.name, bridges=(bridge,)), "netdev") for n in nodes]
    try:
        gather([switch.start_soon() for switch in switches])
        gather([switch.configure_soon() for switch in switches])
        states = gather([switch.state_soon() for switch in switches])
        assert [state.switch for state in states] == [n.name for n in nodes]
        assert all(len(state.bridges["br0"].flows) == 2 for state in states)
        gather([switch.restart_soon() for switch in switches])
        after = gather([switch.state_soon() for switch in switches])
        assert [diff(*pair) for pair in zip(states, after, strict=True)] == [[]] * 4
        gather([switch.stop_soon() for switch in switches])
    finally:
        for n in nodes:
            n.close()
