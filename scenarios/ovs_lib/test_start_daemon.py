"""start_daemon: how a daemon is started, where its files are, and what it is run under.

Source: ovs-lib, ``start_daemon``; ovs-ctl(8), "Less important options", "Debugging options".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from harness import Lab
from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library


def test_detaches_with_log_and_pidfile(apart: Library) -> None:
    done = apart.start("--remote=punix:/tmp/x.sock")
    assert (done.status, done.stdout) == (0, "Starting ovsdb-server.\n")
    assert apart.proc("comm") == "ovsdb-server\n"
    assert apart.proc("cmdline").split()[2:] == [
        "--remote=punix:/tmp/x.sock",
        "--no-chdir",
        f"--log-file={apart.logdir}/ovsdb-server.log",
        f"--pidfile={apart.rundir}/ovsdb-server.pid",
        "--detach",
        "--monitor",
    ]
    log = apart.node.read_file(f"{apart.logdir}/ovsdb-server.log").decode()
    assert f"opened log file {apart.logdir}/ovsdb-server.log" in log


def test_directories_are_made(apart: Library) -> None:
    apart.start()
    modes = apart.shell('stat -c "%a %U" "$1" "$2"', apart.rundir, apart.logdir)
    assert modes == "755 root\n750 root\n"


def test_directories_that_are_there_are_left_alone(apart: Library) -> None:
    apart.shell('install -d -m 700 "$1" "$2"', apart.rundir, apart.logdir)
    apart.start()
    assert apart.proc("comm") == "ovsdb-server\n"
    assert apart.shell('stat -c %a "$1" "$2"', apart.rundir, apart.logdir) == "700\n700\n"


@pytest.mark.parametrize(("monitor", "processes"), [("", 2), ("yes", 2), ("no", 1)])
def test_monitor_unless_told_otherwise(apart: Library, monitor: str, processes: int) -> None:
    apart.start(before=f"MONITOR={monitor}")
    assert ("--monitor" in apart.proc("cmdline").split()) == (processes == 2)
    first = apart.pid
    apart.shell('kill -SEGV "$1"', str(first))
    apart.ends(first)
    if processes == 2:
        assert apart.proc("comm", apart.started_again(first)) == "ovsdb-server\n"
    else:
        assert apart.processes(apart.rundir) == []


@pytest.mark.parametrize(("priority", "nice"), [("5", 5), ("-3", -3), ("", 0)])
def test_priority(apart: Library, priority: str, nice: int) -> None:
    apart.start(priority=priority)
    assert apart.niceness == nice


def test_directory_to_be_in(apart: Library) -> None:
    apart.start()
    assert apart.shell('readlink "/proc/$1/cwd"', str(apart.pid)) == "/\n"


def test_directory_to_be_in_is_made(apart: Library) -> None:
    apart.start(before=f"DAEMON_CWD={apart.top}/cores")
    assert apart.shell('readlink "/proc/$1/cwd"', str(apart.pid)) == f"{apart.top}/cores\n"


def test_daemon_that_does_not_start(apart: Library) -> None:
    done = apart.start("--bogus")
    assert (done.status, done.stdout) == (1, "Starting ovsdb-server ... failed!\n")
    assert "unrecognized option '--bogus'" in done.stderr
    assert apart.processes(apart.rundir) == []


def test_wrapper_glibc_has_the_allocator_check_itself(apart: Library) -> None:
    assert apart.start(wrapper="glibc").status == 0
    variables = apart.proc("environ").split()
    assert {"MALLOC_CHECK_=2", "MALLOC_PERTURB_=165"} <= set(variables)


def test_no_wrapper_no_allocator_check(apart: Library) -> None:
    apart.start()
    assert "MALLOC" not in apart.proc("environ")


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("valgrind", "valgrind not installed, running ovsdb-server without it ... failed!"),
        ("strace", "strace not installed, running ovsdb-server without it ... failed!"),
        ("gdb", "unknown wrapper gdb, running ovsdb-server without it ... failed!"),
    ],
)
def test_wrapper_that_is_not_there_is_done_without(apart: Library, wrapper: str, said: str) -> None:
    # Whatever the image has, here it is out of reach.
    done = apart.start(wrapper=wrapper, before=f"{wrapper} () {{ return 127; }}")
    assert done.stdout.splitlines() == [said, "Starting ovsdb-server."]
    assert (done.status, apart.proc("comm")) == (0, "ovsdb-server\n")


def test_wrapper_valgrind(apart: Library) -> None:
    run = 'test "$1" = --version && exit\nwhile case $1 in -*) ;; *) false; esac; do shift; done\n'
    program(apart, "valgrind", run + 'exec "$@"')
    assert apart.start(wrapper="valgrind", priority="4").status == 0
    asked, started = ran(apart)
    assert asked == "valgrind --version"
    log = f"{apart.logdir}/ovsdb-server.valgrind.log.%p"
    options = f"-q --leak-check=full --time-stamp=yes --log-file={log}"
    assert started.startswith(f"valgrind {options} ovsdb-server {apart.dbdir}/conf.db ")
    assert apart.niceness == 4


def test_wrapper_strace_in_the_background(apart: Library) -> None:
    run = 'test "$1" = -V -o "$1" = -DV && exit\nshift 8\nexec "$@"'
    program(apart, "strace", run)
    assert apart.start(wrapper="strace").status == 0
    started = ran(apart)[-1]
    log = f"{apart.logdir}/ovsdb-server.strace.log"
    assert started.startswith(f"strace -tt -T -s 256 -ff -D -o {log} ovsdb-server ")


def test_wrapper_strace_without_background_is_attached(apart: Library) -> None:
    program(apart, "strace", 'test "$1" != -DV')
    assert apart.start(wrapper="strace").status == 0
    log = f"{apart.logdir}/ovsdb-server.strace.log"
    attached = f"strace -tt -T -s 256 -ff -o {log} -p {apart.pid}"
    eventually(lambda: ran(apart), lambda lines: attached in lines, within=60, what="strace")


def program(apart: Library, name: str, code: str) -> None:
    """Have a program found first that notes how it was called, and then does ``code``."""
    apart.program(name, f'echo "$0" "$@" >> {apart.top}/ran\n{code}')


def ran(apart: Library) -> list[str]:
    """How the programs of :func:`program` were called, in order."""
    lines = apart.node.read_file(f"{apart.top}/ran").decode()
    return lines.replace(f"{apart.top}/bin/", "").splitlines()


def test_umask_is_the_daemons_alone(apart: Library) -> None:
    if "umask=$1" not in apart.text:
        pytest.skip("this start_daemon takes no umask: it came after Open vSwitch 3.1")
    remote = f"--remote=punix:{apart.top}/sock"
    code = f'umask 022; start_daemon "" "" 077 ovsdb-server "$@" {remote} || exit; umask'
    done = apart.run(code, apart.database())
    assert done.stdout == "Starting ovsdb-server.\n0022\n"
    assert apart.shell('stat -c %a "$1"/sock', apart.top) == "700\n"


def test_oom_score(apart: Library) -> None:
    if "OOM_SCORE" not in apart.text:
        pytest.skip("this start_daemon sets no OOM score: it came after Open vSwitch 3.5")
    apart.start(before="OOM_SCORE=321")
    assert apart.proc("oom_score_adj") == "321\n"


def test_database_socket_elsewhere(lab: Lab) -> None:
    switch = lab.switch("s1")
    switch.stop()
    try:
        switch.start(replace(switch.options, db_sock="/tmp/elsewhere.sock"))
    finally:
        switch.adopt()
    assert switch.db("Open_vSwitch", ["cur_cfg"])
