"""Daemons that are killed, stopped in their tracks, or told to end."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.faults.fault import FORGOTTEN, Fault, FaultError, Ground, Undo
from harness.faults.processes import comes_up, ends, running, state_of, switch_works
from harness.ovs.options import OVS_VSWITCHD
from harness.ovs.switch import Switch
from harness.polling import eventually

DaemonName = Literal["ovsdb-server", "ovs-vswitchd"]
Signal = Literal["KILL", "SEGV", "ABRT"]

MONITOR_ACTS = 30.0
CRASHED = (
    r"daemon_unix\(monitor\)\|ERR\|\d+ crashes: pid \d+ died, killed \(.*\)",
    r"backtrace\(monitor\)\|WARN\|SIG\w+ detected",
    r"backtrace\(monitor\)\|WARN\|Backtrace using libunwind not supported",
    r"fatal_signal(\(\S+\))?\|WARN\|terminating with signal (6|11) ",
)
"""What a monitor says of a crash, and now and then a thread of the daemon itself before it is over
(lib/daemon-unix.c, lib/backtrace.c, lib/fatal-signal.c)."""


class Kill(Fault, frozen=True):
    """A daemon ends by a signal. Its monitor starts another after a crash (SEGV, ABRT); to
    ``kill -9`` it ends too (``should_restart()`` in lib/daemon-unix.c). ``monitor``: the monitor is
    killed first, so that nobody starts another. Undone with ``ovs-ctl start`` where nobody did."""

    name: ClassVar[str] = "kill"

    daemon: DaemonName = "ovs-vswitchd"
    signal: Signal = "KILL"
    monitor: bool = False

    @property
    def changes(self) -> tuple[str, ...]:
        """What was in the daemon's memory alone is lost."""
        return FORGOTTEN if self.daemon == OVS_VSWITCHD else ()

    @property
    def logged(self) -> tuple[str, ...]:
        """See :attr:`Fault.logged`."""
        return () if self.signal == "KILL" else CRASHED

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        pid, monitor = _pid(switch, self.daemon, self), switch.monitor(self.daemon)
        if self.monitor:
            if monitor is None:
                raise FaultError(f"{self}: {self.daemon} runs without a monitor")
            switch.node.run(["kill", "-KILL", str(monitor)])
            ends(switch.node, monitor)
        switch.node.run(["kill", f"-{self.signal}", str(pid)])
        ends(switch.node, pid)
        if monitor is not None and not self.monitor:
            self._monitor_acts(switch, pid, monitor)
        switch.adopt()
        return lambda: _start_again(switch, self.daemon)

    def _monitor_acts(self, switch: Switch, pid: int, monitor: int) -> None:
        """Wait until the monitor has started another daemon, or has ended."""

        def another() -> bool:
            found = running(switch).get(self.daemon)
            return found is not None and found.pid != pid

        eventually(
            lambda: another() or state_of(switch.node, monitor) == "-",
            within=MONITOR_ACTS,
            what=f"{switch.name}: the monitor of {self.daemon} starts another, or ends",
        )
        if another():
            comes_up(switch, self.daemon)


class Suspend(Fault, frozen=True):
    """A daemon is stopped by SIGSTOP, and goes on by SIGCONT: it hangs, and runs."""

    name: ClassVar[str] = "suspend"

    daemon: DaemonName = "ovs-vswitchd"

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        pid = _pid(switch, self.daemon, self)
        _signal(switch, pid, "STOP", stopped=True)
        return lambda: _go_on(switch, pid)


def _go_on(switch: Switch, pid: int) -> None:
    # Another fault may have ended it meanwhile.
    if state_of(switch.node, pid) not in "-ZX":
        _signal(switch, pid, "CONT", stopped=False)


def _signal(switch: Switch, pid: int, name: str, *, stopped: bool) -> None:
    switch.node.run(["kill", f"-{name}", str(pid)])
    eventually(
        lambda: state_of(switch.node, pid),
        lambda state: (state == "T") == stopped,
        within=MONITOR_ACTS,
        what=f"{switch.name}: process {pid} {'stops' if stopped else 'goes on'}",
    )


class Exit(Fault, frozen=True):
    """ovs-vswitchd is told to end (ovs-vswitchd(8), ``exit``); with ``cleanup`` it takes its
    datapath with it, and with that what its internal interfaces had. Undone with ``ovs-ctl
    start``."""

    name: ClassVar[str] = "exit"

    cleanup: bool = False

    @property
    def changes(self) -> tuple[str, ...]:
        """What was in the daemon's memory alone is lost."""
        return (*FORGOTTEN, "addresses", "routes", "up") if self.cleanup else FORGOTTEN

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        pid, monitor = _pid(switch, OVS_VSWITCHD, self), switch.monitor(OVS_VSWITCHD)
        switch.appctl("exit", *(["--cleanup"] if self.cleanup else []))
        ends(switch.node, pid)
        if monitor is not None:
            ends(switch.node, monitor)
        switch.adopt()
        return lambda: _start_again(switch, OVS_VSWITCHD)


def _pid(switch: Switch, daemon: str, fault: Fault) -> int:
    """The pid of the daemon that a fault is done to, which has to run."""
    found = running(switch).get(daemon)
    if found is None:
        raise FaultError(f"{fault}: {daemon} does not run")
    return found.pid


def _start_again(switch: Switch, daemon: str) -> None:
    if daemon not in running(switch):
        switch.start_again(daemon)
        switch_works(switch)
