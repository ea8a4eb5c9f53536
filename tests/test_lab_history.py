"""What a real lab writes down: judged again without it, a history says the same; what was made to
go wrong is found and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checks import Verdict, judge
from harness.cli import main
from harness.lab import Lab, LabError, bundle
from harness.ovs import DaemonError
from harness.polling import eventually
from harness.topology import Topology, load
from harness.traffic import History
from harness.traffic import archive as archives

MakeLab = Callable[..., Lab]


def forwarding() -> Topology:
    """Flows say who hears whom: a and b each other, c nobody, and nobody floods."""
    topo = Topology("forwarding")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", addresses=["10.9.0.1/24"])
    for name in "abc":
        bridge.host(name)
    bridge.flow("cookie=0x5,priority=10,in_port=a,actions=output:b")
    bridge.flow("cookie=0x5,priority=10,in_port=b,actions=output:a")
    return topo


def learning() -> Topology:
    topo = Topology("learning")
    bridge = topo.switch("s1").bridge("br0")
    for name in "abc":
        bridge.host(name)
    return topo


def tunnelled() -> Topology:
    """Three switches in a row, joined by tunnels in user space."""
    topo = Topology("tunnelled")
    wire = topo.underlay("wire", mtu=1600)
    for number, others in ((1, (2,)), (2, (1, 3)), (3, (2,))):
        switch = topo.switch(f"s{number}")
        switch.bridge("br-pif", addresses=[f"10.0.0.{number}/24"]).uplink(wire)
        bridge = switch.bridge("br-int")
        bridge.host(f"a{number}")
        bridge.host(f"b{number}")
        for other in others:
            bridge.tunnel("vxlan", remote=f"10.0.0.{other}", key=5)
    return topo


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(forwarding())


def wait_for(lab: Lab, port: str, way: str, frames: int = 5) -> None:
    """Until so many frames more went through a port of s1: ``rx`` from its host, ``tx`` to it."""
    path = f"/sys/class/net/{port}/statistics/{way}_packets"

    def counted() -> int:
        return int(lab.node("s1").read_file(path))

    wanted = counted() + frames
    eventually(counted, lambda now: now >= wanted, within=60, what=f"{frames} frames at {port}")


def saved_and_read(lab: Lab, directory: Path) -> History:
    """The lab's history, which is the same when it is read back, and judged the same."""
    history = lab.history()
    archives.save(history, directory)
    again = archives.load(directory)
    assert again == history
    assert judge(again) == judge(history)
    return again


def test_a_restart_judged_again_without_the_lab(lab: Lab, tmp_path: Path) -> None:
    with lab.traffic(rate=1000) as traffic:
        lab.switch("s1").restart()
        wait_for(lab, "a", "tx")
        wait_for(lab, "b", "tx")
    history = saved_and_read(lab, tmp_path)
    lab.close()

    verdict = judge(history)
    assert verdict.outcome == "pass", verdict.findings
    # The same as the live traffic said.
    lost = verdict.parts["lost"].measurements
    assert (lost["lost"], lost["longest_outage_ns"]) == (traffic.lost, traffic.outage)
    assert verdict.parts["delivered"].measurements == {"flows": 2, "sent": traffic.sent}
    # Every frame was lost while the switch restarted, and what that took is measured.
    assert traffic.lost > 0
    assert all(outage["during"] == ["restart of s1"] for outage in lost["outages"])
    start, restart = verdict.parts["restored"].measurements["operations"]
    assert (start["operation"], restart["operation"]) == ("start of s1", "restart of s1")
    assert 0 < restart["started_ns"] < restart["first_upcall_ns"] <= restart["restored_ns"]
    assert restart["interrupted"] == 2
    assert 0 < restart["flow_restore_ns"] < restart["restored_ns"]
    # Nothing of it needs the lab: the network too can be read.
    assert load(tmp_path / "topology.yaml") == lab.spec


def test_a_leak_made_on_purpose_is_named(lab: Lab, tmp_path: Path) -> None:
    """A flow that floods, added under traffic and taken away again."""
    switch = lab.switch("s1")
    with lab.traffic(rate=1000) as traffic:
        switch.ofctl("add-flow", "br0", "priority=99,in_port=a,actions=FLOOD")
        wait_for(lab, "c", "tx")
        switch.ofctl("--strict", "del-flows", "br0", "priority=99,in_port=a")
    assert {seen.point for seen in traffic.leaked} == {"c"}
    history = saved_and_read(lab, tmp_path)
    verdict = judge(history)
    assert verdict.outcome == "fail"
    (said,) = verdict.parts["leaked"].findings
    assert re.match(
        rf"{len(traffic.leaked)} frames? of flow \d+ from a to b heard at c, which the state "
        r"before and the state after forbid; the first: in c #\d+",
        said,
    )
    assert verdict.parts["state kept"].outcome == "pass"


def test_a_leak_that_stays_is_named(lab: Lab, tmp_path: Path) -> None:
    with lab.traffic(rate=500):
        lab.switch("s1").ofctl("add-flow", "br0", "priority=99,in_port=a,actions=FLOOD")
        wait_for(lab, "c", "tx")
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.outcome == "fail"
    leaks = verdict.parts["leaked"].findings
    assert any("is heard at c afterwards, which the state before forbids" in one for one in leaks)
    (kept,) = verdict.parts["state kept"].findings
    assert kept.startswith("s1: bridge br0: flow new: table=0,priority=99,in_port=")
    assert kept.endswith("actions=FLOOD")


def test_what_an_operation_is_meant_to_change_is_no_leak(lab: Lab, tmp_path: Path) -> None:
    switch = lab.switch("s1")
    with lab.traffic(rate=500), lab.operation("flood", switch="s1", changes=["reach", "flows"]):
        switch.ofctl("add-flow", "br0", "priority=99,in_port=a,actions=FLOOD")
        switch.settle_soon().result()
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.outcome == "pass", verdict.findings
    assert verdict.parts["state kept"].measurements["meant_changes"] == 1


def test_a_switch_that_is_left_stopped_delivers_nothing(lab: Lab, tmp_path: Path) -> None:
    with lab.traffic(rate=500, pairs=[("a", "b")]):
        lab.switch("s1").stop()
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.outcome == "fail"
    (said,) = verdict.parts["delivered"].findings
    assert said.endswith("from a to b is no longer heard at b, where it was heard before")
    (unread,) = verdict.parts["state kept"].findings
    assert unread.startswith("s1: the state after could not be read: s1: ovsdb-server is not")


def test_a_link_that_nobody_said_was_down_is_an_outage(lab: Lab, tmp_path: Path) -> None:
    def flap() -> None:
        with lab.traffic(rate=500, pairs=[("a", "b")]):
            lab.host("b").run("ip link set eth0 down")
            wait_for(lab, "a", "rx")
            lab.host("b").run("ip link set eth0 up")

    flap()
    verdict = judge(lab.history())
    assert verdict.outcome == "fail"
    (said,) = verdict.parts["lost"].findings
    assert "while nothing was done" in said
    lab.forget()
    assert lab.history().flows == ()
    with lab.operation("link down", switch="s1", port="b"):
        flap()
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.parts["lost"].outcome == "pass"


def sabotage(lab: Lab, edit: str) -> None:
    """Have s1's ovs-save run what it saves through one more expression of sed."""
    path = f"{lab.switch('s1').layout.datadir}/scripts/ovs-save"
    script = lab.node("s1").read_file(path).decode()
    for header in ("-e '/OFPST_FLOW/d'", "-e '/^NXST_GROUP_DESC/d'"):
        assert header in script
        script = script.replace(header, f"{header} -e '{edit}'")
    lab.node("s1").write_file(path, script.encode())


@pytest.mark.parametrize(
    ("edit", "kept", "delivered"),
    [
        (
            "/in_port={b}/d",
            ["flow lost: table=0,priority=10,in_port={b},cookie=0x5 actions=output:{a}"],
            [" from b to a is no longer heard at a, where it was heard before"],
        ),
        (
            "s/cookie=0x5/cookie=0x6/",
            [
                "flow table=0,priority=10,in_port={a}: cookie: 0x5 -> 0x6",
                "flow table=0,priority=10,in_port={b}: cookie: 0x5 -> 0x6",
            ],
            [],
        ),
        ("/group_id/d", ["group 7 lost: type=all,bucket=bucket_id:0,actions=output:{a}"], []),
    ],
    ids=["a flow", "cookies", "groups"],
)
def test_what_ovs_save_forgets_is_named(
    lab: Lab, tmp_path: Path, edit: str, kept: list[str], delivered: list[str]
) -> None:
    switch = lab.switch("s1")
    switch.ofctl("-O", "OpenFlow13", "add-group", "br0", "group_id=7,type=all,bucket=output:a")
    ports = {name: switch.ofport(name) for name in "ab"}
    sabotage(lab, edit.format(**ports))
    with lab.traffic(rate=500):
        switch.restart()
        wait_for(lab, "b", "tx")
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.outcome == "fail"
    wanted = [f"s1: bridge br0: {said.format(**ports)}" for said in kept]
    assert sorted(verdict.parts["state kept"].findings) == sorted(wanted)
    said = verdict.parts["delivered"].findings
    assert len(said) == len(delivered)
    assert all(one.endswith(end) for one, end in zip(said, delivered, strict=True))
    assert verdict.parts["leaked"].outcome == "pass"


def test_a_meter_is_lost_and_may_be(make_lab: MakeLab, tmp_path: Path) -> None:
    """ovs-save saves no meters."""
    topo = learning()
    topo.switch("s2").bridge("br1").meter("meter=1,kbps,band=type=drop,rate=100000")
    lab = make_lab(topo)
    with lab.traffic(rate=500):
        lab.switch("s2").restart()
    verdict = judge(lab.history())
    assert verdict.parts["state kept"].outcome == "fail"
    (said,) = verdict.parts["state kept"].findings
    assert said.startswith("s2: bridge br1: meter 1 lost: kbps")
    lab.forget()
    meter = "meter=1,kbps,band=type=drop,rate=100000"
    lab.switch("s2").ofctl("-O", "OpenFlow13", "add-meter", "br1", meter)
    with lab.traffic(rate=500), lab.operation("careless", switch="s2", changes=["meters"]):
        lab.switch("s2").restart()
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.parts["state kept"].outcome == "pass"


def test_a_learning_switch_that_has_forgotten_floods(make_lab: MakeLab, tmp_path: Path) -> None:
    """That is what IEEE 802.1Q has it do, so it is no leak; it is counted."""
    lab = make_lab(learning())
    with lab.traffic(rate=1000, pairs=[("a", "b")]) as traffic:
        lab.switch("s1").restart()
        wait_for(lab, "c", "tx")
    assert {seen.point for seen in traffic.leaked} == {"c"}
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.parts["leaked"].outcome == "pass"
    assert verdict.parts["leaked"].measurements["flooded"] == len(traffic.leaked)


def test_tunnels_whose_ends_have_been_forgotten(make_lab: MakeLab, tmp_path: Path) -> None:
    """Open vSwitch drops what it would send to a neighbour that it does not know (any more). Where
    flows belong after a restart is what it does once it does."""
    lab = make_lab(tunnelled())
    # So slow that no frame makes the switches meet before the traffic has ended.
    with lab.traffic(rate=0.01, pairs=[("a1", "a3"), ("a3", "a1")]):
        for name in ("s1", "s2", "s3"):
            lab.switch(name).restart()
    history = saved_and_read(lab, tmp_path)
    assert [flow.after for flow in history.flows if flow.after] == [("a3",), ("a1",)]
    verdict = judge(history)
    assert verdict.outcome == "pass", verdict.findings


def test_probes_alone_say_nothing_of_where_they_belong(lab: Lab, tmp_path: Path) -> None:
    lab.probe("a", to="b")
    verdict = judge(saved_and_read(lab, tmp_path))
    assert verdict.outcome == "unknown"
    assert verdict.parts["changed"].outcome == verdict.parts["unaccounted"].outcome == "pass"


# -- operations


def test_an_operation_that_failed_says_how(lab: Lab) -> None:
    with pytest.raises(RuntimeError), lab.operation("pull the plug", switch="s1", hard=True):
        raise RuntimeError("no plug\nthere")
    *_, plug = lab.history().operations
    assert (plug.name, plug.subject, plug.arguments) == ("pull the plug", "s1", {"hard": True})
    assert plug.outcome == "RuntimeError: no plug"
    assert plug.ended_ns is not None


def test_a_switch_marks_what_is_done_to_it(lab: Lab) -> None:
    switch = lab.switch("s1")
    switch.stop()
    switch.start()
    switch.restart()
    done = lab.history().operations
    assert [str(one) for one in done] == [
        "start of s1",
        "stop of s1",
        "start of s1",
        "restart of s1",
    ]
    assert all(one.outcome == "" for one in done)
    assert all(one.ended_ns is not None and one.ended_ns > one.began_ns for one in done)
    assert [one.began_ns for one in done] == sorted(one.began_ns for one in done)


def test_a_start_that_fails_is_marked_so(lab: Lab) -> None:
    switch = lab.switch("s1")
    switch.stop()
    lab.node("s1").run(["mv", f"{switch.layout.sbindir}/ovs-vswitchd", "/root/"])
    with pytest.raises(DaemonError):
        switch.start()
    *_, failed = lab.history().operations
    assert failed.name == "start"
    assert failed.outcome.startswith("DaemonError: s1: after ")


@pytest.mark.parametrize("change", ["reech", "flow", ""])
def test_what_nothing_can_change_is_refused(lab: Lab, change: str) -> None:
    with pytest.raises(LabError, match="not what an operation can change"):
        lab.operation("x", changes=[change]).__enter__()
    assert [one.name for one in lab.history().operations] == ["start"]


def test_what_a_scenario_expects_is_in_the_history(lab: Lab) -> None:
    lab.expect("reordered", "flooding")
    lab.expect_logged("could not .* nonsense")
    lab.record("outage", {"ns": 5, "of": Path("x")})
    about = lab.history().about
    assert about.expected == ("flooding", "reordered")
    assert about.expected_logs == ("could not .* nonsense",)
    assert about.measurements["outage"]["ns"] == 5
    assert (about.seed, about.target) == (7, "trixie/namespace/netdev")


# -- bundles, and the command


def test_a_bundle_can_be_judged(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab.traffic(rate=500):
        lab.switch("s1").restart()
    path = bundle.write(lab, tmp_path, "a test", rerun=["pytest"], failure="it failed")
    assert {"failure.txt", "commands.txt", "traces.txt"} <= {one.name for one in path.iterdir()}
    assert "br0" in (path / "s1" / "openflow.txt").read_text()
    assert main(["judge", str(path)]) == 0
    said = capsys.readouterr().out
    assert "target trixie/namespace/netdev, seed 7" in said
    assert "restart of s1" in said
    assert said.endswith("verdict: pass\n")


def test_a_bundle_of_a_dead_switch_can_be_judged(lab: Lab, tmp_path: Path) -> None:
    with lab.traffic(rate=500, pairs=[("a", "b")]):
        pass
    lab.node("s1").close()
    path = bundle.write(lab, tmp_path, "a test", rerun=["pytest"], failure="the node died")
    verdict: Verdict = judge(archives.load(path))
    assert verdict.outcome == "unknown"
    assert verdict.parts["logged"].findings[0].startswith("s1: its logs could not be read:")
    assert verdict.parts["leaked"].outcome == "pass"
    (unseen,) = verdict.parts["unaccounted"].findings
    assert unseen.startswith("what arrived beside batches is not known: s1: closed")
    assert "could not be read" in (path / "s1" / "daemons.log").read_text()
