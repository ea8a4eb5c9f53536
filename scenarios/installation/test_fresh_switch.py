"""A switch that has just been started, looked at as its administrator would: packages, files and
who may read them, services, processes, sockets, logs (testinfra over the agent)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from testinfra.host import Host

from harness import Lab, Topology
from harness.lab import Target
from harness.polling import eventually

LOG = "/var/log/openvswitch/ovs-vswitchd.log"
DAEMONS = ("ovsdb-server", "ovs-vswitchd")


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("fresh")
    topo.switch("s1").bridge("br0", addresses=["192.0.2.1/24"])
    return topo


@pytest.fixture(scope="module")
def shared(module_lab: Lab) -> Host:
    """For tests that only look."""
    return module_lab.switch("s1").host


@pytest.fixture
def own(lab: Lab) -> Host:
    """For one that changes something."""
    return lab.switch("s1").host


def the_one(host: Host, **what: object) -> Any:
    """The process that is to be there once."""
    found = host.process.filter(**what)
    assert len(found) == 1, f"{what}: {[one.args for one in found]}"
    return found[0]


def test_the_package_is_of_the_version_that_runs(shared: Host, target: Target) -> None:
    if target.image.startswith("prefix:"):
        pytest.skip("what runs here came in no package")
    package = shared.package("openvswitch-switch")
    assert package.is_installed
    running = shared.check_output("ovs-vsctl get Open_vSwitch . ovs_version").strip('"')
    assert re.match(rf"{re.escape(running)}\b", package.version)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/etc/openvswitch", 0o755),
        ("/var/lib/openvswitch", 0o755),
        ("/var/log/openvswitch", 0o755),
        ("/run/openvswitch", 0o755),
        # Passwords of managers and keys of tunnels are in it.
        ("/etc/openvswitch/conf.db", 0o640),
        ("/etc/openvswitch/.conf.db.~lock~", 0o600),
        ("/var/log/openvswitch/ovsdb-server.log", 0o640),
        (LOG, 0o640),
        ("/run/openvswitch/db.sock", 0o750),
        ("/run/openvswitch/br0.mgmt", 0o750),
        ("/run/openvswitch/ovsdb-server.pid", 0o644),
        ("/run/openvswitch/ovs-vswitchd.pid", 0o644),
        ("/etc/init.d/openvswitch-switch", 0o755),
        ("/etc/default/openvswitch-switch", 0o644),
        ("/etc/logrotate.d/openvswitch-switch", 0o644),
    ],
)
def test_whose_a_file_is_and_who_may_read_it(shared: Host, path: str, mode: int) -> None:
    file = shared.file(path)
    assert file.exists
    assert (file.user, file.group, oct(file.mode)) == ("root", "root", oct(mode))


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_runs_once_and_is_watched(shared: Host, daemon: str) -> None:
    """Beside it runs its monitor, which is its parent, and which starts it again if it dies."""
    found = the_one(shared, comm=daemon)
    assert found.user == "root"
    assert shared.file(f"/run/openvswitch/{daemon}.pid").content_string.strip() == str(found.pid)
    monitor = the_one(shared, comm="monitor", pid=found.ppid)
    assert monitor.args.startswith(f"{daemon}: monitoring pid {found.pid} (healthy)")


def test_the_daemons_come_before_other_processes(shared: Host) -> None:
    """ovs-ctl(8), ``--ovs-vswitchd-priority``: -10 unless it is told otherwise."""
    usual = int(shared.check_output("nice"))
    for daemon in DAEMONS:
        found = the_one(shared, comm=daemon)
        assert found.nice == usual - 10


def test_the_service_runs_and_will_after_a_boot(shared: Host) -> None:
    service = shared.service("openvswitch-switch")
    assert service.is_running
    assert service.is_enabled


def test_the_sockets_that_are_listened_at(shared: Host) -> None:
    """A database and a control socket for each daemon, all of them for this machine only."""
    server, switch = (the_one(shared, comm=daemon) for daemon in DAEMONS)
    for name in (
        "db.sock",
        f"ovsdb-server.{server.pid}.ctl",
        f"ovs-vswitchd.{switch.pid}.ctl",
        "br0.mgmt",
    ):
        assert shared.socket(f"unix:///var/run/openvswitch/{name}").is_listening
    assert shared.check_output("ss --no-header --listening --tcp --udp --numeric") == ""


def test_the_bridge_is_an_interface_with_its_address(shared: Host, target: Target) -> None:
    if target.datapath == "dummy":
        pytest.skip("the dummy datapath has no interfaces")
    assert shared.interface("br0").exists
    assert shared.interface("br0").addresses == ["192.0.2.1"]


def test_logs_can_be_rotated(own: Host) -> None:
    """What Debian's logrotate configuration has done after the files were renamed: the daemons
    begin new ones, and no line is lost or goes on into the old one."""
    settings = own.file("/etc/logrotate.d/openvswitch-switch").content_string
    after = settings.partition("postrotate\n")[2].partition("endscript")[0]
    old = own.check_output(f"mv {LOG} {LOG}.1 && cat {LOG}.1")
    assert "ovs-vswitchd (Open vSwitch)" in old
    own.check_output(after)
    fresh = own.file(LOG)
    eventually(lambda: fresh.exists, within=10, what="a new log")
    assert oct(fresh.mode) == oct(0o640)
    own.check_output("ovs-vsctl add-port br0 p1 -- set Interface p1 type=internal")
    assert "added interface p1" in fresh.content_string
    assert own.file(f"{LOG}.1").content_string.startswith(old)
    assert "added interface p1" not in own.file(f"{LOG}.1").content_string
