"""The shell library of Open vSwitch, used as its scripts use it: sourced in the node of a switch.

What a function promises is what the library at hand says of it; where versions differ, a scenario
asks the library which it is (:attr:`Library.text`), not for a version number.
"""

from __future__ import annotations

import itertools
import re

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

    ``top`` is an empty directory of its own, for files. ``rundir``, ``logdir`` and ``dbdir`` are
    the switch's, or with ``apart`` new ones below ``top``, for daemons beside the switch's.
    """

    def __init__(self, switch: Switch, *, apart: bool = False) -> None:
        self.switch = switch
        self.node = switch.node
        self.scripts = f"{switch.layout.datadir}/scripts"
        self.top = f"/tmp/scratch{next(_numbers)}"
        self.rundir = f"{self.top}/run" if apart else switch.layout.rundir
        self.logdir = f"{self.top}/log" if apart else switch.layout.logdir
        self.dbdir = f"{self.top}/db" if apart else switch.layout.dbdir
        places = {"OVS_RUNDIR": self.rundir, "OVS_LOGDIR": self.logdir, "OVS_DBDIR": self.dbdir}
        self.env = places if apart else {}
        """Variables that are set wherever code is run."""
        self.node.run(["mkdir", "-p", f"{self.top}/bin", f"{self.top}/db"])

    def apart(self) -> Library:
        """The same with directories of its own."""
        return Library(self.switch, apart=True)

    @property
    def text(self) -> str:
        """The library itself."""
        return self.node.read_file(f"{self.scripts}/ovs-lib").decode()

    def soon(self, code: str, *args: str) -> Pending:
        """Run shell code after sourcing the library, ``args`` as ``$1`` and so on, with
        :attr:`env` in the environment. Not waited for."""
        argv = ["sh", "-c", SOURCE + code, self.scripts, *args]
        return self.node.run_soon(argv, timeout=100, env=self.env)

    def run(self, code: str, *args: str) -> Completed:
        """Like :meth:`soon`, waited for; whatever its exit status."""
        done: Completed = self.soon(code, *args).result()
        assert done.status != 99, done
        return done

    def shell(self, code: str, *args: str) -> str:
        """Run shell code without the library; what it prints. It must not fail."""
        env = self.env or None
        return self.node.run(["sh", "-c", code, "sh", *args], env=env).stdout

    def file(self, path: str) -> str | None:
        """The content of a file; None while there is none."""
        content = self.node.read_files([path])[0]
        return None if content is None else content.decode()

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

    @property
    def niceness(self) -> int:
        """By how much the daemon is nicer than what is started without more ado (nice(1))."""
        nice = int(self.proc("stat").rpartition(")")[2].split()[16])
        return nice - int(self.shell("nice"))

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
            within=60,
            what=f"process {pid} ends",
        )

    def started_again(self, before: int) -> int:
        """Wait until the monitor has started another daemon than the one of this pid, and that one
        is up; its pid."""
        version = 'ovs-appctl -T 5 -t "$1/ovsdb-server.$pid.ctl" version > /dev/null 2>&1'
        ask = f'pid=$(cat "$1"/ovsdb-server.pid 2> /dev/null) && {version} && echo "$pid" || true'
        said = eventually(
            lambda: self.shell(ask, self.rundir).strip(),
            lambda pid: pid not in ("", str(before)),
            within=60,
            what="the monitor starts another daemon",
        )
        return int(said)


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("ovs-lib")
    topo.switch("s1").bridge("br0")
    return topo


@pytest.fixture(scope="module")
def shared(module_lab: Lab) -> Switch:
    """A switch that the scenarios of a module share, and leave running."""
    return module_lab.switch("s1")


@pytest.fixture(scope="session")
def library_of() -> type[Library]:
    """The library of any switch."""
    return Library


@pytest.fixture
def library(shared: Switch) -> Library:
    """The library of the shared switch."""
    return Library(shared)


@pytest.fixture
def apart(shared: Switch) -> Library:
    """The same, with directories of its own."""
    return Library(shared, apart=True)


@pytest.fixture
def own_library(lab: Lab) -> Library:
    """The library of a switch whose daemons a scenario may end."""
    return Library(lab.switch("s1"))
