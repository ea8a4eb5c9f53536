"""How the first process of a sandbox made of namespaces comes to be, and becomes its agent.

Nothing but the standard library of Python 3.9, and the agent: it is carried to remote machines too
(:mod:`harness.nodes.ssh`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import traceback
from contextlib import suppress
from typing import NoReturn

from harness.agent.agent import Agent
from harness.agent.environment import enter_environment
from harness.agent.files import write_anew
from harness.agent.libc import CLONE_NEWNET, check, libc
from harness.agent.machine import hosts_file
from harness.agent.quiet import be_a_node
from harness.agent.requests import Job

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
PR_SET_PDEATHSIG = 1


NODE = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
"""What a node has for itself; without root it has a user namespace too."""


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def unshare(flags: int) -> None:
    """unshare(2); where a user namespace is among them, this user is root in it and nobody else."""
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(flags), "unshare")
    if flags & CLONE_NEWUSER:
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)


def run_forked(action: Job, report: int) -> None:
    """Run ``action`` in a forked child and never return; a failure is written to ``report``."""
    status = 1
    try:
        action()
        status = 0
    except OSError as error:
        with suppress(OSError):
            where = f"{error.filename}: " if error.filename else ""
            os.write(report, f"{where}{error.strerror or error}".encode())
    except BaseException:  # noqa: BLE001 - whatever it is, the parent has to be told
        with suppress(OSError):
            os.write(report, traceback.format_exc(limit=-4).encode())
    finally:
        os._exit(status)


def furnish(name: str) -> None:
    """In the first process of a new node, whose root is its own: give it its name, and have its
    kernel and its environment be those of a node."""
    socket.sethostname(name)
    write_anew("/etc/hosts", hosts_file(name), 0o644)
    be_a_node()
    enter_environment()


def serve(agent: Agent) -> None:
    """Be a node's agent until its stream ends; what is started from here has the standard streams
    of nobody."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    agent.serve()


def watch_over(child: int, ends: dict[int, int]) -> NoReturn:
    """Wait for the child, or kill it when one of the descriptors ``ends`` has one of the events
    that it is given with (poll(2)); end with it."""
    any_of = select.poll()
    any_of.register(os.pidfd_open(child), select.POLLIN)
    for fd, events in ends.items():
        any_of.register(fd, events)
    any_of.poll()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)
