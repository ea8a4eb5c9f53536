"""The one transaction that a topology becomes, for the database and as ovs-vsctl would be told."""

from __future__ import annotations

import pytest

from harness.ovs.configure import interfaces, transaction
from harness.ovs.errors import ConfigurationError
from harness.ovs.transaction import Record, Value, encode, render
from harness.topology.model import (
    BondMember,
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Mirror,
    PatchPort,
    Port,
    Switch,
    TunnelPort,
    UplinkPort,
    Vlan,
)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("br0", '"br0"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("x,y=z", '"x,y=z"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("two\nlines", r'"two\nlines"'),
        ("--timeout=0", '"--timeout=0"'),
        ("{a=b}", '"{a=b}"'),
        ("@r0", '"@r0"'),
        ("ünïcode", '"ünïcode"'),
    ],
)
def test_text_is_always_a_quoted_string(text: str, quoted: str) -> None:
    assert render(text) == quoted
    assert encode(text) == text


@pytest.mark.parametrize("text", ["nul\0", "lone \udc80 surrogate"])
def test_text_that_the_database_cannot_hold_is_refused(text: str) -> None:
    for value in (text, [text], {text: "v"}, {"k": text}):
        with pytest.raises(ConfigurationError, match="that the database cannot hold"):
            encode(value)


@pytest.mark.parametrize(
    ("value", "rendered", "encoded"),
    [
        (True, "true", True),
        (False, "false", False),
        (0, "0", 0),
        (-1, "-1", -1),
        ("5", '"5"', "5"),
        ([], "[]", ["set", []]),
        ([1, 2], "[1,2]", ["set", [1, 2]]),
        (
            ("OpenFlow10", "OpenFlow15"),
            '["OpenFlow10","OpenFlow15"]',
            ["set", ["OpenFlow10", "OpenFlow15"]],
        ),
        ({}, "{}", ["map", []]),
        (
            {"max-rate": "5", "a,b": "c=d"},
            '{"max-rate"="5","a,b"="c=d"}',
            ["map", [["max-rate", "5"], ["a,b", "c=d"]]],
        ),
        (Record("r1"), "@r1", ["named-uuid", "r1"]),
        ({7: Record("r2")}, "{7=@r2}", ["map", [[7, ["named-uuid", "r2"]]]]),
    ],
)
def test_values_as_they_are_written(value: Value, rendered: str, encoded: object) -> None:
    assert render(value) == rendered
    assert encode(value) == encoded


def test_the_operations_of_a_transaction() -> None:
    switch = Switch(name="s", other_config={"k": "v"}, bridges=(Bridge(name="br0"),))
    set_of = [["named-uuid", "r1"]]
    assert transaction(switch, "netdev").operations() == [
        {
            "op": "insert",
            "table": "Interface",
            "uuid-name": "r0",
            "row": {"name": "br0", "type": "internal"},
        },
        {
            "op": "insert",
            "table": "Port",
            "uuid-name": "r1",
            "row": {"name": "br0", "interfaces": ["set", [["named-uuid", "r0"]]]},
        },
        {
            "op": "insert",
            "table": "Bridge",
            "uuid-name": "r2",
            "row": {"name": "br0", "datapath_type": "netdev", "ports": ["set", set_of]},
        },
        {
            "op": "update",
            "table": "Open_vSwitch",
            "where": [],
            "row": {"bridges": ["set", [["named-uuid", "r2"]]]},
        },
        {
            "op": "mutate",
            "table": "Open_vSwitch",
            "where": [],
            "mutations": [
                ["other_config", "delete", ["set", ["k"]]],
                ["other_config", "insert", ["map", [["k", "v"]]]],
            ],
        },
    ]


def commands(switch: Switch, datapath: str = "netdev") -> list[list[str]]:
    """The transaction's commands, each as its words."""
    words = transaction(switch, datapath).words()
    assert words[0] == "--"
    found: list[list[str]] = [[]]
    for word in words[1:]:
        if word == "--":
            found.append([])
        else:
            found[-1].append(word)
    return found


def created(switch: Switch, table: str, datapath: str = "netdev") -> list[set[str]]:
    """The column assignments of every record of ``table`` that is created, in order."""
    return [
        set(words[3:]) for words in commands(switch, datapath) if words[1:3] == ["create", table]
    ]


def one_port(port: Port) -> Switch:
    return Switch(name="s", bridges=(Bridge(name="br0", ports=(port,)),))


def test_a_switch_is_one_transaction_that_ends_at_its_root() -> None:
    switch = Switch(
        name="s", other_config={"k": "v,w"}, bridges=(Bridge(name="br0"), Bridge(name="br1"))
    )
    assert commands(switch) == [
        ["--id=@r0", "create", "Interface", 'name="br0"', 'type="internal"'],
        ["--id=@r1", "create", "Port", 'name="br0"', "interfaces=[@r0]"],
        ["--id=@r2", "create", "Bridge", 'name="br0"', 'datapath_type="netdev"', "ports=[@r1]"],
        ["--id=@r3", "create", "Interface", 'name="br1"', 'type="internal"'],
        ["--id=@r4", "create", "Port", 'name="br1"', "interfaces=[@r3]"],
        ["--id=@r5", "create", "Bridge", 'name="br1"', 'datapath_type="netdev"', "ports=[@r4]"],
        ["set", "Open_vSwitch", ".", "bridges=[@r2,@r5]", 'other_config:"k"="v,w"'],
    ]


def test_a_switch_without_bridges_has_none() -> None:
    assert commands(Switch(name="s")) == [["set", "Open_vSwitch", ".", "bridges=[]"]]


@pytest.mark.parametrize(
    ("bridge", "expected"),
    [
        (Bridge(name="b", datapath_type="dummy"), {'datapath_type="dummy"'}),
        (Bridge(name="b", datapath_type=""), {'datapath_type=""'}),
        (
            Bridge(name="b", fail_mode="secure"),
            {'datapath_type="system"', 'fail_mode="secure"'},
        ),
        (
            Bridge(name="b", protocols=("OpenFlow10", "OpenFlow13")),
            {'datapath_type="system"', 'protocols=["OpenFlow10","OpenFlow13"]'},
        ),
        (
            Bridge(name="b", mcast_snooping=True, stp=True, rstp=True),
            {
                'datapath_type="system"',
                "mcast_snooping_enable=true",
                "stp_enable=true",
                "rstp_enable=true",
            },
        ),
        (
            Bridge(name="b", mac="02:00:00:00:00:01", other_config={"mac-aging-time": "10"}),
            {
                'datapath_type="system"',
                'other_config={"mac-aging-time"="10","hwaddr"="02:00:00:00:00:01"}',
            },
        ),
    ],
    ids=lambda value: "" if isinstance(value, Bridge) else "/".join(sorted(value)),
)
def test_columns_of_a_bridge(bridge: Bridge, expected: set[str]) -> None:
    (columns,) = created(Switch(name="s", bridges=(bridge,)), "Bridge", "system")
    assert columns == {'name="b"', "ports=[@r1]"} | expected


def test_mtu_of_a_bridge_is_that_of_its_local_interface() -> None:
    switch = Switch(name="s", bridges=(Bridge(name="b", mtu=9000),))
    assert created(switch, "Interface") == [{'name="b"', 'type="internal"', "mtu_request=9000"}]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (HostPort(name="p"), set()),
        (HostPort(name="p", interface={"ofport_request": 7}), {"ofport_request=7"}),
        (
            HostPort(name="p", interface={"ingress_policing_rate": 5, "external_ids": {"a": "b"}}),
            {"ingress_policing_rate=5", 'external_ids={"a"="b"}'},
        ),
        (HostPort(name="p", interface={"type": "dummy"}), {'type="dummy"'}),
        (UplinkPort(name="p", underlay="wire"), set()),
        (PatchPort(name="p", peer="q"), {'type="patch"', 'options={"peer"="q"}'}),
        (
            TunnelPort(name="p", type="vxlan", remote_ip="10.0.0.2"),
            {'type="vxlan"', 'options={"remote_ip"="10.0.0.2"}'},
        ),
        (
            TunnelPort(
                name="p",
                type="geneve",
                remote_ip="flow",
                local_ip="10.0.0.1",
                key="flow",
                in_key="1",
                out_key="2",
                options={"csum": "true"},
            ),
            {
                'type="geneve"',
                'options={"remote_ip"="flow","local_ip"="10.0.0.1","key"="flow","in_key"="1",'
                '"out_key"="2","csum"="true"}',
            },
        ),
        (
            TunnelPort(
                name="p", type="gre", remote_ip="1.1.1.1", interface={"options": {"tos": "inherit"}}
            ),
            {'type="gre"', 'options={"remote_ip"="1.1.1.1","tos"="inherit"}'},
        ),
        (InternalPort(name="p"), {'type="internal"'}),
        (
            InternalPort(name="p", mac="02:00:00:00:00:01", mtu=1400),
            {'type="internal"', 'mac="02:00:00:00:00:01"', "mtu_request=1400"},
        ),
    ],
    ids=lambda value: value.__class__.__name__ if not isinstance(value, set) else "",
)
def test_columns_of_an_interface(port: Port, expected: set[str]) -> None:
    assert created(one_port(port), "Interface")[1] == {'name="p"'} | expected


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (HostPort(name="p", vlan=Vlan(tag=0)), {"tag=[0]"}),
        (
            HostPort(name="p", vlan=Vlan(tag=900, mode="access")),
            {"tag=[900]", 'vlan_mode="access"'},
        ),
        (HostPort(name="p", vlan=Vlan(trunks=(1, 2))), {"trunks=[1,2]"}),
        (
            HostPort(name="p", vlan=Vlan(tag=5, mode="dot1q-tunnel", cvlans=(7, 8))),
            {"tag=[5]", 'vlan_mode="dot1q-tunnel"', "cvlans=[7,8]"},
        ),
        (
            HostPort(name="p", other_config={"qinq-ethtype": "802.1q"}),
            {'other_config={"qinq-ethtype"="802.1q"}'},
        ),
        (HostPort(name="p", protected=True), {"protected=true"}),
    ],
)
def test_columns_of_a_port(port: Port, expected: set[str]) -> None:
    assert created(one_port(port), "Port")[1] == {'name="p"', "interfaces=[@r2]"} | expected


def test_a_local_port_has_the_vlan_columns_of_its_bridge() -> None:
    vlan = Vlan(tag=9, mode="native-untagged", trunks=(1,))
    switch = Switch(name="s", bridges=(Bridge(name="br0", vlan=vlan, protected=True),))
    (columns,) = created(switch, "Port")
    assert columns == {
        'name="br0"',
        "interfaces=[@r0]",
        "tag=[9]",
        'vlan_mode="native-untagged"',
        "trunks=[1]",
        "protected=true",
    }


def test_a_bond_has_an_interface_for_every_member() -> None:
    bond = BondPort(
        name="bond0",
        members=(
            BondMember(name="u0", underlay="a", interface={"other_config": {"lacp-port-id": "1"}}),
            BondMember(name="u1", underlay="b"),
        ),
        mode="balance-tcp",
        lacp="active",
        updelay=100,
        fake_iface=True,
        interface={"lldp": {"enable": "true"}},
    )
    switch = one_port(bond)
    assert created(switch, "Interface")[1:] == [
        {'name="u0"', 'lldp={"enable"="true"}', 'other_config={"lacp-port-id"="1"}'},
        {'name="u1"', 'lldp={"enable"="true"}'},
    ]
    assert created(switch, "Port")[1] == {
        'name="bond0"',
        "interfaces=[@r2,@r3]",
        'bond_mode="balance-tcp"',
        'lacp="active"',
        "bond_updelay=100",
        "bond_fake_iface=true",
    }
    assert list(interfaces(switch.bridges[0])) == ["br0", "u0", "u1"]


def test_qos_and_its_queues() -> None:
    port = HostPort(
        name="p",
        qos={"type": "linux-htb", "max-rate": "1000"},
        queues={0: {"min-rate": "1"}, 5: {}},
    )
    switch = one_port(port)
    assert created(switch, "Queue") == [{'other_config={"min-rate"="1"}'}, {"other_config={}"}]
    assert created(switch, "QoS") == [
        {'type="linux-htb"', 'other_config={"max-rate"="1000"}', "queues={0=@r3,5=@r4}"}
    ]
    assert "qos=@r5" in created(switch, "Port")[1]


def test_mirrors_refer_to_ports_of_their_bridge() -> None:
    bridge = Bridge(
        name="br0",
        ports=(HostPort(name="p"), HostPort(name="q")),
        mirrors=(
            Mirror(name="span", select_src_port=("p",), select_dst_port=("br0",), output_port="q"),
            Mirror(name="rspan", select_all=True, select_vlan=(5, 6), output_vlan=100, snaplen=64),
            Mirror(name="f", select_all=True, filter="tcp,tp_dst=80", output_vlan=100),
        ),
    )
    switch = Switch(name="s", bridges=(bridge,))
    assert created(switch, "Mirror") == [
        {'name="span"', "select_src_port=[@r3]", "select_dst_port=[@r1]", "output_port=@r5"},
        {
            'name="rspan"',
            "select_all=true",
            "select_vlan=[5,6]",
            "output_vlan=[100]",
            "snaplen=[64]",
        },
        {'name="f"', "select_all=true", 'filter=["tcp,tp_dst=80"]', "output_vlan=[100]"},
    ]
    assert "mirrors=[@r6,@r7,@r8]" in created(switch, "Bridge")[0]


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        (
            Bridge(name="br0", ports=(HostPort(name="p", queues={1: {}}),)),
            "port p: its QoS has no type",
        ),
        (
            Bridge(name="br0", ports=(HostPort(name="p", interface={"name": "q"}),)),
            "port p: the column name of its interface cannot be set",
        ),
        (
            Bridge(name="br0", mirrors=(Mirror(name="m", output_port="nope"),)),
            "mirror m: bridge br0 has no port nope",
        ),
    ],
)
def test_what_the_database_cannot_hold_is_refused(bridge: Bridge, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        transaction(Switch(name="s", bridges=(bridge,)), "netdev")


def test_hostile_names_stay_within_their_own_argument() -> None:
    nasty = 'x" type="tap" -- del-br br0 --'
    nasty_port = HostPort(name=nasty, other_config={nasty: nasty})
    words = transaction(one_port(nasty_port), "netdev").words()
    port = HostPort(name="p", other_config={"k": "v"})
    plain = transaction(one_port(port), "netdev").words()
    assert len(words) == len(plain)
    assert [word for word in words if word == "--"] == [word for word in plain if word == "--"]
