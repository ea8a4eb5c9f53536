"""Where an installation of Open vSwitch keeps its programs, sockets, logs and database."""

from __future__ import annotations

import re

import msgspec

from harness.nodes.base import Node
from harness.ovs.errors import OvsError

_DATA_DIRECTORIES = ("/usr/local/share/openvswitch", "/usr/share/openvswitch")
"""A developer's own installation comes first, as it does on PATH."""

_SETTING = re.compile(
    r"""^\s*(?P<name>logdir|rundir|dbdir|bindir|sbindir)=
        (?:\$\{\w+-)?'(?P<value>/[^']*)'""",
    re.MULTILINE | re.VERBOSE,
)


class Layout(msgspec.Struct, frozen=True):
    """Directories of one installation, as its own ``ovs-lib`` has them. Absolute paths."""

    datadir: str
    bindir: str
    sbindir: str
    rundir: str
    logdir: str
    dbdir: str
    leaves_hostname: bool
    """True: its ``ovs-ctl`` knows ``--no-record-hostname``; those of 2.15 and before do not."""

    @property
    def ovs_ctl(self) -> str:
        return f"{self.datadir}/scripts/ovs-ctl"

    @property
    def db_socket(self) -> str:
        """The socket of ovsdb-server (ovs-ctl(8), ``--db-sock``)."""
        return f"{self.rundir}/db.sock"

    def program(self, name: str) -> str:
        """How ``ovs-vsctl`` and its like are called: by name where that finds the right one."""
        return name if self.bindir == "/usr/bin" else f"{self.bindir}/{name}"

    def pidfile(self, daemon: str) -> str:
        return f"{self.rundir}/{daemon}.pid"

    def log(self, daemon: str) -> str:
        return f"{self.logdir}/{daemon}.log"

    def control_socket(self, daemon: str, pid: int) -> str:
        """The unixctl socket of a daemon (ovs-appctl(8), ``--target``)."""
        return f"{self.rundir}/{daemon}.{pid}.ctl"


def parse(datadir: str, ovs_lib: str, ovs_ctl: str) -> Layout:
    """Read the directories that were written into an ``ovs-lib`` when it was built, and what the
    ``ovs-ctl`` beside it can do.

    Raise :class:`OvsError` when one of them is missing.
    """
    found = {match["name"]: match["value"] for match in _SETTING.finditer(ovs_lib)}
    missing = {"logdir", "rundir", "dbdir", "bindir", "sbindir"} - found.keys()
    if missing:
        names = ", ".join(sorted(missing))
        raise OvsError(f"{datadir}/scripts/ovs-lib does not say where its {names} is")
    return Layout(datadir=datadir, leaves_hostname="no-record-hostname" in ovs_ctl, **found)


def find(node: Node) -> Layout:
    """Find the installation in a node. Raise :class:`OvsError` when there is none."""
    names = ("ovs-lib", "ovs-ctl")
    paths = [f"{datadir}/scripts/{name}" for datadir in _DATA_DIRECTORIES for name in names]
    contents = iter(node.read_files(paths))
    for datadir, library, program in zip(_DATA_DIRECTORIES, contents, contents, strict=True):
        if library is not None and program is not None:
            return parse(datadir, library.decode("latin-1"), program.decode("latin-1"))
    raise OvsError(
        f"{node.name}: there is no Open vSwitch in this node's image: there is no ovs-ctl in "
        f"{' or '.join(f'{datadir}/scripts' for datadir in _DATA_DIRECTORIES)}"
    )
