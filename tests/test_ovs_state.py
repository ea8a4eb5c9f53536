"""States: written and read, compared, and their differences in words."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from harness.ovs.dumps import Flow, TlvMapping
from harness.ovs.errors import UnexpectedOutputError
from harness.ovs.reading import parse_links
from harness.ovs.state import BridgeState, Link, State, diff, load

DROP = Flow(table=0, priority=5, match="in_port=2", actions="drop", cookie=1)
NORMAL = Flow(table=0, priority=0, match="", actions="NORMAL")

STATE = State(
    switch="hv1",
    bridges={
        "br0": BridgeState(
            datapath_id="0000000000000001",
            ports={"p1": 1, "p2": 2},
            flows=(DROP, NORMAL),
            groups={1: "type=all"},
            meters={"1": "kbps bands= type=drop rate=1"},
            tlv_map=(TlvMapping(0xFFFF, 0, 4, "tun_metadata0"),),
        )
    },
    database={"Port": {"p1": {"name": "p1", "tag": 5}}, "Open_vSwitch": {".": {"x": ["a"]}}},
    links={
        "br0": Link(mac="02:00:00:00:00:01", mtu=1500, up=True, routes=("default via 1.1.1.1",))
    },
)


def changed(**bridge: object) -> State:
    """STATE with columns of its bridge replaced."""
    return msgspec.structs.replace(
        STATE, bridges={"br0": msgspec.structs.replace(STATE.bridges["br0"], **bridge)}
    )


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    STATE.save(path)
    assert load(path) == STATE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"switch": 5}'])
def test_a_file_that_holds_no_state_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"state\.json: not a saved state"):
        load(path)


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (STATE, []),
        (changed(flows=(NORMAL,)), [f"bridge br0: flow lost: {DROP}"]),
        (
            changed(flows=(DROP, NORMAL, Flow(1, 2, "ip", "drop"))),
            ["bridge br0: flow new: table=1,priority=2,ip actions=drop"],
        ),
        (
            changed(flows=(msgspec.structs.replace(DROP, actions="output:1", cookie=0), NORMAL)),
            [
                "bridge br0: flow table=0,priority=5,in_port=2: cookie: 0x1 -> 0x0",
                "bridge br0: flow table=0,priority=5,in_port=2: actions: drop -> output:1",
            ],
        ),
        (changed(groups={}), ["bridge br0: group 1 lost: type=all"]),
        (
            changed(meters={"1": "kbps", "2": "pktps"}),
            [
                "bridge br0: meter 1: kbps bands= type=drop rate=1 -> kbps",
                "bridge br0: meter 2 new: pktps",
            ],
        ),
        (
            changed(tlv_map=()),
            ["bridge br0: TLV map of tun_metadata0 lost: class 0xffff, type 0x0, length 4"],
        ),
        (changed(ports={"p1": 3, "p2": 2}), ["bridge br0: OpenFlow port of p1: 1 -> 3"]),
        (changed(datapath_id=None), ["bridge br0: datapath id: 0000000000000001 -> (none)"]),
        (msgspec.structs.replace(STATE, bridges={}), ["bridge br0 lost"]),
        (
            msgspec.structs.replace(
                STATE,
                database={"Port": {"p1": {"name": "p1"}, "p2": {}}, "Open_vSwitch": {".": {}}},
            ),
            [
                "Open_vSwitch .: x: ['a'] -> (none)",
                "Port p2 new",
                "Port p1: tag: 5 -> (none)",
            ],
        ),
        (
            msgspec.structs.replace(
                STATE,
                links={"br0": msgspec.structs.replace(STATE.links["br0"], up=False, routes=())},
            ),
            [
                "interface br0: administratively up: True -> False",
                "interface br0: route lost: default via 1.1.1.1",
            ],
        ),
        (msgspec.structs.replace(STATE, switch="hv2"), ["switch: hv1 -> hv2"]),
    ],
)
def test_differences_in_words(after: State, lines: list[str]) -> None:
    assert diff(STATE, after) == lines
    assert (after == STATE) is (not lines)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("meters", changed(meters={})),
        ("flows", changed(flows=())),
        ("datapath_id", changed(datapath_id=None)),
        (
            "Port.tag",
            msgspec.structs.replace(
                STATE, database={**STATE.database, "Port": {"p1": {"name": "p1", "tag": 6}}}
            ),
        ),
        (
            "mtu",
            msgspec.structs.replace(
                STATE, links={"br0": msgspec.structs.replace(STATE.links["br0"], mtu=9000)}
            ),
        ),
    ],
)
def test_what_is_known_to_change_is_left_out_by_name(name: str, after: State) -> None:
    assert after != STATE
    assert after.without(name) == STATE.without(name)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="a state has no 'fdb'"):
        STATE.without("fdb")


ADDRESSES = [
    {},
    {
        "ifname": "br0",
        "flags": ["BROADCAST", "UP", "LOWER_UP"],
        "mtu": 1400,
        "address": "02:00:00:00:00:01",
        "addr_info": [
            {
                "family": "inet",
                "local": "10.0.0.1",
                "prefixlen": 24,
                "broadcast": "10.0.0.255",
                "scope": "global",
                "label": "br0",
                "valid_life_time": 4294967295,
            },
            {
                "family": "inet6",
                "local": "fe80::1",
                "prefixlen": 64,
                "scope": "link",
                "tentative": True,
            },
        ],
    },
    {"ifname": "eth0", "flags": [], "mtu": 1500, "addr_info": []},
]
ROUTES = [
    {"dst": "default", "gateway": "10.0.0.9", "dev": "br0", "flags": ["linkdown"]},
    {"dst": "10.1.0.0/16", "dev": "eth0", "flags": []},
    {
        "dst": "10.2.0.0/16",
        "nexthops": [{"dev": "br0", "weight": 1}, {"dev": "eth0", "weight": 2}],
        "flags": [],
    },
]
ROUTES6 = [
    {"dst": "fe80::/64", "dev": "br0", "protocol": "kernel", "metric": 256, "pref": "medium"}
]


def test_links_without_what_passes() -> None:
    batch = json.dumps(ADDRESSES) + "\n" + json.dumps(ROUTES)
    assert parse_links(["br0", "gone"], batch, json.dumps(ROUTES6)) == {
        "br0": Link(
            mac="02:00:00:00:00:01",
            mtu=1400,
            up=True,
            carrier=True,
            addresses=(
                "10.0.0.1/24 scope global broadcast 10.0.0.255 label br0",
                "fe80::1/64 scope link",
            ),
            routes=(
                '10.2.0.0/16 nexthops [{"dev": "br0", "weight": 1}, {"dev": "eth0", "weight": 2}]',
                "default gateway 10.0.0.9",
                "fe80::/64 metric 256 pref medium protocol kernel",
            ),
        )
    }


def test_output_that_is_no_json_is_refused() -> None:
    with pytest.raises(UnexpectedOutputError, match="is no JSON"):
        parse_links([], "[] Dump terminated", "[]")
