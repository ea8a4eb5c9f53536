"""ovs_ctl, ovs_ctl_log: what goes into ovs-ctl.log when another script runs ovs-ctl.

Source: ovs-lib, the comments in ``ovs_ctl``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library


def log(library: Library) -> list[str]:
    return (library.file(f"{library.logdir}/ovs-ctl.log") or "").splitlines()


def test_a_line_is_added_as_it_is(apart: Library) -> None:
    apart.shell('mkdir "$1"', apart.logdir)
    apart.run("ovs_ctl_log one two; ovs_ctl_log '  three'")
    assert log(apart) == ["one two", "  three"]


def test_a_command_is_dated_and_so_is_what_it_prints(apart: Library) -> None:
    apart.shell('mkdir "$1"', apart.logdir)
    done = apart.run("ovs_ctl version --no-monitor; ovs_ctl bogus")
    called, *printed, bogus, complaint = log(apart)
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC \d{4}"
    assert re.fullmatch(rf"{date}:version --no-monitor", called)
    assert any(line.startswith("ovsdb-server (Open vSwitch) ") for line in printed)
    assert re.fullmatch(rf"{date}:bogus", bogus)
    # What it says to standard error too.
    assert complaint.endswith('ovs-ctl: unknown command "bogus" (use --help for help)')
    assert done.stdout.splitlines() == [*printed, complaint]


def test_status_is_written_where_there_is_a_log(apart: Library) -> None:
    apart.shell('mkdir "$1"', apart.logdir)
    code = "ovs_ctl status; echo $?"
    said = ["ovsdb-server is not running", "ovs-vswitchd is not running"]
    assert apart.run(code).stdout.splitlines() == [*said, "1"]
    assert log(apart) == []
    apart.run("ovs_ctl_log first")
    assert apart.run(code).stdout.splitlines() == [*said, "1"]
    # Not when, and not what was called.
    assert log(apart) == ["first", *said]


def test_status_has_the_exit_status_of_ovs_ctl(library: Library) -> None:
    done = library.run("ovs_ctl status; echo $?")
    assert [line.partition(" with pid")[0] for line in done.stdout.splitlines()] == [
        "ovsdb-server is running",
        "ovs-vswitchd is running",
        "0",
    ]


def test_a_daemon_under_strace_is_not_logged(apart: Library) -> None:
    """strace keeps the pipe to the log open for as long as the daemon runs."""
    apart.shell('mkdir "$1"', apart.logdir)
    done = apart.run("ovs_ctl --ovs-vswitchd-wrapper=strace version; echo $?")
    assert "ovsdb-server (Open vSwitch) " in done.stdout
    assert log(apart) == []


def test_other_commands_lose_their_exit_status(apart: Library) -> None:
    """It is that of the pipe into the log."""
    apart.shell('mkdir "$1"', apart.logdir)
    done = apart.run("ovs_ctl bogus; echo $?; ovs_ctl --ovs-vswitchd-wrapper=strace bogus; echo $?")
    assert done.stdout.splitlines()[-2:] == ["0", "1"]
