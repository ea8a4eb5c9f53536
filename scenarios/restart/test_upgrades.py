"""Upgrades and downgrades with traffic on, from each version to the next and back: flows, ports and
all that is configured is kept, nothing leaks, and how long it takes is measured.

Source: ovs-ctl(8), "The restart command", which "saves and restores OpenFlow flows" and is what an
upgrade comes to (see :mod:`harness.faults.upgrades`); ``upgrade_db`` in ovs-lib, which makes a
backup of the database and converts it to the schema that is installed, newer or older.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from harness import Lab, Topology
from harness.checks import Verdict, judge
from harness.faults import Upgrade
from harness.faults.upgrades import IMAGES
from harness.lab import Target
from harness.ovs import Switch
from harness.ovs.state import diff
from harness.polling import NeverHappenedError

if TYPE_CHECKING:
    from scenarios.restart.conftest import FramesFlow

pytestmark = pytest.mark.requires("upgrades")

PAIRS = [("a", "b"), ("b", "a")]
UP = [*pairwise(IMAGES), (IMAGES[0], IMAGES[-1])]
STEPS = [*UP, *((new, old) for old, new in UP)]
"""Each version to the next one, and all at once; and back."""
CHANGES = Upgrade("s1", "").changes


class Steps(Protocol):
    """Have the switch be that of the first image; then, under traffic, that of each other one, and
    say what the history tells of that."""

    def __call__(self, first: str, *images: str) -> Verdict: ...


@pytest.fixture
def topology() -> Topology:
    """Flows say who hears whom: a and b each other, c nobody, though the bridge would flood."""
    topo = Topology("upgraded")
    bridge = topo.switch("s1").bridge("br0", fail_mode="standalone", addresses=["192.0.2.1/24"])
    bridge.internal("in0", tag=7)
    for number, name in ((4001, "a"), (17, "b"), (300, "c")):
        bridge.host(name, interface={"ofport_request": number})
    bridge.group("group_id=1,type=all,bucket=output:17")
    bridge.flow("cookie=0x1,priority=10,in_port=4001,actions=group:1")
    bridge.flow("cookie=0x2,priority=10,in_port=17,actions=resubmit(,1)")
    bridge.flow("cookie=0x3,table=1,idle_timeout=3000,send_flow_rem,actions=output:4001")
    bridge.flow("cookie=0x4,priority=5,actions=drop")
    return topo


@pytest.fixture
def steps(lab: Lab, target: Target, carried: float, frames_flow: FramesFlow) -> Steps:
    # The ovs-ctl of 2.15 can't be kept from writing the hostname.
    lab.switch("s1").vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=s1")
    # ovs-ctl restarts ovsdb-server first, so that a newer ovs-vswitchd meets the older schema.
    lab.expect_logged(r"ovsdb_idl\|WARN\|\w+ table in Open_vSwitch database lacks \w+ column")

    def run(first: str, *images: str) -> Verdict:
        with run_by(lab, target, first), ExitStack() as later:
            with lab.traffic(rate=carried, pairs=PAIRS):
                frames_flow(PAIRS)
                for image in images:
                    later.enter_context(lab.fault(Upgrade("s1", image)))
                    # What is not forwarded any more the judgement names.
                    with suppress(NeverHappenedError):
                        frames_flow(PAIRS)
            verdict = judge(lab.history())
        measured = verdict.parts["restored"].measurements["operations"]
        lab.record("operations", measured)
        lab.record("outage_ns", verdict.parts["lost"].measurements["longest_outage_ns"])
        return verdict

    return run


@pytest.mark.parametrize(("old", "new"), STEPS)
def test_all_is_kept_and_nothing_leaks(steps: Steps, old: str, new: str) -> None:
    verdict = steps(old, new)
    assert verdict.outcome == "pass", str(verdict)


def test_the_whole_way_and_back(steps: Steps) -> None:
    verdict = steps(*IMAGES, *reversed(IMAGES[:-1]))
    assert verdict.outcome == "pass", str(verdict)


@pytest.mark.parametrize("new", ["bookworm", "forky"])
def test_what_is_stopped_and_started_has_lost_its_flows(
    lab: Lab, carried: float, frames_flow: FramesFlow, new: str
) -> None:
    """As Debian's package does where systemd runs. Without its flows the bridge is an ordinary
    learning switch, its fail mode says so; it does not come to know b, which never speaks, and c
    hears what was not for it."""
    one_way = PAIRS[:1]
    with lab.traffic(rate=carried, pairs=one_way):
        frames_flow(one_way)
        with lab.fault(Upgrade("s1", new, way="stop and start")):
            with suppress(NeverHappenedError):
                frames_flow(one_way)
            (bridge,) = lab.switch("s1").state().bridges.values()
            assert [flow.actions for flow in bridge.flows] == ["NORMAL"]
    verdict = judge(lab.history())
    said = {name for name, part in verdict.parts.items() if part.outcome != "pass"}
    assert said == {"leaked"}, str(verdict)


def test_what_the_older_schema_has_no_column_for_is_lost(lab: Lab, target: Target) -> None:
    """ovsdb(7), "Upgrading or Downgrading a Database": "conversion can cause data loss in obvious
    ways, for example if the new schema removes tables or columns"."""
    switch = lab.switch("s1")
    with run_by(lab, target, "forky"):
        mirror = ["create", "Mirror", "name=m", "select_all=true", "filter=udp"]
        switch.vsctl("--", "--id=@m", *mirror, "--", "set", "Bridge", "br0", "mirrors=@m")
        before = switch.state().without(*CHANGES)
        with lab.fault(Upgrade("s1", "bookworm")):
            assert switch.db("Mirror", ["name", "select_all"]) == [
                {"name": "m", "select_all": True}
            ]
        # Back again it has the column, and nothing in it.
        assert diff(before, switch.state().without(*CHANGES)) == [
            "Mirror br0.mirrors[m]: filter: udp -> (none)"
        ]
        (row,) = in_backup(switch, "Mirror")
        assert row["filter"] == "udp"


@pytest.mark.parametrize("old", ["bullseye", "bookworm"])
def test_what_cannot_be_converted_leaves_an_empty_database(
    lab: Lab, target: Target, old: str
) -> None:
    """Four prefixes, of which the older schema takes three: ``ovs-ctl`` goes on with an empty
    database, and leaves a backup (docs/findings/downgrade-empties-the-database.md)."""
    switch = lab.switch("s1")
    with run_by(lab, target, "forky"):
        prefixes = ["create", "Flow_Table", "prefixes=ip_dst,ip_src,tun_id,tun_src"]
        switch.vsctl("--", "--id=@t", *prefixes, "--", "set", "Bridge", "br0", "flow_tables:0=@t")
        before = switch.state()
        with lab.fault(Upgrade("s1", old)):
            assert switch.db("Bridge") == []
            lost = diff(before, switch.state())
            assert {"bridge br0 lost", "Port a lost", "interface in0 lost"} <= set(lost), lost
            assert [row["name"] for row in in_backup(switch, "Bridge")] == ["br0"]
        # The way back brings nothing back.
        assert switch.db("Bridge") == []


@contextmanager
def run_by(lab: Lab, target: Target, image: str) -> Iterator[None]:
    """A context in which the switch is that of an image, and so is its datapath: one of the kernel
    outlives an upgrade with what the version before has set there."""
    if target.image == image:
        yield
        return
    with lab.fault(Upgrade("s1", image)):
        if target.datapath == "kernel":
            lab.switch("s1").force_reload_kmod()
        yield


def in_backup(switch: Switch, table: str) -> list[dict[str, Any]]:
    """The rows of a table in the backup that was made of a database of Open vSwitch 3.5 or 4.0."""
    query = f'["Open_vSwitch", {{"op": "select", "table": "{table}", "where": []}}]'
    command = f'ovsdb-tool query {switch.layout.dbdir}/conf.db.backup8.8.0-* "$1"'
    said = switch.node.run(["sh", "-c", command, "sh", query]).stdout
    rows: list[dict[str, Any]] = json.loads(said)[0]["rows"]
    return rows
