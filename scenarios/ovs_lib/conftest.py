"""The shell library of Open vSwitch, used as its scripts use it: sourced in the node of a switch.

What a function promises is what the library at hand says of it; where versions differ, a scenario
asks the library which it is (:attr:`Library.text`), not for a version number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import pytest

from harness import Lab, Topology
from harness.nodes.base import Completed, Pending
from harness.ovs.switch import Switch
from harness.polling import eventually

NAME = "ovsdb-server"
_numbers = itertools.count(1)
SOURCE = 'd=$0; . "$d/ovs-lib" || exit 99; '


class Library:
    """The ``ovs-lib`` of a switch, with the directories that it is to use.

    ``rundir``, ``logdir`` and ``dbdir`` are the switch's own, or those of :meth:`apart`.
    """

    def __init__(self, switch: Switch, top: str = "", env: Mapping[str, str] | None = None) -> None:
        self.switch = switch
        self.node = switch.node
        self.scripts = f"{switch.layout.datadir}/scripts"
        self.top = top
        self.rundir = f"{top}/run" if top else switch.layout.rundir
        self.logdir = f"{top}/log" if top else switch.layout.logdir
        self.dbdir = f"{top}/db" if top else switch.layout.dbdir
        self.env = dict(env or {})

    def apart(self) -> Library:
        """The same with new directories of its own, for daemons beside the switch's."""
        top = f"/tmp/apart{next(_numbers)}"
        self.node.run(["mkdir", "-p", f"{top}/bin", f"{top}/db"])
        places = {"OVS_RUNDIR": "run", "OVS_LOGDIR": "log", "OVS_DBDIR": "db"}
        return Library(self.switch, top, {name: f"{top}/{at}" for name, at in places.items()})

    @property
    def text(self) -> str:
        """The library itself."""
        return self.node.read_file(f"{self.scripts}/ovs-lib").decode()

    def soon(self, code: str, *args: str, timeout: float = 60, **env: str) -> Pending:
        """Run shell code after sourcing the library, ``args`` as ``$1`` and so on, with variables
        ``env`` in the environment. Not waited for."""
        argv = ["sh", "-c", SOURCE + code, self.scripts, *args]
        return self.node.run_soon(argv, timeout=timeout, env=self.env | env)

    def run(self, code: str, *args: str, timeout: float = 60, **env: str) -> Completed:
        """Like :meth:`soon`, waited for; whatever its exit status."""
        done: Completed = self.soon(code, *args, timeout=timeout, **env).result()
        assert done.status != 99, done
        return done

    def shell(self, code: str, *args: str) -> str:
        """Run shell code without the library; what it prints. It must not fail."""
        env = self.env or None
        return self.node.run(["sh", "-c", code, "sh", *args], env=env).stdout

    def program(self, name: str, code: str) -> None:
        """Have a program of this name, which does ``code``, found before any other."""
        self.node.write_file(f"{self.top}/bin/{name}", f"#!/bin/sh\n{code}\n", mode=0o755)
        if "PATH" not in self.env:
            self.env["PATH"] = f"{self.top}/bin:{self.shell('echo $PATH').strip()}"

    # -- daemons of its own

    def database(self, name: str = "conf.db") -> str:
        """Make a database file; its path."""
        path = f"{self.dbdir}/{name}"
        self.shell(
            'ovsdb-tool create "$1" "$2"', path, f"{self.switch.layout.datadir}/vswitch.ovsschema"
        )
        return path

    def start(
        self,
        *options: str,
        database: str = "",
        before: str = "",
        priority: str = "",
        wrapper: str = "",
    ) -> Completed:
        """Start an ovsdb-server with ``start_daemon``: on a database of its own, unless another is
        named. ``before`` is shell code that goes first."""
        umask = ' ""' if "umask=$1" in self.text else ""
        call = f'start_daemon "{priority}" "{wrapper}"{umask} {NAME} "$@"'
        return self.run(f"{before}\n{call}", database or self.database(), *options)

    @property
    def pid(self) -> int:
        """What the pidfile says."""
        return int(self.node.read_file(f"{self.rundir}/{NAME}.pid"))

    def proc(self, name: str, pid: int | None = None) -> str:
        """A file of the daemon's in /proc, its NULs as spaces."""
        return self.node.read_file(f"/proc/{pid or self.pid}/{name}").decode().replace("\0", " ")

    def processes(self, *named: str) -> list[str]:
        """The processes whose command line has one of these words: their arguments. What waits to
        be reaped is none."""
        lines = self.shell("ps -eo stat=,args=").splitlines()
        return [
            line.split(None, 1)[1]
            for line in lines
            if not line.startswith("Z") and any(word in line for word in named)
        ]

    def ends(self, pid: int) -> None:
        """Wait until a process has ended."""
        eventually(
            lambda: self.node.read_files([f"/proc/{pid}/stat"])[0],
            lambda stat: stat is None or re.search(rb"\) Z ", stat),
            within=10,
            what=f"process {pid} ends",
        )

    def started_again(self, before: int) -> int:
        """Wait until the monitor has started another daemon than the one of this pid, and that one
        is up; its pid."""
        ask = 'pid=$(cat "$1"/ovsdb-server.pid); ovs-appctl -T 5 -t "$1/ovsdb-server.$pid.ctl" version'
        shell = ["sh", "-c", f'{ask} > /dev/null 2>&1 && echo "$pid"', "sh", self.rundir]
        said = eventually(
            lambda: self.node.run(shell, check=False).stdout.strip(),
            lambda pid: pid not in ("", str(before)),
            within=10,
            what="the monitor starts another daemon",
        )
        return int(said)


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("ovs-lib")
    topo.switch("s1").bridge("br0")
    return topo


@pytest.fixture(scope="module")
def library(module_lab: Lab) -> Library:
    """The library of a switch that the scenarios of a module share."""
    return Library(module_lab.switch("s1"))


@pytest.fixture
def apart(library: Library) -> Library:
    """The same, with directories of its own."""
    return library.apart()


@pytest.fixture
def own_library(lab: Lab) -> Library:
    """The library of a switch whose daemons a scenario may end."""
    return Library(lab.switch("s1"))
