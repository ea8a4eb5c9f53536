"""State kept: each thing that a switch may lose is named, and what was meant to change is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks import CHECKERS
from harness.ovs.dumps import Flow, TlvMapping
from harness.ovs.state import BridgeState, Link, State, diff
from harness.topology.differences import differences
from harness.traffic import Point
from harness.traffic.history import About, History, StatePair
from harness.traffic.operations import Begun, Ended

Data = dict[str, Any]

ROUTE = "192.0.2.0/24 metric 5 via 10.0.0.9"
STATE = State(
    switch="s1",
    bridges={
        "br0": BridgeState(
            datapath_id="00002a6940fd4945",
            ports={"br0": 65534, "p1": 1},
            flows=(
                Flow(0, 10, "in_port=1", "output:2", cookie=0x5, flags=("send_flow_rem",)),
                Flow(1, 0, "", "drop", idle_timeout=60),
            ),
            groups={7: "type=all,bucket=output:2"},
            meters={"1": "kbps bands= type=drop rate=100"},
            tlv_map=(TlvMapping(0xFFFF, 0, 4, "tun_metadata0"),),
        )
    },
    links={
        "br0": Link(
            mac="02:00:00:00:00:01",
            mtu=1500,
            up=True,
            carrier=True,
            addresses=("10.0.0.1/24 scope global",),
            routes=(ROUTE,),
        )
    },
    database={"Bridge": {"br0": {"name": "br0", "fail_mode": "secure"}}},
)


def data() -> Data:
    """As it stands in a history."""
    plain: Data = msgspec.json.decode(msgspec.json.encode(STATE))
    return plain


def br0(state: Data) -> Data:
    bridge: Data = state["bridges"]["br0"]
    return bridge


def link(state: Data) -> Data:
    found: Data = state["links"]["br0"]
    return found


Change = tuple[Callable[[Data], object], str, str]
"""What happens to the state, what an operation calls it, and what is said."""

FLOW = "table=0,priority=10,in_port=1"
WHOLE = f"{FLOW},cookie=0x5,flags=send_flow_rem actions=output:2"
CHANGES: dict[str, Change] = {
    "flow": (lambda s: br0(s)["flows"].pop(0), "flows", f"bridge br0: flow lost: {WHOLE}"),
    "all flows": (
        lambda s: br0(s).update(flows=br0(s)["flows"][:1]),
        "flows",
        "bridge br0: flow lost: table=1,priority=0,idle_timeout=60 actions=drop",
    ),
    "new flow": (
        lambda s: br0(s)["flows"].append(
            {"table": 0, "priority": 0, "match": "", "actions": "FLOOD"}
        ),
        "flows",
        "bridge br0: flow new: table=0,priority=0 actions=FLOOD",
    ),
    "cookie": (
        lambda s: br0(s)["flows"][0].pop("cookie"),
        "flows",
        f"bridge br0: flow {FLOW}: cookie: 0x5 -> 0x0",
    ),
    "actions": (
        lambda s: br0(s)["flows"][0].update(actions="drop"),
        "flows",
        f"bridge br0: flow {FLOW}: actions: output:2 -> drop",
    ),
    "flags": (
        lambda s: br0(s)["flows"][0].pop("flags"),
        "flows",
        f"bridge br0: flow {FLOW}: flags: send_flow_rem -> (none)",
    ),
    "timeout": (
        lambda s: br0(s)["flows"][1].pop("idle_timeout"),
        "flows",
        "bridge br0: flow table=1,priority=0: idle_timeout: 60 -> 0",
    ),
    "group": (
        lambda s: br0(s)["groups"].clear(),
        "groups",
        "bridge br0: group 7 lost: type=all,bucket=output:2",
    ),
    "group's buckets": (
        lambda s: br0(s)["groups"].update({"7": "type=all"}),
        "groups",
        "bridge br0: group 7: type=all,bucket=output:2 -> type=all",
    ),
    "meter": (
        lambda s: br0(s)["meters"].clear(),
        "meters",
        "bridge br0: meter 1 lost: kbps bands= type=drop rate=100",
    ),
    "TLV map": (
        lambda s: br0(s)["tlv_map"].clear(),
        "tlv_map",
        "bridge br0: TLV map of tun_metadata0 lost: class 0xffff, type 0x0, length 4",
    ),
    "ofport": (
        lambda s: br0(s)["ports"].update(p1=3),
        "ports",
        "bridge br0: OpenFlow port of p1: 1 -> 3",
    ),
    "no ofport": (
        lambda s: br0(s)["ports"].update(p1=None),
        "ports",
        "bridge br0: OpenFlow port of p1: 1 -> (none)",
    ),
    "port": (
        lambda s: br0(s)["ports"].pop("p1"),
        "ports",
        "bridge br0: OpenFlow port of p1 lost: 1",
    ),
    "datapath id": (
        lambda s: br0(s).update(datapath_id="1"),
        "datapath_id",
        "bridge br0: datapath id: 00002a6940fd4945 -> 1",
    ),
    "bridge": (lambda s: s["bridges"].clear(), "bridges", "bridge br0 lost"),
    "address": (
        lambda s: link(s).update(addresses=["10.0.0.1/24 scope global", "10.9.0.1/8 scope host"]),
        "addresses",
        "interface br0: address new: 10.9.0.1/8 scope host",
    ),
    "no address": (
        lambda s: link(s).update(addresses=[]),
        "addresses",
        "interface br0: address lost: 10.0.0.1/24 scope global",
    ),
    "route": (lambda s: link(s)["routes"].clear(), "routes", f"interface br0: route lost: {ROUTE}"),
    "MTU": (lambda s: link(s).update(mtu=1400), "mtu", "interface br0: MTU: 1500 -> 1400"),
    "link down": (
        lambda s: link(s).update(up=False),
        "up",
        "interface br0: administratively up: True -> False",
    ),
    "interface": (lambda s: s["links"].clear(), "links", "interface br0 lost"),
    "column": (
        lambda s: s["database"]["Bridge"]["br0"].pop("fail_mode"),
        "Bridge.fail_mode",
        "Bridge br0: fail_mode: secure -> (none)",
    ),
    "record": (
        lambda s: s["database"]["Bridge"].update(br1={"name": "br1"}),
        "Bridge",
        "Bridge br1 new",
    ),
}


def history(before: Data | None, after: Data | None, *changes: str, subject: str = "s1") -> History:
    return History(
        about=About(
            run=1, seed=1, target="t/t/t", points=(Point("a", "host"),), places=(), segments=()
        ),
        events=(Begun(20, 1, "restart", subject, {}, changes), Ended(30, 1)),
        states=(StatePair("s1", 10, 40, before, after, "" if before and after else "it died"),),
    )


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_lost_is_named(name: str) -> None:
    change, what, said = CHANGES[name]
    after = data()
    change(after)
    assert [tuple(one) for one in differences(data(), after)] == [(what, said)]
    check = CHECKERS["state kept"]
    verdict = check(history(data(), after))
    assert (verdict.outcome, verdict.findings) == ("fail", (f"s1: {said}",))
    assert check(history(data(), after, what)).outcome == "pass"
    assert check(history(data(), after, what, subject="s2")).outcome == "fail"
    assert check(history(data(), after, "reach", "Bridge.name")).outcome == "fail"


@pytest.mark.parametrize("name", CHANGES)
def test_what_comes_is_what_would_go(name: str) -> None:
    """Every difference is one both ways."""
    after = data()
    CHANGES[name][0](after)
    assert len(list(differences(after, data()))) == len(list(differences(data(), after))) == 1


def test_a_state_that_is_kept() -> None:
    verdict = CHECKERS["state kept"](history(data(), data()))
    assert (verdict.outcome, verdict.findings) == ("pass", ())


@pytest.mark.parametrize(("before", "after"), [(None, data()), (data(), None), (None, None)])
def test_a_state_that_could_not_be_read_is_unknown(before: Data | None, after: Data | None) -> None:
    verdict = CHECKERS["state kept"](history(before, after))
    assert (verdict.outcome, verdict.findings) == ("unknown", ("s1: it died",))


def test_no_state_at_all_is_unknown() -> None:
    nothing = msgspec.structs.replace(history(data(), data()), states=())
    assert CHECKERS["state kept"](nothing).outcome == "unknown"


@given(st.lists(st.sampled_from(sorted(CHANGES)), unique=True))
def test_it_finds_something_exactly_where_states_differ(names: list[str]) -> None:
    """Whatever comes together, and as :func:`harness.ovs.state.diff` does."""
    after = copy.deepcopy(data())
    for name in names:
        try:
            CHANGES[name][0](after)
        except (KeyError, IndexError):
            # What it would change is gone already.
            continue
    assert bool(list(differences(data(), after))) == (after != data())
    typed = msgspec.convert(after, State, strict=False)
    assert bool(list(differences(data(), after))) == bool(diff(STATE, typed))
