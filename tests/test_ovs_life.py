"""A real switch's daemons, run with the options of ovs-ctl."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from harness.lab.environment import Environment
from harness.nodes.namespace import Fabric
from harness.ovs import DaemonError, ModuleError, Switch
from harness.ovs.options import OVS_VSWITCHD, OVSDB_SERVER, Options
from harness.polling import eventually
from harness.topology import model


@pytest.fixture
def switch(fabric: Fabric, ready: Environment) -> Iterator[Switch]:
    """A switch that was not started yet."""
    node = fabric.start_node("hv1", ready.image.lower)
    yield Switch(node, model.Switch(name="hv1"), "netdev")
    node.close()


def proc(switch: Switch, daemon: str, name: str) -> str:
    """A file of a daemon's in /proc, its NULs as spaces."""
    content = switch.node.read_file(f"/proc/{switch.pid(daemon)}/{name}")
    return content.decode().replace("\0", " ")


def kill(switch: Switch, signal: str, pid: int) -> None:
    switch.node.run(["kill", f"-{signal}", str(pid)])


@pytest.mark.parametrize("monitor", [True, False])
def test_with_and_without_monitor(switch: Switch, monitor: bool) -> None:
    switch.start(replace(switch.options, monitor=monitor))
    titles = switch.node.run(["ps", "-eo", "args"]).stdout
    assert titles.count(": monitoring pid") == 2 * monitor
    switch.restart()
    switch.check_alive()
    assert (" --monitor" in proc(switch, OVS_VSWITCHD, "cmdline")) == monitor


def test_a_monitor_that_died_is_found_out(switch: Switch) -> None:
    switch.start()
    parent = proc(switch, OVSDB_SERVER, "stat").rpartition(")")[2].split()[1]
    kill(switch, "KILL", int(parent))

    def death() -> str:
        try:
            switch.check_alive()
        except DaemonError as error:
            return str(error)
        return ""

    said = eventually(death, within=60, what="the monitor's death is found out")
    assert f"the monitor of ovsdb-server (pid {switch.pid(OVSDB_SERVER)}) has died" in said


def test_one_daemon_after_the_other(switch: Switch) -> None:
    usual = switch.options
    switch.start(replace(usual, ovs_vswitchd=False))
    assert switch.status().splitlines()[1] == "ovs-vswitchd is not running"
    first = switch.pid(OVSDB_SERVER)
    switch.start(replace(usual, ovsdb_server=False))
    switch.check_alive()
    assert switch.pid(OVSDB_SERVER) == first
    switch.stop(Options(ovsdb_server=False))
    assert switch.status().splitlines() == [
        f"ovsdb-server is running with pid {first}",
        "ovs-vswitchd is not running",
    ]
    switch.check_alive()
    switch.stop()
    assert "is running" not in switch.status()


def test_database_and_schema_elsewhere(switch: Switch) -> None:
    node = switch.node
    node.run(["cp", f"{switch.layout.datadir}/vswitch.ovsschema", "/tmp/own.ovsschema"])
    options = replace(switch.options, db_file="/tmp/own.db", db_schema="/tmp/own.ovsschema")
    switch.start(replace(options, external_id={"a": "1", "b": "2"}, system_type="box"))
    (root,) = switch.db("Open_vSwitch", ["external_ids", "system_type"])
    assert root["system_type"] == "box"
    assert root["external_ids"].items() >= {("a", "1"), ("b", "2"), ("system-id", "hv1")}
    assert proc(switch, OVSDB_SERVER, "cmdline").startswith("ovsdb-server /tmp/own.db ")
    assert node.run(["test", "-e", f"{switch.layout.dbdir}/conf.db"], check=False).status == 1


def test_bridges_are_deleted_when_told_so(switch: Switch) -> None:
    switch.start()
    switch.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    switch.restart()
    assert switch.vsctl("list-br") == "br0\n"
    switch.restart(replace(switch.options, delete_bridges=True))
    assert switch.vsctl("list-br") == ""


def test_how_a_daemon_is_run(switch: Switch) -> None:
    switch.start(
        replace(
            switch.options,
            ovsdb_server_priority=5,
            ovs_vswitchd_priority=0,
            ovs_vswitchd_wrapper="glibc",
            ovs_vswitchd_options=("-vfile:dbg", "--disable-system"),
            mlockall=False,
            daemon_cwd="/tmp",
        )
    )
    usual = int(switch.node.run(["nice"]).stdout)
    nice = [proc(switch, d, "stat").rpartition(")")[2].split()[16] for d in switch.options.daemons]
    assert [int(one) - usual for one in nice] == [5, 0]
    assert "MALLOC_PERTURB_=165" in proc(switch, OVS_VSWITCHD, "environ")
    assert "MALLOC_PERTURB_" not in proc(switch, OVSDB_SERVER, "environ")
    assert "|DBG|" in switch.logs()[OVS_VSWITCHD]
    assert "VmLck:\t       0 kB" in proc(switch, OVS_VSWITCHD, "status")
    cwd = switch.node.run(["readlink", f"/proc/{switch.pid()}/cwd"]).stdout
    assert cwd == "/tmp\n"


def test_a_daemon_that_hangs_is_stopped_all_the_same(switch: Switch) -> None:
    """Bounded by ovs-ctl itself, which ends with SIGKILL."""
    switch.start()
    kill(switch, "STOP", switch.pid())
    switch.stop()
    assert "is running" not in switch.status().partition("\n")[0]
    (done,) = [one for one in switch.node.commands if one.argv[-1] == "stop"]
    assert "with SIGKILL" in done.stdout


def no_module(switch: Switch) -> None:
    switch.start()


def no_daemon(switch: Switch) -> None:
    assert not switch.is_up


@pytest.mark.parametrize("prepare", [no_module, no_daemon])
def test_the_machines_kernel_module_is_not_touched(
    switch: Switch, prepare: Callable[[Switch], None]
) -> None:
    prepare(switch)
    before = switch.status()
    with pytest.raises(ModuleError, match="hv1: the kernel is not this node's own"):
        switch.force_reload_kmod()
    assert switch.status() == before
    switch.check_alive()
