"""One Open vSwitch instance in a node: what a scenario, a fault and the lab do with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from harness.nodes.base import Completed, Node, NodeError
from harness.ovs import (
    apply,
    configure,
    daemons,
    datapaths,
    identity,
    kmod,
    layout,
    reading,
    settling,
)
from harness.ovs.daemons import Daemon
from harness.ovs.datapaths import Counters, Datapaths
from harness.ovs.errors import ConfigurationError, DaemonError, OvsError, PortError, PortFailure
from harness.ovs.options import OVS_VSWITCHD, OVSDB_SERVER, Options
from harness.ovs.ovsdb import Database, Scalar
from harness.ovs.state import State
from harness.ovs.tasks import Steps, Task
from harness.topology import model

if TYPE_CHECKING:
    from testinfra.host import Host

_TIMEOUT = 30
"""Seconds that a command by hand may take."""


Mark = Callable[[str], AbstractContextManager[object]]
"""Makes a context in which what it names is done to the switch."""


class Learned(msgspec.Struct, frozen=True):
    """An entry of a bridge's MAC table (ovs-appctl(8), ``fdb/show``). ``port`` is an OpenFlow port
    number or ``LOCAL``; ``age`` is in seconds, None for a static entry."""

    port: str
    vlan: int
    mac: str
    age: int | None


class Switch:
    """A switch: ``spec`` says what it is to be, ``node`` is what it lives in. ``mark`` is told when
    its life changes (``start``, ``stop``, ``restart``).

    Methods that end in ``_soon`` begin the work and return a :class:`~harness.ovs.tasks.Task`;
    :func:`~harness.ovs.tasks.gather` takes many of them to their end at the same time.
    """

    def __init__(
        self, node: Node, spec: model.Switch, datapath: str, mark: Mark = nullcontext
    ) -> None:
        self.node = node
        self.spec = spec
        self.datapath = datapath
        self.name = spec.name
        self._mark = mark
        self._layout: layout.Layout | None = None
        self._options: Options | None = None
        self._daemons: dict[str, Daemon] = {}
        self._database: Database | None = None
        self._external_ids: dict[str, str] = {}
        """What the database is still to say of whose it is."""

    @property
    def layout(self) -> layout.Layout:
        """Where the installation in the node keeps its files. Raise :class:`OvsError` when there
        is none."""
        if self._layout is None:
            self._layout = layout.find(self.node)
        return self._layout

    @property
    def host(self) -> Host:
        """The node as a host of testinfra: packages, files, services, processes. A new one each
        time, for it remembers what it found out about the system."""
        from harness.nodes.infra import host_of

        return host_of(self.node)

    # -- life

    @property
    def options(self) -> Options:
        """How the daemons are run: as :meth:`start` was told last, at first as usual."""
        if self._options is None:
            self._options = daemons.usual(self.layout, self.name, self.datapath)
        return self._options

    def start(self, options: Options | None = None) -> None:
        """Start the daemons with ``ovs-ctl start``. ``options`` say which, and how, from now on.

        Raise :class:`DaemonError` when one does not run afterwards, or not as they say.
        """
        self.start_soon(options).result()

    def start_soon(self, options: Options | None = None) -> Task[None]:
        """Like :meth:`start`, not waiting."""
        return Task(self._start(options))

    def start_again(self, daemon: str) -> None:
        """Start one daemon that has ended, as :attr:`options` say, with ``ovs-ctl start``; the
        other is left as it is. Raises as :meth:`start` does."""
        chosen = {"ovsdb_server": daemon == OVSDB_SERVER, "ovs_vswitchd": daemon == OVS_VSWITCHD}
        Task(self._start_as(msgspec.structs.replace(self.options, **chosen))).result()

    def _start(self, options: Options | None) -> Steps[None]:
        self._options = options or self.options
        yield from self._start_as(self.options)

    def _start_as(self, options: Options) -> Steps[None]:
        with self._mark("start"):
            others = self._others(options)
            now = yield from daemons.start(self.node, self.layout, options)
            self._expect(others | now)

    def take_over_soon(self, running: daemons.Running, skipped_uuids: int) -> Task[None]:
        """Make daemons that run already, in a node that is a clone, this switch's own; whose they
        are they say as soon as it is configured. Not waited for. ``skipped_uuids`` has to be
        another number for each clone, larger than the last one's by more than the rows that its
        configuration makes."""
        return Task(self._take_over(running, skipped_uuids))

    def _take_over(self, running: daemons.Running, skipped_uuids: int) -> Steps[None]:
        self._layout = running.layout
        self._expect(running.daemons)
        self._external_ids = identity.external_ids(self.node, self.name)
        yield from identity.skip_uuids(self.node, self.layout, skipped_uuids)

    def stop(self, options: Options | None = None) -> None:
        """Stop the daemons, or those that ``options`` mean, with ``ovs-ctl stop``. It takes 69 s at
        most for one that does not stop. Raise :class:`DaemonError` when one still runs
        afterwards."""
        self.stop_soon(options).result()

    def stop_soon(self, options: Options | None = None) -> Task[None]:
        """Like :meth:`stop`, not waiting."""
        return Task(self._stop(options or Options()))

    def _stop(self, options: Options) -> Steps[None]:
        with self._mark("stop"):
            self._expect(self._others(options))
            yield from daemons.stop(self.node, self.layout, options)

    def restart(self, options: Options | None = None) -> Completed:
        """Restart the daemons with ``ovs-ctl restart``, which saves and restores the flows.
        ``options`` are for this time.

        Returns what it printed: that flows could not be restored is no failure to it. Raise
        :class:`DaemonError` when a daemon does not run afterwards, or not as ``options`` say.
        """
        return self.restart_soon(options).result()

    def restart_soon(self, options: Options | None = None) -> Task[Completed]:
        """Like :meth:`restart`, not waiting."""
        return Task(self._restart(options or self.options, "restart"))

    def _restart(self, options: Options, command: daemons.Restarting) -> Steps[Completed]:
        with self._mark(command):
            others = self._others(options)
            self._expect(others)
            done, now = yield from daemons.restart(self.node, self.layout, options, command)
            self._expect(others | now)
        return done

    def force_reload_kmod(self, options: Options | None = None) -> Completed:
        """Reload the kernel module with ``ovs-ctl force-reload-kmod``, which restarts the daemons,
        and saves and restores flows and interfaces. ``options`` are for this time.

        Returns what it printed. Raise :class:`ModuleError` when the kernel says that the module was
        not reloaded, and before anything is done where it is not this node's to reload;
        :class:`DaemonError` as :meth:`restart` does.
        """
        return self.force_reload_kmod_soon(options).result()

    def force_reload_kmod_soon(self, options: Options | None = None) -> Task[Completed]:
        """Like :meth:`force_reload_kmod`, not waiting."""
        return Task(self._force_reload_kmod(options or self.options))

    def _force_reload_kmod(self, options: Options) -> Steps[Completed]:
        before = yield from kmod.reloadable(self.node)
        done = yield from self._restart(options, "force-reload-kmod")
        yield from kmod.check_reloaded(self.node, before, done)
        return done

    def _others(self, options: Options) -> dict[str, Daemon]:
        """The daemons that run and that ``options`` leave as they are."""
        return {
            name: daemon for name, daemon in self._daemons.items() if name not in options.daemons
        }

    def _expect(self, now: dict[str, Daemon]) -> None:
        self._daemons = now
        self._database = None

    def adopt(self) -> None:
        """Take the daemons that run now for those that ought to: after something else than this
        object started, stopped or upgraded them."""
        self._layout = None
        self._expect(daemons.running(self.node, self.layout))

    def reinstalled(self) -> None:
        """Take note that the node has another installation now, while the daemons are still those
        of the one before."""
        before = self.layout
        self._layout = None
        self._options = daemons.fitting(self.options, before, self.layout)

    def lost_power(self) -> None:
        """Take note that the daemons have ended with their node."""
        self._expect({})

    def check_alive(self) -> None:
        """Raise :class:`DaemonError`, with the end of its log, if a daemon died or was replaced."""
        if self._daemons:
            daemons.check_alive(self.node, self.layout, self._daemons)

    def status(self) -> str:
        """What ``ovs-ctl status`` prints."""
        return daemons.status(self.node, self.layout)

    def version(self) -> str:
        """The version of the installed Open vSwitch, such as ``3.5.0``."""
        return daemons.version(self.node, self.layout)

    def logs(self) -> dict[str, str]:
        """The logs of both daemons, by the daemon's name."""
        return daemons.logs(self.node, self.layout)

    def pid(self, daemon: str = OVS_VSWITCHD) -> int:
        """The pid of a daemon, in its node. Raise :class:`DaemonError` when it was not started."""
        if daemon not in self._daemons:
            raise DaemonError(f"{self.name}: {daemon} is not running; start the switch first")
        return self._daemons[daemon].pid

    def monitor(self, daemon: str) -> int | None:
        """The pid of the process that starts a daemon again when it crashes, if there is one. Raise
        :class:`DaemonError` when the daemon was not started."""
        self.pid(daemon)
        return self._daemons[daemon].monitor

    # -- configuration

    def configure(self) -> None:
        """Make the switch what ``spec`` says (see :func:`harness.ovs.apply.apply`)."""
        self.configure_soon().result()

    def configure_soon(self) -> Task[None]:
        """Like :meth:`configure`, not waiting."""
        return Task(self._configure())

    def _configure(self) -> Steps[None]:
        try:
            made = configure.transaction(self.spec, self.datapath)
            made.set_root({}, {"external_ids": self._external_ids})
            yield from apply.apply(self.node, self.layout, self.database, self.spec, made)
        except (ConfigurationError, NodeError):
            # That a daemon died is the better reason, if there are two.
            self.check_alive()
            raise

    # -- commands by hand

    def vsctl(self, *args: str, timeout: int = _TIMEOUT) -> str:
        """``ovs-vsctl`` and what it prints. ``timeout`` is in seconds.

        Raise :class:`PortError` when it says that a port could not be made, in every version;
        :class:`CommandFailed` for any other failure.
        """
        done = self._command("ovs-vsctl", args, timeout)
        failed = apply.errors_in(done.stderr)
        if failed:
            raise PortError(self.name, [PortFailure(None, port, said) for port, said in failed])
        return done.check().stdout

    def ofctl(self, *args: str, stdin: str = "", timeout: int = _TIMEOUT) -> str:
        """``ovs-ofctl`` and what it prints; a file name ``-`` reads ``stdin``."""
        return self._command("ovs-ofctl", args, timeout, stdin).check().stdout

    def appctl(self, *args: str, timeout: int = _TIMEOUT) -> str:
        """``ovs-appctl`` and what it prints."""
        return self._command("ovs-appctl", args, timeout).check().stdout

    def dpctl(self, command: str, *args: str, timeout: int = _TIMEOUT) -> str:
        """A command of ovs-dpctl(8), carried out by ovs-vswitchd, so on every datapath."""
        return self.appctl(f"dpctl/{command}", *args, timeout=timeout)

    def _command(
        self, program: str, args: Sequence[str], timeout: int, stdin: str = ""
    ) -> Completed:
        argv = [self.layout.program(program), f"--timeout={timeout}", *args]
        return self.node.run(argv, stdin=stdin, timeout=timeout + 5, check=False)

    # -- looking

    def unixctl(
        self, command: str, *args: str, daemon: str = OVS_VSWITCHD, timeout: float = 10.0
    ) -> str:
        """A command of ovs-appctl(8) over the daemon's own socket, 30 times faster.

        ``timeout`` is in seconds. Raise :class:`NodeError` with the daemon's words.
        """
        socket = self.layout.control_socket(daemon, self.pid(daemon))
        answer: str = self.node.json_rpc(socket, command, list(args), timeout)
        return answer

    @property
    def is_up(self) -> bool:
        """Whether ovs-vswitchd was started, and not stopped since."""
        return OVS_VSWITCHD in self._daemons

    def settle_soon(self) -> Task[Datapaths]:
        """Have the datapaths catch up with the tables, not waited for: see
        :mod:`harness.ovs.settling`. The result is what they were like before."""
        return Task(settling.settle(self.node, self._control_socket))

    @property
    def _control_socket(self) -> str:
        """That of ovs-vswitchd."""
        return self.layout.control_socket(OVS_VSWITCHD, self.pid(OVS_VSWITCHD))

    def datapaths_soon(self) -> Task[Datapaths]:
        """Have the main thread of ovs-vswitchd describe its datapaths, not waited for. With the
        netdev datapath and without PMD threads it is the thread that forwards frames, between
        answers, so an answer says that it has none in hand."""
        # In user space nothing waits on its way up, so there it is all one.
        waiting = self.datapath == "system"
        return Task(datapaths.ask(self.node, self._control_socket, waiting=waiting))

    @property
    def database(self) -> Database:
        """The database of the running ovsdb-server."""
        if self._database is None:
            self.pid(OVSDB_SERVER)
            socket = self.options.db_sock or self.layout.db_socket
            self._database = Database(self.node, socket)
        return self._database

    def db(
        self,
        table: str,
        columns: Sequence[str] = (),
        where: Mapping[str, Scalar] | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of a database table, as plain data (see :meth:`Database.select`)."""
        return self.database.select(table, columns, where)

    def ofport(self, name: str) -> int:
        """The OpenFlow port number of an interface. Raise :class:`OvsError` when it has none."""
        rows = self.db("Interface", ["ofport", "error"], {"name": name})
        if not rows:
            raise OvsError(f"{self.name}: there is no interface {name}")
        number: int | None = rows[0]["ofport"]
        if number is None or number < 0:
            reason = rows[0]["error"] or "it has no OpenFlow port number"
            raise OvsError(f"{self.name}: interface {name}: {reason}")
        return number

    def state(self) -> State:
        """Everything that a restart must keep (see :class:`State`)."""
        return self.state_soon().result()

    def state_soon(self) -> Task[State]:
        """Like :meth:`state`, not waiting."""
        return Task(reading.read(self.node, self.layout, self.database, self.name))

    def trace(self, bridge: str, flow: str) -> str:
        """What a bridge would do with a frame (ovs-vswitchd(8), ``ofproto/trace``)."""
        return self.unixctl("ofproto/trace", bridge, flow)

    def fdb(self, bridge: str) -> list[Learned]:
        """The MAC table of a bridge."""
        return parse_fdb(self.unixctl("fdb/show", bridge))

    def tunnel_neighbours(self) -> set[str]:
        """The IP addresses whose MAC addresses userspace tunnelling knows (``tnl/neigh/show``)."""
        lines = self.unixctl("tnl/neigh/show").splitlines()
        return {line.split()[0] for line in lines if line[:1].isalnum() and line[:2] != "IP"}

    def datapath_counters(self) -> Counters:
        """What happened to all frames so far, over all datapaths of the switch."""
        return self.datapaths_soon().result().counters


_LEARNED = re.compile(r"^\s*(\S+)\s+(\d+)\s+([0-9a-f]{2}(?::[0-9a-f]{2}){5})\s+(\S+)", re.MULTILINE)


def parse_fdb(text: str) -> list[Learned]:
    """The entries in the output of ``fdb/show``."""
    return [
        Learned(port, int(vlan), mac, int(age) if age.isdigit() else None)
        for port, vlan, mac, age in _LEARNED.findall(text)
    ]
