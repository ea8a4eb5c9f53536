"""Whose containers and networks are: what they are labelled with, and whether he still lives."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

BROKER = "ovs-harness.broker"
"""The process that removes it: see :func:`broker`."""
ZOMBIE = "Z"
"""The state of a process that has ended, while nobody has asked how (proc(5))."""
RUN, LAB, SWITCH, OWNER = (f"ovs-harness.{name}" for name in ("run", "lab", "switch", "owner"))


def broker(pid: int) -> str:
    """A process as a label says it: the machine since it was started, the PID namespace, the
    process id there, and when it began (proc(5), ``boot_id`` and field 22 of ``stat``), which tells
    it from another one that got its number. Raise :class:`FileNotFoundError` when it has ended."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    numbers = Path("/proc/self/ns/pid").stat().st_ino
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    if fields[0] == ZOMBIE:
        raise FileNotFoundError(f"process {pid} has ended")
    return f"{boot}:{numbers}:{pid}:{fields[19]}"


def has_ended(label: str) -> bool:
    """Whether the process that :func:`broker` told of is known to have ended. One of another
    machine, or of another PID namespace, may live for all that is known here."""
    place, _, process = label.rpartition(":")
    place, _, pid = place.rpartition(":")
    if not broker(os.getpid()).startswith(f"{place}:") or not (pid + process).isdecimal():
        return False
    try:
        return label != broker(int(pid))
    except FileNotFoundError:
        return True


def of_this_run() -> dict[str, str]:
    """The labels of everything that this process has made."""
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    return {RUN: secrets.token_hex(4), BROKER: broker(os.getpid()), OWNER: owner}


def is_left_over(labels: Mapping[str, str] | None) -> bool:
    """Whether something is labelled as ours and nobody is left to remove it."""
    return labels is not None and BROKER in labels and has_ended(labels[BROKER])
