"""The life of a switch's two daemons: started, stopped, restarted by its own ``ovs-ctl``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from harness.nodes.base import Completed, Node
from harness.ovs.errors import DaemonError, UnexpectedOutputError
from harness.ovs.layout import Layout
from harness.ovs.options import NAMES, OVS_VSWITCHD, Options
from harness.ovs.tasks import Steps

Restarting = Literal["restart", "force-reload-kmod"]

_BOUND = 300.0
"""Seconds that ``ovs-ctl`` may take: it waits at most 69 s for each daemon that does not stop,
going from EXIT over TERM to KILL (``stop_daemon`` in ovs-lib). A reload of the kernel module where
nothing hangs took 101 s on an emulated processor of a machine with five times the work it can do.
"""

_UNKNOWN_OPTION = re.compile(r'unknown option "([^"]*)"')

_TAIL = 15
"""Lines of a log that an error shows."""


class Daemon(msgspec.Struct, frozen=True):
    """A running daemon. ``started`` is in clock ticks since boot (proc_pid_stat(5), field 22);
    with the pid it tells a daemon from another that got the same pid. ``monitor`` is the pid of the
    process that starts it again when it crashes, if there is one (ovs-vswitchd(8), ``--monitor``).
    """

    name: str
    pid: int
    started: int
    monitor: int | None


class Running(msgspec.Struct, frozen=True):
    """An installation whose daemons run already."""

    layout: Layout
    daemons: dict[str, Daemon]


def usual(layout: Layout, system_id: str, datapath: str) -> Options:
    """How the daemons of a switch are run when nobody says otherwise.

    Where it can be helped the hostname is not recorded: ``ovs-ctl`` does that in the background,
    so that it would change the database at some moment after the start.
    """
    return Options(
        system_id=system_id,
        record_hostname=not layout.leaves_hostname,
        ovs_vswitchd_options=("--enable-dummy",) if datapath == "dummy" else (),
    )


def fitting(options: Options, before: Layout, after: Layout) -> Options:
    """The ``options`` of daemons of one installation for those of another: whether the hostname is
    recorded is as usual there, if it was as usual."""
    if options.record_hostname == before.leaves_hostname:
        return options
    return msgspec.structs.replace(options, record_hostname=not after.leaves_hostname)


def start(node: Node, layout: Layout, options: Options) -> Steps[dict[str, Daemon]]:
    """Start daemons with ``ovs-ctl start``.

    Returns those that ``options`` mean, by name. Raise :class:`DaemonError` when one does not run
    afterwards, or not as ``options`` say.
    """
    done = yield from _ovs_ctl(node, layout, [*options.words, "start"])
    now = _they_run(node, layout, options, done)
    yield from _hostname_recorded(node, layout, options)
    return now


def _hostname_recorded(node: Node, layout: Layout, options: Options) -> Steps[None]:
    """Wait for what ``ovs-ctl`` still has to write to the database (see :func:`usual`)."""
    if not options.record_hostname:
        return
    condition = ["Open_vSwitch", ".", 'external_ids:hostname!=""']
    argv = [layout.program("ovs-vsctl"), "--timeout=30", "wait-until", *condition]
    answers = yield [node.run_soon(argv, timeout=35)]
    answers[0].check()


def restart(
    node: Node, layout: Layout, options: Options, command: Restarting
) -> Steps[tuple[Completed, dict[str, Daemon]]]:
    """Stop and start daemons with ``ovs-ctl``, which saves and restores the flows.

    Returns what it printed, for flows that could not be restored are no failure to it, and the
    new daemons. Raise :class:`DaemonError` when one does not run afterwards.
    """
    done = yield from _ovs_ctl(node, layout, [*options.words, command])
    now = _they_run(node, layout, options, done)
    yield from _hostname_recorded(node, layout, options)
    return done, now


def stop(node: Node, layout: Layout, options: Options) -> Steps[None]:
    """Stop daemons with ``ovs-ctl stop``. Raise :class:`DaemonError` when one still runs."""
    done = yield from _ovs_ctl(node, layout, [*options.selection, "stop"])
    still = [name for name in running(node, layout) if name in options.daemons]
    if done.status != 0 or still:
        names = " and ".join(still) or "nothing"
        raise DaemonError(f"{node.name}: after `ovs-ctl stop` {names} still runs\n{_printed(done)}")


def _ovs_ctl(node: Node, layout: Layout, words: list[str]) -> Steps[Completed]:
    answers = yield [node.run_soon([layout.ovs_ctl, *words], timeout=_BOUND)]
    done: Completed = answers[0]
    return done


def _they_run(node: Node, layout: Layout, options: Options, done: Completed) -> dict[str, Daemon]:
    """The daemons that ``options`` mean, which ``ovs-ctl`` has just started."""
    found = running(node, layout)
    now = {name: found[name] for name in options.daemons if name in found}
    missing = [name for name in options.daemons if name not in now]
    problem = _problem(done, missing) or _wrong_monitor(options, now.values())
    if problem is None:
        return now
    text = f"{node.name}: after `{' '.join(done.argv)}` {problem}\n{_printed(done)}"
    for name in missing:
        text += "\n" + log_tail(node, layout, name)
    raise DaemonError(text)


def _problem(done: Completed, missing: Sequence[str]) -> str | None:
    if missing:
        return f"{' and '.join(missing)} does not run"
    if done.status != 0:
        return f"it exited {done.status}"
    # An option that it does not know is no failure to it.
    unknown = _UNKNOWN_OPTION.findall(done.stderr)
    return f"it did not know {' and '.join(unknown)}" if unknown else None


def _wrong_monitor(options: Options, started: Iterable[Daemon]) -> str | None:
    for daemon in started:
        if (daemon.monitor is not None) != options.monitor:
            return f"{daemon.name} runs {'without' if options.monitor else 'with'} a monitor"
    return None


def _printed(done: Completed) -> str:
    return "it printed:\n" + _indented((done.stdout + done.stderr).strip() or "nothing")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def running(node: Node, layout: Layout) -> dict[str, Daemon]:
    """The daemons that run, found through their pidfiles. A zombie does not run."""
    pids = {}
    for name, content in zip(
        NAMES, node.read_files([layout.pidfile(name) for name in NAMES]), strict=True
    ):
        if content is not None and content.strip().isdigit():
            pids[name] = int(content)
    stats = node.read_files([f"/proc/{pid}/stat" for pid in pids.values()])
    found = {}
    for (name, pid), stat in zip(pids.items(), stats, strict=True):
        daemon = _daemon(name, pid, stat)
        if daemon is not None:
            found[name] = daemon
    return found


def _daemon(name: str, pid: int, stat: bytes | None) -> Daemon | None:
    """Read /proc/pid/stat; None for a process that is gone or dead.

    The second field is the name in parentheses and may itself hold anything. A daemon that detaches
    leads a session of its own (field 6); with a monitor it is the monitor that does, and the daemon
    is its child (field 4).
    """
    if stat is None:
        return None
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    parent, session = int(fields[1]), int(fields[3])
    monitor = session if session == parent else None
    return Daemon(name, pid, started=int(fields[19]), monitor=monitor)


def check_alive(node: Node, layout: Layout, expected: Mapping[str, Daemon]) -> None:
    """Raise :class:`DaemonError` if one of the ``expected`` daemons died or was replaced, or if its
    monitor has gone."""
    now = running(node, layout)
    for name, daemon in expected.items():
        if now.get(name) != daemon:
            said = _what_became_of(daemon, now.get(name))
            raise DaemonError(f"{node.name}: {said}\n{log_tail(node, layout, name)}")


def _what_became_of(daemon: Daemon, now: Daemon | None) -> str:
    who = f"{daemon.name} (pid {daemon.pid})"
    if now is None:
        return f"{who} has died"
    if (now.pid, now.started) != (daemon.pid, daemon.started):
        return f"{who} has died; another runs in its place (pid {now.pid})"
    return f"the monitor of {who} has died (pid {daemon.monitor})"


def log_tail(node: Node, layout: Layout, name: str) -> str:
    """The end of a daemon's log, for an error."""
    path = layout.log(name)
    lines = _text(node.read_files([path])[0]).splitlines()
    if not lines:
        return f"{path} is empty"
    return f"the end of {path}:\n" + _indented("\n".join(lines[-_TAIL:]))


def logs(node: Node, layout: Layout) -> dict[str, str]:
    """The whole logs of both daemons, by the daemon's name."""
    contents = node.read_files([layout.log(name) for name in NAMES])
    return {name: _text(content) for name, content in zip(NAMES, contents, strict=True)}


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def version(node: Node, layout: Layout) -> str:
    """The version of the installed ovs-vswitchd, whether it runs or not: ``3.5.0``."""
    done = node.run([f"{layout.sbindir}/{OVS_VSWITCHD}", "--version"])
    match = re.search(r"\(Open vSwitch\) (\S+)", done.stdout)
    if match is None:
        raise UnexpectedOutputError(
            f"{node.name}: `{OVS_VSWITCHD} --version` printed {done.stdout!r}"
        )
    return match[1]


def status(node: Node, layout: Layout) -> str:
    """What ``ovs-ctl status`` prints, whatever its exit status."""
    return node.run([layout.ovs_ctl, "status"], check=False).stdout
