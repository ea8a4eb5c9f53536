"""The life of a switch's two daemons: started, stopped, restarted by its own ``ovs-ctl``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from harness.nodes.base import Completed, Node
from harness.ovs.errors import DaemonError, UnexpectedOutputError
from harness.ovs.layout import Layout
from harness.ovs.tasks import Steps

OVSDB_SERVER = "ovsdb-server"
OVS_VSWITCHD = "ovs-vswitchd"
NAMES = (OVSDB_SERVER, OVS_VSWITCHD)

_BOUND = 150.0
"""Seconds that ``ovs-ctl`` may take: its own waiting for a daemon that does not stop is 63 s
each, because it goes from EXIT over TERM to KILL (``stop_daemon`` in ovs-lib)."""

_TAIL = 15
"""Lines of a log that an error shows."""


class Daemon(msgspec.Struct, frozen=True):
    """A running daemon. ``started`` is in clock ticks since boot (proc_pid_stat(5), field 22);
    with the pid it tells a daemon from another that got the same pid."""

    name: str
    pid: int
    started: int


def options(layout: Layout, system_id: str, datapath: str) -> list[str]:
    """The options of ``ovs-ctl`` (ovs-ctl(8)) that start and restart need.

    Where it can be helped the hostname is not recorded: ``ovs-ctl`` does that in the background,
    so that it would change the database at some moment after the start.
    """
    words = [f"--system-id={system_id}"]
    if layout.leaves_hostname:
        words.append("--no-record-hostname")
    if datapath == "dummy":
        words.append("--ovs-vswitchd-options=--enable-dummy")
    return words


def start(node: Node, layout: Layout, words: list[str]) -> Steps[dict[str, Daemon]]:
    """Start both daemons with ``ovs-ctl start``; ``words`` are its :func:`options`.

    Returns them by name. Raise :class:`DaemonError` when one does not run afterwards.
    """
    done = yield from _ovs_ctl(node, layout, [*words, "start"])
    now = _both_run(node, layout, done)
    yield from _hostname_recorded(node, layout)
    return now


def _hostname_recorded(node: Node, layout: Layout) -> Steps[None]:
    """Wait for what an old ``ovs-ctl`` still has to write to the database (see :func:`options`)."""
    if layout.leaves_hostname:
        return
    condition = ["Open_vSwitch", ".", 'external_ids:hostname!=""']
    argv = [layout.program("ovs-vsctl"), "--timeout=30", "wait-until", *condition]
    answers = yield [node.run_soon(argv, timeout=35)]
    answers[0].check()


def restart(
    node: Node, layout: Layout, words: list[str]
) -> Steps[tuple[Completed, dict[str, Daemon]]]:
    """Restart both daemons with ``ovs-ctl restart``, which saves and restores the flows.

    Returns what it printed, for flows that could not be restored are no failure to it, and the
    new daemons. Raise :class:`DaemonError` when one does not run afterwards.
    """
    done = yield from _ovs_ctl(node, layout, [*words, "restart"])
    now = _both_run(node, layout, done)
    yield from _hostname_recorded(node, layout)
    return done, now


def stop(node: Node, layout: Layout) -> Steps[None]:
    """Stop both daemons with ``ovs-ctl stop``. Raise :class:`DaemonError` when one still runs."""
    done = yield from _ovs_ctl(node, layout, ["stop"])
    still = running(node, layout)
    if done.status != 0 or still:
        names = " and ".join(still) or "nothing"
        raise DaemonError(f"{node.name}: after `ovs-ctl stop` {names} still runs\n{_printed(done)}")


def _ovs_ctl(node: Node, layout: Layout, words: list[str]) -> Steps[Completed]:
    answers = yield [node.run_soon([layout.ovs_ctl, *words], timeout=_BOUND)]
    done: Completed = answers[0]
    return done


def _both_run(node: Node, layout: Layout, done: Completed) -> dict[str, Daemon]:
    now = running(node, layout)
    missing = [name for name in NAMES if name not in now]
    if done.status == 0 and not missing:
        return now
    what = " and ".join(missing)
    said = f"{what} does not run" if missing else f"it exited {done.status}"
    text = f"{node.name}: after `{' '.join(done.argv)}` {said}\n{_printed(done)}"
    for name in missing:
        text += "\n" + log_tail(node, layout, name)
    raise DaemonError(text)


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
        started = _start_time(stat)
        if started is not None:
            found[name] = Daemon(name, pid, started)
    return found


def _start_time(stat: bytes | None) -> int | None:
    """Field 22 of /proc/pid/stat; None for a process that is gone or dead.

    The second field is the name in parentheses and may itself hold anything.
    """
    if stat is None:
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def check_alive(node: Node, layout: Layout, expected: Mapping[str, Daemon]) -> None:
    """Raise :class:`DaemonError` if one of the ``expected`` daemons died or was replaced."""
    now = running(node, layout)
    for name, daemon in expected.items():
        if now.get(name) == daemon:
            continue
        text = f"{node.name}: {name} (pid {daemon.pid}) has died"
        if name in now:
            text += f"; another runs in its place (pid {now[name].pid})"
        raise DaemonError(f"{text}\n{log_tail(node, layout, name)}")


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
