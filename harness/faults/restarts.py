"""Restarts: a whole one, a reload of the kernel module, and one that is killed half way."""

from __future__ import annotations

from typing import ClassVar, Literal

from harness.faults.fault import FORGOTTEN, Fault, FaultError, Ground, Undo
from harness.faults.processes import running, switch_works
from harness.nodes.base import Completed
from harness.ovs.options import OVSDB_SERVER
from harness.ovs.switch import Switch

Stage = Literal["saved", "stopped", "waiting", "restored"]

KEY = "flow-restore-wait"
BOUND = 300.0
"""Seconds that a restart may take (see :mod:`harness.ovs.daemons`)."""


class Restart(Fault, frozen=True):
    """``ovs-ctl restart``, which saves and restores the flows. It goes on while the context lasts,
    and the context ends when it has."""

    name: ClassVar[str] = "restart"
    marks_itself: ClassVar[bool] = True

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        return ground.switch(self.switch).restart_soon().result


class Reload(Fault, frozen=True):
    """``ovs-ctl force-reload-kmod``, in the same way. It fails unless the kernel says that the
    module was really reloaded."""

    name: ClassVar[str] = "force-reload-kmod"
    marks_itself: ClassVar[bool] = True

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        return ground.switch(self.switch).force_reload_kmod_soon().result


class HalfRestart(Fault, frozen=True):
    """An ``ovs-ctl restart`` that is killed half way, with all that it has started but the daemons.

    ``stage`` says when: ``saved``: the flows are saved, and both daemons run still; ``stopped``:
    ovsdb-server is a new one, and ovs-vswitchd has ended; ``waiting``: it runs, and waits for the
    flows; ``restored``: it has them, and waits still. Undone as an operator does it: the key
    ``flow-restore-wait`` is removed, and the switch restarted.
    """

    name: ClassVar[str] = "half a restart"

    stage: Stage = "waiting"

    @property
    def changes(self) -> tuple[str, ...]:
        """What was saved goes with the restart that saved it, once ovs-vswitchd has ended."""
        return FORGOTTEN if self.stage in ("stopped", "waiting") else ()

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        done = _restart_killed_at(switch, self.stage)
        switch.adopt()
        if done.status != -9:
            said = (done.stdout + done.stderr).strip()
            raise FaultError(
                f"{self}: the restart came to its end and was not killed; it printed:\n{said}"
            )
        return lambda: _mend(switch)


_KILLED_AT: dict[Stage, tuple[str, str]] = {
    "saved": ("ovs-appctl", "*ovsdb-server*version"),
    "stopped": ("ovs-vsctl", f"*set*{KEY}*"),
    "waiting": ("ovs-ofctl", "*add-tlv-map*|*add-groups*|*add-flows*|*replace-flows*"),
    "restored": ("ovs-vsctl", f"*remove*{KEY}*"),
}
"""The program, and how its arguments look, that a restart runs first when it has come that far."""


def _restart_killed_at(switch: Switch, stage: Stage) -> Completed:
    """Run a restart that finds another program before the one that it wants, which kills it and
    all that it runs: they are one process group, and daemons leave it."""
    node = switch.node
    program, arguments = _KILLED_AT[stage]
    directory = node.run(["mktemp", "-d"]).stdout.strip()
    path = node.run(["sh", "-c", 'echo "$PATH"']).stdout.strip()
    code = (
        f'#!/bin/sh\nPATH="{path}"\n'
        f'case "$*" in {arguments}) kill -KILL 0 ;; esac\nexec {program} "$@"\n'
    )
    try:
        node.write_file(f"{directory}/{program}", code, mode=0o755)
        done: Completed = node.run_soon(
            [switch.layout.ovs_ctl, *switch.options.words, "restart"],
            timeout=BOUND,
            env={"PATH": f"{directory}:{path}"},
        ).result()
    finally:
        node.run(["rm", "-r", directory])
    return done


def _mend(switch: Switch) -> None:
    if OVSDB_SERVER in running(switch):
        switch.vsctl("--no-wait", "--if-exists", "remove", "Open_vSwitch", ".", "other_config", KEY)
    switch.restart()
    switch_works(switch)
