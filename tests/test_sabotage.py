"""Every check is shown able to fail: the switch is broken behind the lab's back, and the checks say
what is wrong, and where. At the end the scenarios themselves are run on broken switches."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.lab import DEFAULT_TARGET, Lab, SurpriseError
from harness.nodes.base import NodeError
from harness.ovs import DaemonError
from harness.polling import eventually
from harness.topology import Topology
from harness.traffic import Reach
from harness.traffic.batch import NotOnce, Sent
from harness.traffic.explain import explain
from harness.traffic.frames import probe_frame
from tests.sabotage_plugin import SABOTAGES

ROOT = Path(__file__).parent.parent
USUAL = Reach.groups(["a1", "a2", "a3"], ["b1", "b2"])
"""VLAN 10 is the a's, VLAN 20 the b's."""


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Two switches over a wire; nothing wrong with them so far."""
    topo = Topology("victim")
    wire = topo.underlay("wire")
    hosts = {1: {"a1": 10, "b1": 20}, 2: {"a2": 10, "a3": 10, "b2": 20}}
    for n, tags in hosts.items():
        bridge = topo.switch(f"hv{n}").bridge("br0")
        bridge.uplink(wire)
        for name, tag in tags.items():
            bridge.host(name, tag=tag)
    lab = make_lab(topo)
    assert lab.probe_all().reach == USUAL
    lab.verify()
    return lab


def said_of(sent: Sent, expected: set[str]) -> str:
    """What pytest prints when ``sent.heard_at == expected`` does not hold."""
    assert sent.heard_at != expected
    return "\n".join(explain(sent.heard_at, expected) or ())


def said_of_reach(lab: Lab) -> list[str]:
    reach = lab.probe_all().reach
    assert reach != USUAL
    return reach.difference(USUAL)


def add_flow(lab: Lab, switch: str, flow: str) -> None:
    lab.switch(switch).ofctl("add-flow", "br0", flow)


# -- frames that do not arrive


def test_wrong_tag_on_a_port(lab: Lab) -> None:
    lab.switch("hv2").vsctl("set", "port", "a2", "tag=20")
    said = said_of(lab.probe("a1", to="a2"), {"a2"})
    assert "a2 did not hear it; it was seen here:" in said
    assert "out wire (hv1:wire) #0: vlan 10, 68 bytes" in said
    assert set(said_of_reach(lab)) >= {
        "broadcast from a1 did not reach a2",
        "broadcast from b1 leaked to a2",
        "unicast from a1 did not reach a2",
        "unicast from a2 leaked to b1, b2",
    }


def test_wrong_tag_on_the_wire_although_all_arrives(lab: Lab) -> None:
    for switch, name in (("hv1", "a1"), ("hv2", "a2"), ("hv2", "a3")):
        lab.switch(switch).vsctl("set", "port", name, "tag=30")
    lab.announce("a2")
    sent = lab.probe("a1", to="a2")
    assert sent.heard_at == {"a2"}
    assert sent.seen_on("wire").vlan_ids != [10]
    assert "vlan 30" in str(sent.seen_on("wire"))


@pytest.mark.parametrize(
    "command",
    [("del-port", "a2"), ("set", "port", "a2", "tag=20"), ("del-port", "wire")],
    ids=" ".join,
)
def test_a_port_that_is_gone(lab: Lab, command: tuple[str, ...]) -> None:
    lab.switch("hv2").vsctl(*command)
    sent = lab.probe("a1", to="a2")
    assert "expected: a2" in said_of(sent, {"a2"})
    with pytest.raises(NotOnce, match=r"1 frame of flow \d+ from a1 to a2 was not seen on a2"):
        sent.seen_on("a2")
    assert sent.missing_at("a2") == [0]


def test_a_port_that_is_down(lab: Lab) -> None:
    lab.switch("hv2").ofctl("mod-port", "br0", "a2", "down")
    assert said_of(lab.probe("a1", to="a2"), {"a2"}).startswith("1 frame of flow")
    assert "broadcast from a1 did not reach a2" in said_of_reach(lab)


def test_a_frame_in_ten_is_lost(lab: Lab) -> None:
    """Not all or nothing: a group that drops every other frame of two."""
    hv2 = lab.switch("hv2")
    bucket = f"bucket=output:{hv2.ofport('a2')}"
    hv2.ofctl("-O", "OpenFlow15", "add-group", "br0", f"group_id=1,type=all,{bucket}")
    add_flow(lab, "hv2", "priority=10,in_port=wire,dl_type=0x88b5,actions=strip_vlan,group:1")
    sent = lab.probe("a1", to="a2", count=10)
    hv2.ofctl("-O", "OpenFlow15", "mod-group", "br0", "group_id=1,type=all")
    lost = lab.probe("a1", to="a2", count=3)
    assert (sent.missing_at("a2"), lost.missing_at("a2")) == ([], [0, 1, 2])


# -- frames that arrive where they should not


@pytest.mark.parametrize("actions", ["NORMAL,output:b2", "FLOOD", "ALL"])
def test_a_flow_that_leaks(lab: Lab, actions: str) -> None:
    add_flow(lab, "hv2", f"priority=100,in_port=wire,actions={actions}")
    sent = lab.probe("a1", to="a2")
    said = said_of(sent, {"a2"})
    assert "b2 heard it and should not have:" in said
    assert re.search(r"in b2 #0: vlan 10, 68 bytes: 02:00:\S+ > 02:00:", said)
    assert "b2" in {seen.point for seen in sent.leaked}
    assert "broadcast from a1 leaked to b2" in said_of_reach(lab)


def test_a_flow_that_mirrors_one_host_s_unicast_only(lab: Lab) -> None:
    """The broadcasts are as ever: only the whole matrix, or the one pair, can see it."""
    match = f"dl_src={lab.mac('a1')},dl_dst={lab.mac('a2')}"
    add_flow(lab, "hv2", f"priority=100,{match},actions=NORMAL,output:b2")
    assert said_of_reach(lab) == ["unicast from a1 to a2 was overheard by b2"]


def test_a_frame_that_comes_back(lab: Lab) -> None:
    add_flow(lab, "hv1", "priority=100,in_port=a1,actions=NORMAL,IN_PORT")
    sent = lab.probe("a1", to="a2")
    assert "a1 heard it and should not have:" in said_of(sent, {"a2"})
    assert [seen.point for seen in sent.leaked] == ["a1"]


def test_a_bridge_that_floods(lab: Lab) -> None:
    """It has forgotten where everybody is, and must not learn it again."""
    add_flow(lab, "hv2", "priority=100,in_port=wire,actions=FLOOD")
    assert {"a3", "b2"} <= {seen.point for seen in lab.probe("a1", to="a2").leaked}
    lab.switch("hv2").ofctl("del-flows", "br0", "in_port=wire")
    assert lab.probe("a1", to="a2").heard_at == {"a2"}
    lab.switch("hv2").unixctl("fdb/flush", "br0")
    sent = lab.probe("a1", to="a2")
    assert "a3 heard it and should not have:" in said_of(sent, {"a2"})
    assert [seen.point for seen in sent.leaked] == ["a3"]


# -- frames that arrive twice, or changed


def test_a_doubled_frame(lab: Lab) -> None:
    add_flow(lab, "hv2", "priority=100,in_port=wire,actions=strip_vlan,output:a2,output:a2")
    sent = lab.probe("a1", to="a2", count=3)
    # Who heard it is as it should be.
    assert sent.heard_at == {"a2"}
    assert [seen.seq for seen in sent.duplicates] == [0, 1, 2]
    with pytest.raises(NotOnce, match=r"was seen 6 times on a2, not once:\n  in a2 #0: untagged"):
        sent.seen_on("a2")
    with pytest.raises(SurpriseError, match=r"duplicates: in a2 #0: untagged, 64 bytes"):
        lab.verify()


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ("mod_dl_src:02:02:02:02:02:02", r"Ether\.src 02:00:\S+ -> 02:02:02:02:02:02"),
        ("dec_ttl", r"IP\.ttl 64 -> 63"),
        ("mod_nw_src:10.9.9.9", r"IP\.src 10\.0\.0\.1 -> 10\.9\.9\.9"),
        ("mod_tp_dst:99", r"UDP\.dport 53 -> 99|UDP\.dport domain -> 99"),
    ],
)
def test_a_changed_frame(lab: Lab, action: str, field: str) -> None:
    add_flow(lab, "hv1", f"priority=100,udp,in_port=a1,actions={action},NORMAL")
    head = Ether(src=lab.mac("a1"), dst=lab.mac("a2"))
    sent = lab.send("a1", head / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=53), to="a2")
    assert sent.heard_at == {"a2"}
    assert {change.sighting.point for change in sent.changed} == {"wire", "a2"}
    (at_a2,) = (change for change in sent.changed if change.sighting.point == "a2")
    assert re.search(rf"changed at a2: .*{field}", str(at_a2))
    with pytest.raises(SurpriseError, match=rf"changed: changed at a2: .*{field}"):
        lab.verify()


def test_a_frame_that_is_cut_short(lab: Lab) -> None:
    port = lab.switch("hv2").ofport("a2")
    cut = f"strip_vlan,output(port={port},max_len=100)"
    add_flow(lab, "hv2", f"priority=100,in_port=wire,actions={cut}")
    sent = lab.probe("a1", to="a2", size=200)
    assert [change.sighting.note for change in sent.changed] == ["cut short"]
    with pytest.raises(SurpriseError, match=r"changed: changed at a2"):
        lab.verify()


# -- frames from nobody


def test_a_frame_from_nobody(lab: Lab) -> None:
    """Sent by the switch itself while the harness listens."""
    frame = probe_frame("02:66:66:66:66:66", lab.mac("a2")).hex()
    with lab.traffic(rate=500, pairs=[("a1", "a2")]) as traffic:
        lab.switch("hv2").ofctl("packet-out", "br0", "LOCAL", "output:a2", frame)
    assert (traffic.lost, traffic.leaked) == (0, [])
    (stray,) = traffic.batch.strays
    assert re.search(r"in a2: untagged, 64 bytes: 02:66:66:66:66:66 > .*no identity", str(stray))
    with pytest.raises(SurpriseError, match=r"strays: in a2: untagged, .*02:66:66:66:66:66"):
        lab.verify()


def test_a_frame_that_was_put_on_the_wire_behind_the_lab_s_back(lab: Lab) -> None:
    node = lab.node("hv1")
    (port,) = node.open_ports([(None, "wire")]).result()
    frame = probe_frame("02:66:66:66:66:66", "ff:ff:ff:ff:ff:ff", vlan=10)
    with lab.traffic(rate=500, pairs=[("b1", "b2")]) as traffic:
        node.send_frames([(port, [len(frame)])], frame).result()
    assert sorted(seen.point for seen in traffic.batch.strays) == ["a2", "a3"]
    assert [seen.point for seen in traffic.batch.wire_strays] == ["wire"]


def test_a_frame_of_an_earlier_batch_that_comes_late(lab: Lab) -> None:
    """A switch that holds frames back, and delivers them when nobody expects them any more."""
    old = lab.probe("a1", to="a2")
    with lab.traffic(rate=500, pairs=[("b1", "b2")]) as traffic:
        frame = old.frame().hex()
        lab.switch("hv2").ofctl("packet-out", "br0", "LOCAL", "output:a2", frame)
    (stray,) = traffic.batch.strays
    assert stray.point == "a2"
    said = f"carries the identity of flow {old.flow} from a1 to a2, sent in an earlier batch"
    assert said in str(stray)


# -- daemons that die


def kill(lab: Lab, signal: str, daemon: str) -> None:
    """Send a signal to a daemon of hv2, and wait until it has ended."""
    pid = lab.switch("hv2").pid(daemon)
    ended = f"! grep -sq 'State:.[^ZX]' /proc/{pid}/status"
    lab.node("hv2").run(["sh", "-c", f"kill -{signal} {pid}; until {ended}; do :; done"])


@pytest.mark.parametrize("daemon", ["ovs-vswitchd", "ovsdb-server"])
def test_a_daemon_that_was_killed(lab: Lab, daemon: str) -> None:
    kill(lab, "KILL", daemon)
    said = rf"^hv2: {daemon} \(pid \d+\) has died\nthe end of /var/log/"
    for check in (lab.verify, lab.switch("hv2").check_alive):
        with pytest.raises(DaemonError, match=said):
            check()
    lab.switch("hv1").check_alive()


def test_probing_a_switch_whose_daemon_was_killed(lab: Lab) -> None:
    kill(lab, "KILL", "ovs-vswitchd")
    with pytest.raises(DaemonError, match=r"hv2: ovs-vswitchd \(pid \d+\) has died"):
        lab.probe("a1", to="a2")


def test_a_daemon_that_crashed_and_was_restarted(lab: Lab) -> None:
    """Its monitor has started another, and soon all is as before: but it did crash."""
    hv2 = lab.switch("hv2")
    pidfile = hv2.layout.pidfile("ovs-vswitchd")
    old = lab.node("hv2").read_file(pidfile)
    kill(lab, "SEGV", "ovs-vswitchd")

    def pid() -> bytes:
        return (lab.node("hv2").read_files([pidfile])[0] or old).strip()

    eventually(pid, lambda now: now not in (old.strip(), b""), within=60, what="a new daemon")
    with pytest.raises(DaemonError, match=r"has died; another runs in its place \(pid \d+\)"):
        lab.verify()


def test_a_node_that_died(lab: Lab) -> None:
    lab.node("hv2").run_soon(["sh", "-c", "kill -9 -1"])
    with pytest.raises((DaemonError, NodeError), match="hv2: "):
        eventually(lambda: lab.probe("a1", to="a2") is None, within=60, what="a dead node")


# -- the scenarios, on broken switches

UNBREAKABLE = {
    "scenarios/openflow/test_versions.py::test_no_other_version_is_spoken": "no frame is sent",
}
"""Scenarios that no broken switch can make fail, and why."""
Results = dict[str, dict[str, str]]
"""What became of each scenario, by sabotage."""


def run_scenarios(directory: Path) -> Results:
    """Run all scenarios on switches that are broken in one way after the other, each scenario
    until it fails."""
    results: Results = {}
    pending = ["scenarios"]
    for sabotage in SABOTAGES:
        # What is left after the first run is little.
        options = ["-n0"] if results else [f"-n{os.cpu_count()}"]
        results = run_broken(sabotage, [*options, *pending], directory / "results.json")
        pending = [name for name, said in results.items() if not is_settled(said)]
        if not pending:
            break
    return results


def run_broken(sabotage: str, options: list[str], file: Path) -> Results:
    """Run scenarios on switches that are broken in this way; ``file`` collects the results."""
    broken = ["-p", "sabotage_plugin", f"--sabotage={sabotage}", f"--sabotage-results={file}"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=no",
            f"--target={DEFAULT_TARGET}",
            "-p",
            "no:cacheprovider",
            *broken,
            *options,
        ],
        cwd=ROOT,
        # The harness's own programs are those of this checkout too.
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    results: Results = json.loads(file.read_text())
    return results


def is_settled(said: dict[str, str]) -> bool:
    return any(one.startswith(("caught: ", "skipped: ")) for one in said.values())


def table(results: Results) -> str:
    """For each scenario what was tried on it, and what it said."""
    lines = []
    for name, said in sorted(results.items()):
        lines.append(name)
        lines += [f"    {sabotage}: {outcome[:150]}" for sabotage, outcome in said.items()]
    return "\n".join(lines)


@pytest.mark.usefixtures("ready")
def test_every_scenario_can_fail(tmp_path: Path) -> None:
    """A scenario that passes on every broken switch proves nothing: it lacks an assertion, or
    something that would make it fail is missing in ``sabotage_plugin``."""
    results = run_scenarios(tmp_path)
    print(table(results))
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "scenarios").rglob("test_*.py")}
    assert {name.partition("::")[0] for name in results} == files
    blind = {name: said for name, said in results.items() if not is_settled(said)}
    for name in UNBREAKABLE:
        assert name in blind, f"{name} can fail after all, or is gone: take it out of UNBREAKABLE"
    unexplained = {name: said for name, said in blind.items() if name not in UNBREAKABLE}
    assert not unexplained, f"no sabotage makes these scenarios fail:\n{table(unexplained)}"
