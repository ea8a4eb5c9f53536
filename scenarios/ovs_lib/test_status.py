"""daemon_status, daemon_is_running, pid_exists, pid_comm_check: who is said to run.

Source: ovs-lib; ovs-ctl(8), "The status command".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab
from harness.ovs import Options

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

NOBODY = "4194305"
"""No process has this number: it is above the highest that there is (proc(5), ``pid_max``)."""


def answers(library: Library, *calls: str) -> list[int]:
    """The exit status of each call."""
    code = "\n".join(f"{call} > /dev/null 2>&1; echo $?" for call in calls)
    return [int(line) for line in library.run(code).stdout.split()]


def pidfile(library: Library, content: str) -> str:
    library.shell('mkdir -p "$1"', library.rundir)
    path = f"{library.rundir}/ovsdb-server.pid"
    library.node.write_file(path, content)
    return path


# -- daemon_status


def test_status_of_a_daemon_that_runs(library: Library) -> None:
    done = library.run("daemon_status ovsdb-server; echo $?; daemon_status ovs-vswitchd")
    pids = [library.switch.pid(name) for name in ("ovsdb-server", "ovs-vswitchd")]
    assert done.stdout.splitlines() == [
        f"ovsdb-server is running with pid {pids[0]}",
        "0",
        f"ovs-vswitchd is running with pid {pids[1]}",
    ]
    assert done.status == 0


def test_status_of_a_daemon_that_died(apart: Library) -> None:
    path = pidfile(apart, NOBODY)
    done = apart.run("daemon_status ovsdb-server")
    assert (done.status, done.stdout) == (1, f"Pidfile for ovsdb-server ({path}) is stale\n")


def test_status_where_there_is_no_pidfile(apart: Library) -> None:
    done = apart.run("daemon_status ovsdb-server")
    assert (done.status, done.stdout) == (1, "ovsdb-server is not running\n")


def test_status_where_the_pidfile_cannot_be_read(apart: Library) -> None:
    apart.shell('mkdir -p "$1"/ovsdb-server.pid', apart.rundir)
    done = apart.run("daemon_status ovsdb-server")
    path = f"{apart.rundir}/ovsdb-server.pid"
    said = f"Pidfile for ovsdb-server ({path}) exists but cannot be read\n"
    assert (done.status, done.stdout) == (1, said)


def test_status_does_not_look_who_has_the_pid_now(apart: Library) -> None:
    """``daemon_is_running`` does: see below."""
    pidfile(apart, "1")
    done = apart.run("daemon_status ovsdb-server")
    assert (done.status, done.stdout) == (0, "ovsdb-server is running with pid 1\n")


def test_status_of_a_daemon_that_hangs(apart: Library) -> None:
    apart.start(before="MONITOR=no")
    apart.shell('kill -STOP "$1"', str(apart.pid))
    done = apart.run("daemon_status ovsdb-server")
    assert (done.status, done.stdout) == (0, f"ovsdb-server is running with pid {apart.pid}\n")


def test_ovs_ctl_status_fails_when_one_of_them_does_not_run(lab: Lab, own_library: Library) -> None:
    switch, ctl = lab.switch("s1"), lab.switch("s1").layout.ovs_ctl
    both = switch.node.run([ctl, "status"])
    assert both.stdout.count(" is running with pid ") == 2
    switch.stop(Options(ovsdb_server=False))
    one = switch.node.run([ctl, "status"], check=False)
    assert one.status == 1
    assert one.stdout.splitlines() == [
        f"ovsdb-server is running with pid {switch.pid('ovsdb-server')}",
        "ovs-vswitchd is not running",
    ]
    assert answers(own_library, "daemon_is_running ovsdb-server") == [0]


# -- daemon_is_running


def test_a_daemon_runs_when_its_pid_has_its_name(apart: Library) -> None:
    apart.start()
    path = f"{apart.rundir}/ovsdb-server.pid"
    apart.shell('cp "$1" "$2"/ovs-vswitchd.pid', path, apart.rundir)
    assert answers(apart, "daemon_is_running ovsdb-server", "daemon_is_running ovs-vswitchd") == [
        0,
        1,
    ]


@pytest.mark.parametrize("content", [NOBODY, "1", ""], ids=["stale", "another", "empty"])
def test_a_daemon_does_not_run_when_its_pidfile_means_nobody(apart: Library, content: str) -> None:
    pidfile(apart, content)
    assert answers(apart, "daemon_is_running ovsdb-server", "pid_exists 1") == [1, 0]


def test_a_daemon_without_pidfile_does_not_run(apart: Library) -> None:
    assert answers(apart, "daemon_is_running ovsdb-server", "pid_exists 1") == [1, 0]


# -- processes


@pytest.mark.parametrize(
    ("pid", "status"), [(NOBODY, 1), ("", 1), ("nonsense", 1), ("1", 0), ("$$", 0)]
)
def test_pid_exists(library: Library, pid: str, status: int) -> None:
    assert answers(library, f'pid_exists "{pid}"') == [status]


def test_pid_comm_check(library: Library) -> None:
    pid = library.switch.pid("ovs-vswitchd")
    calls = [f"pid_comm_check {name} {pid}" for name in ("ovs-vswitchd", "ovsdb-server", "ovs")]
    assert answers(library, *calls, f"pid_comm_check sh {NOBODY}") == [0, 1, 1, 1]
