"""Daemons as processes: whether they run, and waiting until they do or don't."""

from __future__ import annotations

from harness.nodes.base import Node, NodeError
from harness.ovs import daemons
from harness.ovs.daemons import Daemon
from harness.ovs.errors import DaemonError
from harness.ovs.options import NAMES, OVS_VSWITCHD
from harness.ovs.switch import Switch
from harness.polling import eventually

PATIENCE = 60.0
"""Seconds that a daemon may take to end or to come up, on a slow processor as well."""


def state_of(node: Node, pid: int) -> str:
    """The state of a process as a letter (proc_pid_stat(5)); ``-`` for one that is gone."""
    stat = node.read_files([f"/proc/{pid}/stat"])[0]
    return "-" if stat is None else stat.rpartition(b")")[2].split()[0].decode()


def ends(node: Node, pid: int) -> None:
    """Wait until a process is gone, and not only a zombie: it is that while its threads end, and
    ``ovs-ctl`` takes it for running as long as there is /proc/PID."""
    eventually(
        lambda: state_of(node, pid),
        lambda state: state == "-",
        within=PATIENCE,
        what=f"{node.name}: process {pid} ends",
    )


def running(switch: Switch) -> dict[str, Daemon]:
    """The daemons that run now, whatever the switch expects."""
    return daemons.running(switch.node, switch.layout)


def comes_up(switch: Switch, daemon: str) -> None:
    """Wait until a daemon that its monitor has started answers, and the switch works; the switch
    takes it for its own."""

    def answers() -> bool:
        switch.adopt()
        try:
            switch.unixctl("version", daemon=daemon)
        except (NodeError, DaemonError):
            # Its socket is not there yet.
            return False
        return True

    eventually(answers, within=PATIENCE, what=f"{switch.name}: {daemon} is up again")
    switch_works(switch)


def switch_works(switch: Switch) -> None:
    """Wait until ovs-vswitchd has made what the database says, and written there what became of
    it, as it does when one of the two has begun anew. Nothing while one of them does not run."""
    if running(switch).keys() != {*NAMES}:
        return
    eventually(
        lambda: _unfinished(switch),
        lambda found: not found,
        within=PATIENCE,
        what=f"{switch.name}: ovs-vswitchd has made all bridges and ports",
    )


def _unfinished(switch: Switch) -> list[str]:
    """The bridges and interfaces that ovs-vswitchd has not made yet, nor said that it can't; itself
    while it does not say."""
    try:
        made = switch.unixctl("ofproto/list").split()
    except NodeError:
        # It answers before it has all its commands (main() in vswitchd/ovs-vswitchd.c).
        switch.check_alive()
        return [OVS_VSWITCHD]
    bridges = switch.db("Bridge", ["name", "datapath_id"])
    interfaces = switch.db("Interface", ["name", "ofport"])
    return [row["name"] for row in bridges if row["name"] not in made or not row["datapath_id"]] + [
        row["name"] for row in interfaces if row["ofport"] is None
    ]
