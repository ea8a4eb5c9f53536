"""The harness and Mininet on the same topology, in turn: runs that two measurements share."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Say
from benchmarks.processes import DEBIANS_PYTHON, Run
from harness.lab import DEFAULT_TARGET

NEEDED = {
    "mininet": "/usr/lib/python3/dist-packages/mininet/net.py",
    "openvswitch-switch": "/usr/share/openvswitch/scripts/ovs-ctl",
    "iputils-ping": "/bin/ping",
    "iproute2": "/sbin/ip",
}
"""Debian packages that a run of Mininet takes, and a file by which each is known."""
SAME_SWITCH = "host/namespace/netdev"
"""The harness with the Open vSwitch that Mininet drives: this machine's own."""


@dataclass(frozen=True)
class Duel:
    """The runs on one topology: ours, ours with the peer's Open vSwitch, and Mininet's."""

    ours: tuple[Run, ...]
    same_switch: tuple[Run, ...]
    mininet: tuple[Run, ...]
    lacking: str
    """Why Mininet did not run, and how to get it; empty when it did."""


@cache
def lacking() -> str:
    """What Mininet needs and this machine has not, in words; empty when nothing is missing."""
    missing = [package for package, file in NEEDED.items() if not Path(file).exists()]
    if missing:
        return f"Mininet did not run; to compare: sudo apt-get install {' '.join(missing)}"
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "Mininet did not run; to compare: sudo apt-get install util-linux"
    tried = subprocess.run(
        processes.boxed([DEBIANS_PYTHON, "-c", "import os; os.open('/dev/net/tun', os.O_RDWR)"]),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        said = tried.stderr.strip().splitlines()[-1]
        return f"Mininet did not run: no namespaces with /dev/net/tun here ({said})"
    return ""


@cache
def duel(hosts: int, rounds: int, say: Say) -> Duel:
    """One switch with so many hosts: the harness and Mininet in turn, so many times each."""
    reason = lacking()
    ours, same_switch, mininet = [], [], []
    pairs = hosts > 2
    for number in range(1, rounds + 1):
        say(f"1 switch, {hosts} hosts, round {number} of {rounds}: the harness")
        ours.append(processes.harness(DEFAULT_TARGET, 1, hosts, pairs=pairs))
        if reason:
            continue
        say(f"1 switch, {hosts} hosts, round {number} of {rounds}: Mininet")
        mininet.append(processes.mininet(hosts, pairs=pairs))
        say(f"1 switch, {hosts} hosts, round {number} of {rounds}: the harness on {SAME_SWITCH}")
        same_switch.append(processes.harness(SAME_SWITCH, 1, hosts, pairs=pairs))
    return Duel(tuple(ours), tuple(same_switch), tuple(mininet), reason)
