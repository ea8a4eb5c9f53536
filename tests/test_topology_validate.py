"""Validation: what can't be built is refused, at its place, and all of it at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.topology import TopologyError
from harness.topology.model import TopologySpec
from harness.topology.validate import check, validate


def spec(**bridge: Any) -> TopologySpec:
    """A topology with one switch, two bridges and one underlay; ``bridge`` are the first's."""
    data = {
        "name": "test",
        "underlays": [{"name": "wire"}, {"name": "wire2"}],
        "switches": [{"name": "s1", "bridges": [{"name": "br0", **bridge}, {"name": "br1"}]}],
    }
    return msgspec.convert(data, TopologySpec)


def host(**fields: Any) -> dict[str, Any]:
    return {"kind": "host", "name": "vm", **fields}


def tunnel(**fields: Any) -> dict[str, Any]:
    return {"kind": "tunnel", "name": "tun0", "type": "vxlan", "remote_ip": "10.0.0.2", **fields}


def patch(name: str, peer: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "patch", "name": name, "peer": peer, **fields}


def bond(*underlays: str, **fields: Any) -> dict[str, Any]:
    members = [{"name": f"m{n}", "underlay": name} for n, name in enumerate(underlays)]
    return {"kind": "bond", "name": "bond0", "members": members, **fields}


WIRE = {"kind": "uplink", "name": "eth0", "underlay": "wire"}
LOCAL = ["10.0.0.1/24"]
PORT = "switches[0].bridges[0].ports[0]"
BRIDGE = "switches[0].bridges[0]"


GOOD: list[dict[str, Any]] = [
    {"ports": [host(vlan={"tag": 0}), host(name="x", vlan={"trunks": [0, 4094]})]},
    {"ports": [host(vlan={"tag": 1, "trunks": [1, 2], "mode": "native-tagged"})]},
    {"ports": [host(vlan={"tag": 1, "cvlans": [5], "mode": "dot1q-tunnel"})]},
    {"ports": [host(vlan={"trunks": [5], "mode": "trunk"}, mac="02:00:00:00:00:01")]},
    {"ports": [WIRE, tunnel()], "addresses": LOCAL},
    {"ports": [WIRE, tunnel(local_ip="10.0.0.1", key="flow")], "addresses": LOCAL},
    {"ports": [WIRE, tunnel(remote_ip="flow", local_ip="flow")], "addresses": LOCAL},
    {"ports": [WIRE, tunnel(remote_ip="192.0.2.1")], "addresses": LOCAL},
    {"ports": [tunnel(local_ip="192.0.2.7", detached=True)]},
    {"ports": [WIRE, tunnel(type="ip6gre", remote_ip="fd00::2", key="0xffffffff")],
     "addresses": ["fd00::1/64"]},
    {"ports": [WIRE, tunnel(), {"kind": "internal", "name": "tep", "addresses": LOCAL}]},
    {"ports": [bond("wire", "wire2")]},
    {"ports": [patch("p0", "gone", peer_missing=True)]},
    {"ports": [patch("p0", "p1"), patch("p1", "p0")]},
    {"ports": [host(protected=True)], "vlan": {"tag": 1}, "protected": True},
    {"ports": [host(qos={"type": "linux-htb", "max-rate": "1"}, queues={0: {"max-rate": "1"}})]},
    {"ports": [host()], "mirrors": [{"name": "m", "select_all": True, "output_port": "br0"}]},
    {"mirrors": [{"name": "m", "select_all": True, "output_vlan": 1, "filter": "tcp,tp_dst=80"}]},
    {"flows": "priority=1,\tactions=drop\n# comment", "protocols": ["OpenFlow10", "OpenFlow15"]},
]  # fmt: skip


@pytest.mark.parametrize("fields", GOOD)
def test_what_can_be_built_passes(fields: dict[str, Any]) -> None:
    assert validate(spec(**fields)) == []


BAD: list[tuple[dict[str, Any], str, str]] = [
    # Names.
    ({"ports": [host(name="a" * 16)]}, f"{PORT}.name", "16 bytes, an interface name has at most"),
    ({"ports": [host(name="ä" * 8)]}, f"{PORT}.name", "16 bytes"),
    ({"ports": [host(name="")]}, f"{PORT}.name", "the name is empty"),
    ({"ports": [host(name="a/b")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="a b")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="a\nb")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="-rf")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="..")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="eth%d")]}, f"{PORT}.name", "may hold only letters, digits"),
    ({"ports": [host(name="7")]}, f"{PORT}.name", "read as a port number"),
    ({"ports": [host(name="Normal")]}, f"{PORT}.name", "reserved port of OpenFlow"),
    ({"ports": [host(name="lo")]}, f"{PORT}.name", "belongs to the kernel"),
    ({"ports": [host(name="genev_sys_6081")]}, f"{PORT}.name", "belongs to the kernel"),
    ({"ports": [host(), host()]}, "ports[1].name", "already used by a port of bridge 'br0'"),
    ({"ports": [host(name="br1")]}, f"{PORT}.name", "already used by bridge 'br1'"),
    ({"ports": [bond("wire", "wire2", name="m0")]}, "members[0].name", "already used by a port"),
    # VLANs.
    ({"ports": [host(vlan={"tag": 4095})]}, f"{PORT}.vlan.tag", "VLAN 4095 is reserved"),
    ({"ports": [host(vlan={"tag": 4096})]}, f"{PORT}.vlan.tag", "VLAN 4096 does not exist"),
    ({"ports": [host(vlan={"tag": -1})]}, f"{PORT}.vlan.tag", "VLAN -1 does not exist"),
    ({"ports": [host(vlan={"trunks": [1, 4096]})]}, f"{PORT}.vlan.trunks", "VLAN 4096"),
    ({"ports": [host(vlan={"trunks": [1, 1]})]}, f"{PORT}.vlan.trunks", "listed twice"),
    ({"ports": [host(vlan={"tag": 1, "mode": "trunk"})]}, f"{PORT}.vlan.tag", "carries no tag"),
    ({"ports": [host(vlan={"mode": "access"})]}, f"{PORT}.vlan.mode", "needs a tag"),
    ({"ports": [host(vlan={"mode": "native-tagged"})]}, f"{PORT}.vlan.mode", "needs a tag"),
    ({"ports": [host(vlan={"mode": "dot1q-tunnel"})]}, f"{PORT}.vlan.mode", "needs a tag"),
    ({"ports": [host(vlan={"tag": 1, "trunks": [2]})]}, f"{PORT}.vlan.trunks", "native-untagged"),
    ({"ports": [host(vlan={"tag": 1, "trunks": [2], "mode": "access"})]},
     f"{PORT}.vlan.trunks", "mode access has no trunks"),
    ({"ports": [host(vlan={"tag": 1, "cvlans": [2]})]}, f"{PORT}.vlan.cvlans", "dot1q-tunnel"),
    ({"vlan": {"tag": 4095}}, f"{BRIDGE}.vlan.tag", "VLAN 4095 is reserved"),
    ({"vlan": {"mode": "access"}}, f"{BRIDGE}.vlan.mode", "needs a tag"),
    # Ends.
    ({"ports": [host(addresses=["10.0.0.1"])]}, f"{PORT}.addresses[0]", "prefix length"),
    ({"ports": [host(addresses=["10.0.0.1/33"])]}, f"{PORT}.addresses[0]", "prefix length"),
    ({"ports": [host(addresses=["10.0.0.1/255.0.0.0"])]}, f"{PORT}.addresses[0]", "prefix length"),
    ({"ports": [host(addresses=["fe80::1%eth0/64"])]}, f"{PORT}.addresses[0]", "prefix length"),
    ({"ports": [host(addresses=["224.0.0.1/24"])]}, f"{PORT}.addresses[0]", "can't be the address"),
    ({"ports": [host(addresses=["10.0.0.1/24", "10.0.0.1/8"])]}, "addresses[1]", "there twice"),
    ({"ports": [host(mac="02:00:00:00:00")]}, f"{PORT}.mac", "no MAC address"),
    ({"ports": [host(mac="01:00:00:00:00:01")]}, f"{PORT}.mac", "group address"),
    ({"ports": [host(mac="00:00:00:00:00:00")]}, f"{PORT}.mac", "no usable MAC"),
    ({"ports": [host(mtu=67)]}, f"{PORT}.mtu", "MTU 67 is out of range"),
    ({"ports": [host(mtu=65536)]}, f"{PORT}.mtu", "MTU 65536 is out of range"),
    ({"ports": [host(mtu=1279, addresses=["fd00::1/64"])]}, f"{PORT}.mtu", "can't carry IPv6"),
    ({"mac": "zz"}, f"{BRIDGE}.mac", "no MAC address"),
    # Maps and text.
    ({"other_config": {"a\nb": "x"}}, f"{BRIDGE}.other_config", "line break or control character"),
    ({"other_config": {"": "x"}}, f"{BRIDGE}.other_config", "the key is empty"),
    ({"other_config": {"a": "x\0"}}, f"{BRIDGE}.other_config.a", "control character"),
    ({"other_config": {"a": "x" * 5000}}, f"{BRIDGE}.other_config.a", "at most 4096"),
    ({"flows": "ok\nbad\r"}, f"{BRIDGE}.flows", "line 2 of the text holds a control character"),
    ({"meters": "x" * ((1 << 20) + 1)}, f"{BRIDGE}.meters", "characters of text"),
    ({"ports": [host(interface={"name": "x"})]}, f"{PORT}.interface.name", "follows from the port"),
    ({"ports": [host(interface={"x-y": "x"})]}, f"{PORT}.interface.x-y", "no column"),
    ({"ports": [host(interface={"lldp": {"a": "\n"}})]}, f"{PORT}.interface.lldp.a", "line break"),
    ({"ports": [host(queues={0: {}})]}, f"{PORT}.qos", "a QoS needs its `type`"),
    ({"ports": [host(qos={"type": "x"}, queues={-1: {}})]}, f"{PORT}.queues", "queue -1"),
    ({"protocols": ["OpenFlow16"]}, f"{BRIDGE}.protocols[0]", "unknown; use OpenFlow10"),
    ({"protocols": ["OpenFlow10"] * 2}, f"{BRIDGE}.protocols[1]", "listed twice"),
    # Underlays and bonds.
    ({"ports": [{**WIRE, "underlay": "wier"}]}, f"{PORT}.underlay", "did you mean 'wire'?"),
    ({"ports": [bond("wire", "nowhere")]}, "members[1].underlay", "'nowhere' is unknown"),
    ({"ports": [bond("wire")]}, f"{PORT}.members", "needs two members or more, this has 1"),
    ({"ports": [bond("wire", "wire")]}, "members[1].underlay", "each member needs its own"),
    ({"ports": [bond("wire", "wire2", updelay=-1)]}, f"{PORT}.updelay", "out of range"),
    ({"ports": [bond("wire", "wire2", interface={"lldp": "x"})]}, f"{PORT}.interface", "members"),
    # Patches.
    ({"ports": [patch("p0", "p1")]}, f"{PORT}.peer", "peer 'p1' is unknown in 's1'"),
    ({"ports": [patch("p0", "p0")]}, f"{PORT}.peer", "is its own peer"),
    ({"ports": [patch("p0", "vm"), host()]}, f"{PORT}.peer", "'vm' is no patch port"),
    ({"ports": [patch("p0", "p1"), patch("p1", "p2", peer_missing=True)]},
     f"{PORT}.peer", "points to 'p2', not back to 'p0'"),
    ({"ports": [patch("p0", "vm", peer_missing=True), host()]}, f"{PORT}.peer", "exists, though"),
    ({"ports": [patch("p0", "a b", peer_missing=True)]}, f"{PORT}.peer", "may hold only"),
    # Mirrors.
    ({"mirrors": [{"name": "m"}]}, f"{BRIDGE}.mirrors[0]", "has no output"),
    ({"mirrors": [{"name": "m", "output_port": "br0", "output_vlan": 1}]},
     f"{BRIDGE}.mirrors[0]", "has both output_port and output_vlan"),
    ({"mirrors": [{"name": "m", "output_vlan": 0}]}, "output_vlan", "use 1 to 4094"),
    ({"mirrors": [{"name": "m", "output_port": "vm"}]}, "output_port", "'vm' is unknown in 'br0'"),
    ({"mirrors": [{"name": "m", "output_vlan": 1, "select_src_port": ["br1"]}]},
     "select_src_port[0]", "'br1' is unknown in 'br0'; did you mean 'br0'?"),
    ({"mirrors": [{"name": "m", "output_vlan": 1, "filter": ""}]}, "filter", "is empty"),
    ({"mirrors": [{"name": "m", "output_vlan": 1, "filter": "tcp\n"}]}, "filter", "line break"),
    ({"mirrors": [{"name": "m", "output_vlan": 1, "filter": "tcp, in_port=1"}]},
     "filter", "use select_src_port"),
    ({"mirrors": [{"name": "m", "output_vlan": 1, "snaplen": 13}]}, "snaplen", "14 to 65535"),
    ({"mirrors": [{"name": "m", "output_vlan": 1}] * 2}, "mirrors[1].name", "there twice"),
    # Tunnels.
    ({"ports": [tunnel()], "addresses": LOCAL}, PORT, "has no underlay"),
    ({"ports": [tunnel(), WIRE]}, f"{PORT}.remote_ip", "has no IPv4 address to reach 10.0.0.2"),
    ({"ports": [tunnel(), WIRE], "addresses": ["fd00::1/64"]}, f"{PORT}.remote_ip", "no IPv4"),
    ({"ports": [tunnel(local_ip="10.0.0.9"), WIRE], "addresses": LOCAL},
     f"{PORT}.local_ip", "no bridge of 's1' has the tunnel's local address 10.0.0.9"),
    ({"ports": [tunnel(remote_ip="flow"), WIRE]}, f"{PORT}.remote_ip", "'s1' has no address"),
    ({"ports": [tunnel(remote_ip="host.example"), WIRE]}, f"{PORT}.remote_ip", "neither an IP"),
    ({"ports": [tunnel(remote_ip="239.0.0.1"), WIRE]}, f"{PORT}.remote_ip", "only unicast"),
    ({"ports": [tunnel(local_ip="fd00::1"), WIRE], "addresses": ["fd00::1/64"]},
     f"{PORT}.local_ip", "mix IPv4 and IPv6"),
    ({"ports": [tunnel(local_ip="flow"), WIRE], "addresses": LOCAL}, "local_ip", "needs remote_ip"),
    ({"ports": [tunnel(type="ip6gre"), WIRE], "addresses": LOCAL}, "remote_ip", "runs over IPv6"),
    ({"ports": [tunnel(key="x"), WIRE], "addresses": LOCAL}, f"{PORT}.key", "neither a number nor"),
    ({"ports": [tunnel(key="010"), WIRE], "addresses": LOCAL}, f"{PORT}.key", "neither a number"),
    ({"ports": [tunnel(key="16777216"), WIRE], "addresses": LOCAL}, f"{PORT}.key", "have 24 bits"),
    ({"ports": [tunnel(type="gre", in_key="0x100000000"), WIRE], "addresses": LOCAL},
     f"{PORT}.in_key", "have 32 bits"),
    ({"ports": [tunnel(type="erspan", key="1024"), WIRE], "addresses": LOCAL},
     f"{PORT}.key", "have 10 bits"),
    ({"ports": [tunnel(type="bareudp", key="1"), WIRE], "addresses": LOCAL},
     f"{PORT}.key", "a bareudp tunnel has no key"),
    ({"ports": [tunnel(options={"key": "1"}), WIRE], "addresses": LOCAL},
     f"{PORT}.options.key", "is a field of the tunnel"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "place", "said"), BAD)
def test_what_can_not_be_built_is_refused(fields: dict[str, Any], place: str, said: str) -> None:
    mistakes = validate(spec(**fields))
    found = [m for m in mistakes if m.place.endswith(place) and said in m.message]
    assert found, mistakes
    assert all("\n" not in m.message and len(m.message) < 300 for m in mistakes)


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        ({"name": "a/b"}, "name", "may hold only"),
        ({"name": "x" * 65}, "name", "at most 64"),
        ({"underlays": [{"name": "w"}, {"name": "w"}]}, "underlays[1].name", "there twice"),
        ({"underlays": [{"name": "w", "mtu": 10}]}, "underlays[0].mtu", "out of range"),
        ({"switches": [{"name": "s"}, {"name": "s"}]}, "switches[1].name", "there twice"),
        ({"switches": [{"name": "s" * 33}]}, "switches[0].name", "at most 32"),
        ({"switches": [{"name": f"s{n}"} for n in range(300)]}, "switches", "at most 256"),
        ({"switches": [{"name": "s", "routes": ["-x"]}]}, "switches[0].routes[0]", "begins with -"),
        ({"switches": [{"name": "s", "routes": ["via x"]}]}, "routes[0]", "no destination"),
        ({"switches": [{"name": "s", "routes": ["a\nb"]}]}, "routes[0]", "line break"),
    ],
)
def test_mistakes_of_the_whole(change: dict[str, Any], place: str, said: str) -> None:
    mistakes = validate(msgspec.convert({"name": "test", **change}, TopologySpec))
    assert [m for m in mistakes if m.place.endswith(place) and said in m.message], mistakes


@pytest.mark.parametrize(
    "route", ["default via 10.0.0.1", "10.1.0.0/16 dev br0", "blackhole fd00::/8"]
)
def test_routes_pass(route: str) -> None:
    data = {"name": "test", "switches": [{"name": "s", "routes": [route]}]}
    assert validate(msgspec.convert(data, TopologySpec)) == []


def two_switches(first: dict[str, Any], second: dict[str, Any]) -> TopologySpec:
    bridges = [{"name": "br0", **fields} for fields in (first, second)]
    switches = [{"name": f"s{n}", "bridges": [bridge]} for n, bridge in enumerate(bridges)]
    data = {"name": "test", "underlays": [{"name": "wire"}], "switches": switches}
    return msgspec.convert(data, TopologySpec)


def test_host_names_are_unique_in_the_lab() -> None:
    (mistake,) = validate(two_switches({"ports": [host()]}, {"ports": [host()]}))
    assert mistake.message == (
        "host 'vm' is already on switch 's0'; host names are unique in the lab"
    )


def test_an_address_is_there_once_on_an_underlay() -> None:
    both = {"ports": [WIRE], "addresses": LOCAL}
    (mistake,) = validate(two_switches(both, both))
    assert mistake.place == "switches[1].bridges[0].addresses[0]"
    assert mistake.message == "address 10.0.0.1 is already on 's0', on the same underlay 'wire'"
    assert validate(two_switches(both, {"addresses": LOCAL})) == []


def test_the_same_address_in_different_vlans_is_no_mistake() -> None:
    def tagged(tag: int) -> dict[str, Any]:
        port = {"kind": "internal", "name": "i", "addresses": LOCAL, "vlan": {"tag": tag}}
        return {"ports": [WIRE, port]}

    def local(tag: int) -> dict[str, Any]:
        return {"ports": [WIRE], "addresses": LOCAL, "vlan": {"tag": tag}}

    for make in (tagged, local):
        assert validate(two_switches(make(1), make(2))) == []
        assert len(validate(two_switches(make(1), make(1)))) == 1


def test_a_patch_to_another_switch_says_what_to_use() -> None:
    found = validate(two_switches({"ports": [patch("p0", "p1")]}, {"ports": [patch("p1", "p0")]}))
    assert [m.message for m in found] == [
        "peer 'p1' is on switch 's1'; a patch joins bridges of one switch, between switches use "
        "an underlay",
        "peer 'p0' is on switch 's0'; a patch joins bridges of one switch, between switches use "
        "an underlay",
    ]


def test_wrong_types_in_the_data_are_a_mistake_and_no_crash() -> None:
    broken = msgspec.structs.replace(spec(), switches="s1")
    (mistake,) = validate(broken)
    assert (mistake.place, mistake.message) == ("switches", "expected `list`, got `str`")
    odd = msgspec.structs.replace(spec(), switches=(object(),))
    assert "no topology data" in validate(odd)[0].message


def test_check_tells_all_mistakes_in_one_error() -> None:
    with pytest.raises(TopologyError) as caught:
        check(spec(ports=[host(name="a b", mtu=1), host(vlan={"tag": 5000})]))
    assert len(caught.value.mistakes) == 3
    assert str(caught.value).splitlines()[0] == "3 mistakes in the topology:"
