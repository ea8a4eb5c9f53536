"""One of several links for each flow, chosen by its fields: multipath, bundle and bundle_load.

Source: ovs-actions(7), "The multipath action" and "The bundle and bundle_load actions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from harness import Lab

if TYPE_CHECKING:
    from scenarios.openflow.conftest import SetPort

LINKS = ("b", "c", "d")
MEMBERS = f"members:{','.join(LINKS)}"
# A link that there is not would lead back.
BY_NUMBER = [
    *(f"table=1,reg0={number},actions={port}" for number, port in enumerate(LINKS)),
    "table=1,priority=0,actions=in_port",
]
Frames = list[tuple[str, Ether]]


def flows_of(action: str, fields: str) -> str:
    """The flows that send what comes from a to one of LINKS, chosen by ``fields``."""
    kind, _, algorithm = action.partition(" ")
    chosen = f"{fields},50,{algorithm}"
    match kind:
        case "multipath":
            link = f"multipath({chosen},{len(LINKS)},{len(LINKS) + 1},reg0[])"
            return "\n".join([f"in_port=a,actions={link},resubmit(,1)", *BY_NUMBER])
        case "bundle":
            return f"in_port=a,actions=bundle({chosen},ofport,{MEMBERS})"
    load = f"bundle_load({chosen},ofport,reg0[],{MEMBERS})"
    return f"in_port=a,actions={load},output:reg0[]"


ACTIONS = [
    *(f"multipath {name}" for name in ("modulo_n", "hash_threshold", "hrw", "iter_hash")),
    "bundle hrw",
    "bundle_load hrw",
]


@pytest.fixture
def fields() -> str:
    return "symmetric_l4"


@pytest.fixture
def action() -> str:
    return "bundle hrw"


@pytest.fixture
def flows(action: str, fields: str) -> str:
    return flows_of(action, fields)


def frames(
    lab: Lab,
    count: int,
    *,
    ethernet: bool = False,
    source: bool = False,
    target: bool = False,
    port: bool = False,
    swapped: bool = False,
) -> Frames:
    """TCP flows from a, which differ in what is said; ``swapped``: in the other direction."""
    found = []
    for n in range(count):
        macs = [f"02:00:00:00:10:{n if ethernet else 0:02x}", lab.mac("b")]
        addresses = [f"10.0.0.{n if source else 0}", f"10.0.1.{n if target else 0}"]
        ports = [5000 + n if port else 5000, 80]
        for pair in (macs, addresses, ports) if swapped else ():
            pair.reverse()
        head = Ether(src=macs[0], dst=macs[1]) / IP(src=addresses[0], dst=addresses[1])
        found.append(("a", head / TCP(sport=ports[0], dport=ports[1])))
    return found


def links(lab: Lab, sent: Frames) -> list[str]:
    """By which link each frame leaves: exactly one."""
    heard = [set(one.heard_at) for one in lab.send_all(sent)]
    assert all(len(found) == 1 and found <= set(LINKS) for found in heard), heard
    return [found.pop() for found in heard]


@pytest.mark.parametrize("action", ACTIONS)
def test_flows_spread_and_each_stays_on_its_link(lab: Lab) -> None:
    everything = frames(lab, 64, port=True)
    first, second = (links(lab, everything) for _ in range(2))
    assert set(first) == set(LINKS)
    assert first == second


@pytest.mark.parametrize("action", ["multipath hrw", "bundle hrw"])
@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        ("eth_src", "ethernet"),
        ("nw_src", "source"),
        ("nw_dst", "target"),
        ("symmetric_l3l4", "source target port"),
        ("symmetric_l4", "ethernet source target port"),
    ],
)
def test_only_the_named_fields_decide(lab: Lab, differs: str) -> None:
    for what in ("ethernet", "source", "target", "port"):
        used = links(lab, frames(lab, 48, **{what: True}))
        assert len(set(used)) == (len(LINKS) if what in differs.split() else 1), what


@pytest.mark.parametrize("action", ["multipath hrw", "bundle hrw"])
@pytest.mark.parametrize("fields", ["symmetric_l4", "symmetric_l3l4"])
def test_both_directions_take_the_same_link(lab: Lab) -> None:
    there = frames(lab, 32, source=True, port=True)
    back = frames(lab, 32, source=True, port=True, swapped=True)
    assert links(lab, there) == links(lab, back)


@pytest.mark.parametrize("action", ["bundle active_backup", "bundle_load active_backup"])
def test_active_backup_takes_the_first_live_port(lab: Lab, set_port: SetPort) -> None:
    everything = frames(lab, 8, port=True)
    for port, up, heir in (("b", False, "c"), ("c", False, "d"), ("b", True, "b")):
        set_port(port, up=up)
        assert set(links(lab, everything)) == {heir}


@pytest.mark.parametrize("action", ["bundle hrw", "bundle_load hrw", "bundle active_backup"])
def test_the_flows_of_a_dead_port_move_and_the_others_stay(lab: Lab, set_port: SetPort) -> None:
    everything = frames(lab, 64, port=True)
    before = links(lab, everything)
    set_port("b", up=False)
    after = links(lab, everything)
    assert "b" not in after
    assert [now for was, now in zip(before, after, strict=True) if was != "b"] == [
        was for was in before if was != "b"
    ]
    # "If none of the members is live, bundle does not output the packet."
    for port in ("c", "d"):
        set_port(port, up=False)
    assert [sent.heard_at for sent in lab.send_all(everything)] == [set()] * len(everything)
