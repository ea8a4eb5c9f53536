"""Faults on a real switch: each begins, is seen to work, is undone, and marks the history; what
can't begin says so and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from harness.checks import judge
from harness.faults import (
    CHOICES,
    FORGOTTEN,
    BadLink,
    Cut,
    DamagedDatabase,
    Exit,
    Fault,
    FaultError,
    FullDisk,
    HalfRestart,
    Kill,
    LinkDown,
    LinkFlapping,
    OldSchema,
    PowerCut,
    Reload,
    Restart,
    Suspend,
    Upgrade,
    draw,
)
from harness.faults.upgrades import IMAGES
from harness.images import ImageError, catalogue
from harness.lab import Lab, LabError
from harness.nodes.base import CommandFailed, NodeError
from harness.ovs import DaemonError, ModuleError, Switch
from harness.polling import eventually
from harness.topology import Topology

MakeLab = Callable[..., Lab]
KEY = "flow-restore-wait"


def network() -> Topology:
    """Two switches over a wire; flows say who hears whom."""
    topo = Topology("network")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0", fail_mode="secure")
        bridge.uplink(wire)
        bridge.host(f"h{n}")
        bridge.flow(f"cookie=0x5,in_port=h{n},actions=output:wire")
        bridge.flow(f"cookie=0x5,in_port=wire,actions=output:h{n}")
    return topo


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(network())


@pytest.fixture
def switch(lab: Lab) -> Switch:
    return lab.switch("s1")


def heard(lab: Lab) -> frozenset[str]:
    return lab.probe("h1", to="h2").heard_at


def operation(lab: Lab, name: str) -> tuple[dict[str, object], tuple[str, ...], str]:
    """Arguments, changes and outcome of the one operation of this name, which has ended."""
    (found,) = (one for one in lab.history().operations if one.name == name)
    assert found.ended_ns is not None
    assert found.subject == "s1"
    return dict(found.arguments), found.changes, found.outcome


# -- restarts


def test_restart(lab: Lab, switch: Switch) -> None:
    before, state = switch.pid(), switch.state()
    with lab.fault(Restart("s1")):
        pass
    assert switch.pid() != before
    assert switch.state() == state
    assert operation(lab, "restart") == ({}, (), "")
    lab.verify()


@pytest.mark.parametrize("stage", ["saved", "stopped", "waiting", "restored"])
def test_half_a_restart(lab: Lab, switch: Switch, stage: str) -> None:
    state, pids = switch.state(), (switch.pid("ovsdb-server"), switch.pid())
    fault = HalfRestart("s1", stage=stage)  # type: ignore[arg-type]
    with lab.fault(fault):
        lab.verify()
        (root,) = switch.db("Open_vSwitch", ["other_config"])
        assert (KEY in root["other_config"]) == (stage in ("waiting", "restored"))
        assert switch.is_up == (stage != "stopped")
        assert (switch.pid("ovsdb-server") == pids[0]) == (stage == "saved")
        if stage == "saved":
            assert switch.pid() == pids[1]
            assert heard(lab) == {"h2"}
        elif stage == "waiting":
            assert heard(lab) == set()
    after = switch.state()
    assert after.without(*FORGOTTEN) == state.without(*FORGOTTEN)
    kept = after == state
    assert kept == (stage in ("saved", "restored"))
    arguments, changes, outcome = operation(lab, "half a restart")
    assert (arguments, outcome) == ({"stage": stage}, "")
    assert changes == (() if kept else FORGOTTEN)
    assert (heard(lab) == {"h2"}) == kept
    lab.verify()


def test_a_module_that_is_not_the_node_s_own_is_not_reloaded(lab: Lab, switch: Switch) -> None:
    pid = switch.pid()
    with (
        pytest.raises(ModuleError, match="the kernel is not this node's own"),
        lab.fault(Reload("s1")),
    ):
        pass
    assert switch.pid() == pid
    lab.verify()


# -- daemons


@pytest.mark.parametrize("daemon", ["ovs-vswitchd", "ovsdb-server"])
@pytest.mark.parametrize(
    ("signal", "kill_monitor", "monitored", "restarted"),
    [
        ("KILL", False, True, False),
        ("SEGV", False, True, True),
        ("SEGV", True, True, False),
        ("KILL", False, False, False),
    ],
    ids=["kill", "crash", "monitor-first", "no-monitor"],
)
def test_kill(
    lab: Lab,
    switch: Switch,
    daemon: str,
    signal: str,
    kill_monitor: bool,
    monitored: bool,
    restarted: bool,
) -> None:
    if not monitored:
        switch.stop()
        switch.start(replace(switch.options, monitor=False))
    before = switch.pid(daemon)
    fault = Kill("s1", daemon=daemon, signal=signal, monitor=kill_monitor)  # type: ignore[arg-type]
    with lab.fault(fault):
        lab.verify()
        if restarted:
            assert switch.pid(daemon) != before
        else:
            with pytest.raises(Exception, match=f"s1: {daemon} is not running"):
                switch.pid(daemon)
    assert switch.pid(daemon) != before
    arguments, changes, outcome = operation(lab, "kill")
    assert arguments == {"daemon": daemon, "signal": signal, "monitor": kill_monitor}
    assert (changes, outcome) == (FORGOTTEN if daemon == "ovs-vswitchd" else (), "")
    flows = switch.state().bridges["br0"].flows
    assert (len(flows) == 2) == (daemon == "ovsdb-server" and monitored)
    lab.verify()


@pytest.mark.parametrize("daemon", ["ovs-vswitchd", "ovsdb-server"])
def test_suspend(lab: Lab, switch: Switch, daemon: str) -> None:
    with lab.fault(Suspend("s1", daemon=daemon)):  # type: ignore[arg-type]
        with pytest.raises(NodeError):
            switch.unixctl("version", daemon=daemon, timeout=0.3)
        switch.check_alive()
    assert switch.unixctl("version", daemon=daemon)
    assert heard(lab) == {"h2"}
    assert operation(lab, "suspend") == ({"daemon": daemon}, (), "")
    lab.verify()


@pytest.mark.parametrize("cleanup", [False, True])
def test_exit(lab: Lab, switch: Switch, cleanup: bool) -> None:
    with lab.fault(Exit("s1", cleanup=cleanup)):
        lab.verify()
        assert not switch.is_up
        # The datapath's own port goes with it, or stays.
        assert lab.node("s1").exists("/sys/class/net/ovs-netdev") != cleanup
    assert switch.is_up
    arguments, changes, _outcome = operation(lab, "exit")
    assert arguments == {"cleanup": cleanup}
    assert set(FORGOTTEN) <= set(changes)
    assert switch.state().bridges["br0"].flows == ()
    lab.verify()


# -- another version


@pytest.mark.parametrize("way", ["restart", "stop and start"])
def test_upgrade(lab: Lab, switch: Switch, way: str) -> None:
    """To what it is already: what is exchanged is, all the same, another tree."""
    state, pids = switch.state(), (switch.pid("ovsdb-server"), switch.pid())
    switch.node.write_file("/usr/share/mine", "gone with what it was written to")
    with lab.fault(Upgrade("s1", "trixie", way=way)):  # type: ignore[arg-type]
        lab.verify()
        assert not lab.node("s1").exists("/usr/share/mine")
        assert not {switch.pid("ovsdb-server"), switch.pid()} & {*pids}
        kept = switch.state() == state
        assert kept == (way == "restart")
        assert switch.state().without("flows") == state.without("flows")
    found = [one for one in lab.history().operations if one.name == "upgrade"]
    assert [one.arguments for one in found] == [{"image": "trixie", "way": way}] * 2
    assert (FORGOTTEN[0] in found[0].changes) == (not kept)
    assert (heard(lab) == {"h2"}) == kept
    lab.verify()


def installation(tree: Path, ovs_lib: str, ovs_ctl: str) -> str:
    """An image with scripts of one's own, laid over the default one."""
    scripts = tree / "usr/share/openvswitch/scripts"
    scripts.mkdir(parents=True)
    (scripts / "ovs-lib").write_text(ovs_lib)
    (scripts / "ovs-ctl").write_text(ovs_ctl)
    (scripts / "ovs-ctl").chmod(0o755)
    (tree / "usr/sbin").mkdir()
    (tree / "usr/sbin/ovs-vswitchd").touch(0o755)
    return f"prefix:{tree}@trixie"


def test_an_upgrade_that_fails_is_taken_back(lab: Lab, switch: Switch, tmp_path: Path) -> None:
    state = switch.state()
    library = switch.node.read_file(f"{switch.layout.datadir}/scripts/ovs-lib").decode()
    broken = "#!/bin/sh\necho no-record-hostname is no use >&2\nexit 3\n"
    image = installation(tmp_path, library, broken)
    with (
        pytest.raises(DaemonError, match="it exited 3\n.*\n  no-record-hostname is no use"),
        lab.fault(Upgrade("s1", image)),
    ):
        pass
    assert switch.version() == "3.5.0"
    assert switch.state() == state
    assert heard(lab) == {"h2"}
    lab.verify()


def test_an_upgrade_to_what_has_its_files_elsewhere(
    lab: Lab, switch: Switch, tmp_path: Path
) -> None:
    state = switch.state()
    library = switch.node.read_file(f"{switch.layout.datadir}/scripts/ovs-lib").decode()
    image = installation(tmp_path, library.replace("'/etc/openvswitch'", "'/opt/ovs'"), "")
    with (
        pytest.raises(FaultError, match=r"its database, logs and sockets in /opt/ovs, /var/log/"),
        lab.fault(Upgrade("s1", image)),
    ):
        pass
    assert switch.state() == state
    assert heard(lab) == {"h2"}
    lab.verify()


@pytest.mark.parametrize("image", ["host", "warty"])
def test_an_upgrade_to_no_image(lab: Lab, image: str) -> None:
    # Whether a machine that has no Open vSwitch of its own, or that it can't be one.
    with pytest.raises((ImageError, LabError), match=image), lab.fault(Upgrade("s1", image)):
        pass
    assert heard(lab) == {"h2"}
    lab.verify()


# -- the database


def database_files(lab: Lab) -> str:
    """What lies beside the database and beside the link to it."""
    look = 'ls "$1" "$(dirname "$(readlink -f "$1/conf.db")")"'
    directory = lab.switch("s1").layout.dbdir
    return lab.node("s1").run(["sh", "-c", look, "sh", directory]).stdout


def test_full_disk(lab: Lab, switch: Switch) -> None:
    state = switch.state()
    large = "x" * 9000
    with lab.fault(FullDisk("s1")):
        lab.verify()
        with pytest.raises(CommandFailed, match="No space left on device"):
            switch.vsctl("set", "Open_vSwitch", ".", f"external_ids:large={large}")
        assert heard(lab) == {"h2"}
    assert switch.state() == state
    switch.vsctl("set", "Open_vSwitch", ".", f"external_ids:large={large}")
    assert operation(lab, "full disk") == ({}, (), "")
    assert "ballast" not in database_files(lab)
    lab.verify()


@pytest.mark.parametrize("part", ["header", "tail"])
def test_damaged_database(lab: Lab, switch: Switch, part: str) -> None:
    state = switch.state()
    with lab.fault(DamagedDatabase("s1", part=part)):  # type: ignore[arg-type]
        lab.verify()
        runs = "ovsdb-server is running" in switch.status()
        assert runs == (part == "tail")
        log = switch.logs()["ovsdb-server"]
        said = "unexpected file format" if part == "header" else "End of file"
        assert said in log
        if runs:
            assert heard(lab) == {"h2"}
    assert switch.state() == state
    assert operation(lab, "damaged database") == ({"part": part}, (), "")
    lab.verify()


def test_old_schema(lab: Lab, switch: Switch) -> None:
    state = switch.state()
    with lab.fault(OldSchema("s1")):
        assert "conf.db.backup0.0.1-" in database_files(lab)
        assert switch.state() == state
        assert heard(lab) == {"h2"}
    assert "backup" not in database_files(lab)
    assert operation(lab, "old schema") == ({}, (), "")
    lab.verify()


# -- links


@pytest.mark.parametrize(
    ("fault", "name"),
    [(LinkDown("s1", "wire"), "link down"), (Cut("s1", "wire"), "underlay cut")],
)
def test_a_link_that_is_down(lab: Lab, fault: Fault, name: str) -> None:
    with lab.fault(fault):
        assert heard(lab) == set()
    link_is(lab, "up")
    assert heard(lab) == {"h2"}
    assert operation(lab, name)[1:] == ((), "")
    lab.verify()


def test_a_link_that_flaps(lab: Lab, switch: Switch) -> None:
    def resets() -> int:
        (row,) = switch.db("Interface", ["link_resets"], {"name": "wire"})
        return int(row["link_resets"])

    before = resets()
    with lab.fault(LinkFlapping("s1", "wire", times=2)):
        pass
    link_is(lab, "up")
    eventually(resets, lambda now: now >= before + 4, within=60, what="four changes")
    assert heard(lab) == {"h2"}
    assert operation(lab, "link flapping") == ({"port": "wire", "times": 2}, (), "")


def test_a_link_that_the_kernel_carries_cannot_be_bad(lab: Lab) -> None:
    with (
        pytest.raises(LabError, match=r"wire can't be made bad: it can between virtual machines"),
        lab.fault(BadLink("s1", "wire", loss=100)),
    ):
        pass
    assert heard(lab) == {"h2"}
    lab.verify()


def link_is(lab: Lab, wanted: str) -> None:
    """Wait until both ends of the wire are up, or down."""

    def states() -> set[str]:
        switches = lab.switches.values()
        return {
            one.db("Interface", ["link_state"], {"name": "wire"})[0]["link_state"]
            for one in switches
        }

    eventually(states, lambda found: found == {wanted}, within=60, what=f"a wire that is {wanted}")


# -- all of them


def test_faults_combine(lab: Lab, switch: Switch) -> None:
    pids = switch.pid("ovsdb-server"), switch.pid()
    with (
        lab.fault(Kill("s1")),
        lab.fault(Kill("s1", daemon="ovsdb-server")),
        lab.fault(LinkDown("s1", "wire")),
    ):
        assert "is running" not in switch.status()
        lab.verify()
    assert not {switch.pid("ovsdb-server"), switch.pid()} & {*pids}
    names = [one.name for one in lab.history().operations]
    assert names == ["start", "start", "kill", "kill", "link down", "start", "start"]
    lab.verify()


def test_a_daemon_that_is_killed_while_it_hangs(lab: Lab, switch: Switch) -> None:
    with lab.fault(Suspend("s1")), lab.fault(Kill("s1", monitor=True)):
        lab.verify()
    assert switch.is_up
    lab.verify()


def test_an_error_in_the_context_undoes_the_fault(lab: Lab, switch: Switch) -> None:
    with pytest.raises(ZeroDivisionError), lab.fault(Kill("s1", monitor=True)):
        _ = 1 / 0
    assert switch.is_up
    assert operation(lab, "kill")[2] == "ZeroDivisionError: division by zero"
    lab.verify()


def test_that_a_fault_could_not_be_undone_is_said_beside_the_error(lab: Lab) -> None:
    def interrupted() -> None:
        with lab.fault(LinkDown("s1", "wire")):
            lab.node("s1").run(["ip", "link", "delete", "wire"])
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        interrupted()
    (note,) = caught.value.__notes__
    assert note.startswith("then link down of s1 port=wire could not be undone: ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (LinkDown("s1", "h1"), "s1 port=h1: the switch has no such physical port; it has wire"),
        (LinkFlapping("s1", "wire", times=0), "a link flaps at least once"),
        (Cut("s1", "nowhere"), "the switch has no port there"),
        (BadLink("s1", "nowhere", loss=1), "the switch has no port there"),
        (BadLink("s1", "wire", loss=101), "loss is a probability, from 0 to 1, not 1.01"),
    ],
)
def test_what_cannot_be_done(lab: Lab, fault: Fault, said: str) -> None:
    with pytest.raises(FaultError, match=said), lab.fault(fault):
        pass
    assert heard(lab) == {"h2"}
    lab.verify()


@pytest.mark.parametrize(
    "fault",
    [
        Kill("s1"),
        Suspend("s1"),
        Exit("s1"),
        FullDisk("s1"),
        OldSchema("s1"),
        Upgrade("s1", "trixie"),
    ],
)
def test_what_cannot_be_done_to_a_switch_that_is_stopped(
    lab: Lab, switch: Switch, fault: Fault
) -> None:
    switch.stop()
    with pytest.raises(FaultError, match=r"does not run$"), lab.fault(fault):
        pass
    lab.verify()


def test_there_is_no_such_switch(lab: Lab) -> None:
    with pytest.raises(LabError, match="no switch is called 's9'"), lab.fault(Restart("s9")):
        pass


def test_a_node_that_has_no_power_of_its_own(lab: Lab) -> None:
    captured_at = lab.engine.places
    with pytest.raises(LabError, match="s1 has no power of its own"), lab.fault(PowerCut("s1")):
        pass
    assert heard(lab) == {"h2"}
    assert lab.engine.places == captured_at
    lab.verify()


# -- drawn at random


def test_the_same_seed_draws_the_same() -> None:
    switches = network().freeze().switches

    def drawn(seed: int) -> list[Fault]:
        random = Random(seed)
        return [draw(random, switches) for _ in range(300)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert {type(fault) for fault in drawn(1)} == set(CHOICES)
    assert {fault.switch for fault in drawn(1)} == {"s1", "s2"}


def test_upgrades_are_drawn_between_all_images_of_the_catalogue() -> None:
    assert set(IMAGES) == set(catalogue())


def test_only_what_is_possible_is_drawn() -> None:
    topo = Topology("alone")
    topo.switch("s1").bridge("br0").host("h1")
    switches = topo.freeze().switches
    kinds = {type(draw(Random(seed), switches)) for seed in range(200)}
    assert kinds == set(CHOICES) - {BadLink, Cut, LinkDown, LinkFlapping}
    assert draw(Random(1), switches, [Restart]) == Restart("s1")
    with pytest.raises(ValueError, match="none of these faults"):
        draw(Random(1), switches, [Cut])


def test_a_lab_draws_with_its_seed(make_lab: MakeLab) -> None:
    drawn = [make_lab(network()).draw_fault(Kill, Suspend, Exit) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_what_is_done_goes_into_the_judgement(lab: Lab) -> None:
    """A link that was down on purpose is no outage while nothing was done."""
    with lab.traffic(rate=200, pairs=[("h1", "h2")]), lab.fault(LinkDown("s1", "wire")):
        pass
    assert judge(lab.history()).parts["lost"].outcome == "pass"
