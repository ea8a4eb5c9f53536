"""stop_daemon: first it asks, then SIGTERM, then SIGKILL, and it says which it took.

Source: ovs-lib, ``stop_daemon``. The daemons are real ones that were made hard of hearing; those
that have to be waited for are waited for side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.nodes.base import Completed
from harness.polling import eventually

if TYPE_CHECKING:
    from harness.ovs.switch import Switch
    from scenarios.ovs_lib.conftest import Library

STOP = "stop_daemon ovsdb-server"
PAUSES = """\
.1 .25 .65 1
.1 .25 .65 1 1 1 1
1 1 1 2 10 15 30
"""
"""Seconds that it waits after EXIT, TERM and KILL."""


class Case(NamedTuple):
    """A daemon that was told to stop, and what came of it."""

    library: Library
    pid: int
    done: Completed

    @property
    def said(self) -> list[str]:
        """What the library printed, the daemon's pid as PID."""
        return [line.replace(str(self.pid), "PID") for line in self.done.stdout.splitlines()]

    @property
    def alive(self) -> list[str]:
        return self.library.processes(f"--pidfile={self.library.rundir}/")


# -- daemons of all kinds


def obeys(library: Library) -> None:
    library.start()


def obeys_without_monitor(library: Library) -> None:
    library.start(before="MONITOR=no")


def ignores_exit(library: Library) -> None:
    """It listens for commands where nobody asks."""
    library.start(f"--unixctl={library.rundir}/elsewhere")


def ignores_term(library: Library) -> None:
    """It was started with the signal ignored, and does not hear commands either."""
    library.start(f"--unixctl={library.rundir}/elsewhere", before="MONITOR=no; trap '' TERM")


def hangs(library: Library) -> None:
    library.start(before="MONITOR=no")
    library.shell('kill -STOP "$1"', str(library.pid))


def says_its_version_is(version: str) -> Callable[[Library], None]:
    def prepare(library: Library) -> None:
        library.start(before="MONITOR=no")
        said = f'case "$*" in *version) echo "ovsdb-server (Open vSwitch) {version}" ;; esac'
        library.program("ovs-appctl", said)

    return prepare


def crashes_as_it_exits(library: Library) -> None:
    """Its monitor starts another."""
    library.start()
    pid, pidfile = library.pid, f"{library.rundir}/ovsdb-server.pid"
    again = f'until pid=$(cat {pidfile}) && test "$pid" && test "$pid" != {pid}; do :; done'
    asked_to_exit(library, f"kill -SEGV {pid}\n{again} 2> /dev/null")


def dies_meanwhile(library: Library) -> None:
    """Nobody starts another, and its pidfile stays."""
    library.start(before="MONITOR=no")
    asked_to_exit(library, f"kill -KILL {library.pid}")


def asked_to_exit(library: Library, code: str) -> None:
    """Have something else happen when the daemon is asked to exit: that is done by the program in
    ``OVS_BINDIR``, while its version is asked for by the one that is found first."""
    library.node.write_file(f"{library.top}/bin/ovs-appctl", f"#!/bin/sh\n{code}\n", mode=0o755)
    library.env["OVS_BINDIR"] = f"{library.top}/bin"


CASES = {
    "obeys": obeys,
    "obeys, no monitor": obeys_without_monitor,
    "ignores EXIT": ignores_exit,
    "ignores TERM": ignores_term,
    "hangs": hangs,
    "is 2.5.90": says_its_version_is("2.5.90"),
    "is 2.5.9": says_its_version_is("2.5.9"),
    "crashes as it exits": crashes_as_it_exits,
    "dies meanwhile": dies_meanwhile,
}


@pytest.fixture(scope="module")
def cases(shared: Switch, library_of: type[Library]) -> dict[str, Case]:
    """All of them stopped at the same time."""
    libraries = {name: library_of(shared, apart=True) for name in CASES}
    pids = {}
    for name, prepare in CASES.items():
        prepare(libraries[name])
        pids[name] = libraries[name].pid
    stopping = {name: one.soon(STOP) for name, one in libraries.items()}
    return {name: Case(libraries[name], pids[name], stopping[name].result()) for name in CASES}


ASKED, TOLD, KILLED = (
    "Exiting ovsdb-server (PID).",
    "Killing ovsdb-server (PID).",
    "Killing ovsdb-server (PID) with SIGKILL.",
)
NOT_HEARD = "Exiting ovsdb-server (PID) ... failed!"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("obeys", [ASKED]),
        ("obeys, no monitor", [ASKED]),
        ("ignores EXIT", [NOT_HEARD, TOLD]),
        ("ignores TERM", [NOT_HEARD, TOLD, KILLED]),
        # A version that can't be asked for counts as new.
        ("hangs", [NOT_HEARD, TOLD, KILLED]),
        ("is 2.5.90", [ASKED]),
        ("is 2.5.9", [TOLD]),
        ("dies meanwhile", [ASKED]),
    ],
)
def test_no_more_force_than_it_takes(cases: dict[str, Case], name: str, said: list[str]) -> None:
    case = cases[name]
    assert case.said == said
    assert (case.done.status, case.alive) == (0, [])


def test_daemon_that_its_monitor_started_again_is_stopped_too(cases: dict[str, Case]) -> None:
    case = cases["crashes as it exits"]
    asked, told = case.said
    assert asked == ASKED
    # The other one is told, not asked again.
    other = re.fullmatch(r"Killing ovsdb-server \((\d+)\)\.", told)
    assert other is not None
    assert int(other[1]) != case.pid
    assert (case.done.status, case.alive) == (0, [])


def test_daemon_that_its_monitor_is_about_to_start_again_is_stopped_too(apart: Library) -> None:
    """After a second crash the monitor waits for ten seconds before it starts another."""
    apart.start()
    first, monitor = apart.pid, apart.proc("stat").rpartition(")")[2].split()[1]
    apart.shell('kill -SEGV "$1"', str(first))
    second = apart.started_again(first)
    apart.shell('kill -SEGV "$1"', str(second))
    apart.ends(second)
    assert apart.run(STOP).status == 0
    assert apart.node.read_files([f"/proc/{monitor}/comm"]) == [None]


def test_pauses_between_steps_until_it_gives_up(apart: Library) -> None:
    """Nothing can be done about a process that has ended and whose parent does not care."""
    apart.shell('mkdir "$1"', apart.rundir)
    careless = 'sleep 1000 & echo "$!" > "$1"; exec sleep 1000'
    start = "sh -c '" + careless + '\' sh "$1" > /dev/null 2>&1 & echo $!'
    parent = apart.shell(start, f"{apart.rundir}/ovsdb-server.pid").strip()
    eventually(
        lambda: apart.proc("comm", int(parent)),
        lambda name: name == "sleep\n",
        within=60,
        what="exec",
    )
    pid = apart.pid
    apart.shell('kill "$1"', str(pid))
    apart.ends(pid)
    noting = 'sleep () { echo "$1" >> "$OVS_RUNDIR/pauses"; }\n'
    done = apart.run(noting + STOP)
    assert done.status == 1
    assert [line.replace(str(pid), "PID") for line in done.stdout.splitlines()] == [
        NOT_HEARD,
        TOLD,
        KILLED,
        "Killing ovsdb-server (PID) failed ... failed!",
    ]
    pauses = apart.node.read_file(f"{apart.rundir}/pauses").decode()
    assert pauses.split() == PAUSES.split()
    apart.shell('kill "$1"', parent)


def test_daemon_that_has_no_pidfile(apart: Library) -> None:
    done = apart.run(STOP)
    assert (done.status, done.stdout) == (0, "ovsdb-server is not running.\n")


def test_daemon_that_died_before(apart: Library) -> None:
    """Its pidfile stays, its socket does not."""
    apart.start(before="MONITOR=no")
    pid = apart.pid
    apart.shell('kill -KILL "$1"', str(pid))
    apart.ends(pid)
    done = apart.run(STOP)
    assert (done.status, done.stdout) == (0, "")
    assert apart.shell('ls "$1"', apart.rundir) == "ovsdb-server.pid\n"


def test_daemon_whose_pidfile_is_empty(apart: Library) -> None:
    apart.shell('mkdir "$1" && : > "$1"/ovsdb-server.pid', apart.rundir)
    done = apart.run(f"{STOP} && stop_daemon ovs-vswitchd")
    assert (done.status, done.stdout) == (0, "ovs-vswitchd is not running.\n")
