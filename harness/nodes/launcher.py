"""The launcher: the process that namespace nodes are children of. Run as a program, never imported
by the harness itself.

One launcher serves one harness process. It is an agent in namespaces of its own (which hold the
underlays that have more than two ends), that can also start nodes. It is the first process of a PID
namespace that holds every node, so when it ends, for whatever reason, the kernel ends them all.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from harness.agent.agent import Agent
from harness.agent.children import Children
from harness.agent.environment import enter_environment
from harness.agent.files import write_anew
from harness.agent.libc import CLONE_NEWNET, check, libc
from harness.agent.machine import hosts_file, set_hostname
from harness.agent.quiet import ignore_what_ports_hear, quieten
from harness.agent.requests import Fields, Job, Operations, Request
from harness.agent.spaces import Spaces
from harness.nodes.mounts import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC, mount
from harness.nodes.roots import change_root, enter_root

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
PR_SET_PDEATHSIG = 1

NODE_CHANNEL, NODE_REPORT = 0, 3
"""Descriptors in a new node: its stream, and where it says what went wrong before it serves."""


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


class Launcher:
    """What an agent can do that starts nodes."""

    def __init__(
        self, children: Children, spaces: Spaces, hand: socket.socket, user_namespaces: bool
    ) -> None:
        self._children, self._spaces = children, spaces
        self._user_namespaces = user_namespaces
        self._nodes: set[int] = set()
        """The process ids of those that run."""
        self._hand = hand
        """Nodes' channels come through here, beside the messages (SCM_RIGHTS, unix(7))."""
        self.operations: Operations = {
            "start_node": self.start_node,
            "end_node": self.end_node,
            "change_root": self.change_root,
        }

    def start_node(self, request: Request) -> None:
        """Start a node whose agent serves the next handed socket. Answer with its process id and
        the name that its network namespace has here, for links into it."""
        wanted = request.fields
        _data, handed, _flags, _address = socket.recv_fds(self._hand, 1, 1)
        channel = handed[0]
        report_read, report_write = os.pipe()
        middle = os.fork()
        if middle == 0:
            os.close(report_read)
            run_forked(lambda: self._become_parent(channel, report_write, wanted), report_write)
        os.close(channel)
        os.close(report_write)
        with open(report_read, "rb") as report:
            said = report.read()
        if said.startswith(b"pid "):
            pid = int(said[4:])
            request.reply({"pid": pid, "space": self._know(pid)})
        else:
            request.fail(said.decode(errors="replace"), errno.EPERM)

    def _know(self, pid: int) -> str:
        """Have a new node's network namespace, until the node has ended; return its name here."""
        space = f"node {pid}"
        # Opened now: later the agent's thread may be in the namespace of one of its hosts.
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._spaces.take(space, namespace)
        self._nodes.add(pid)
        self._children.when_ended(pid, lambda _status: self._forget(pid, space))
        return space

    def _forget(self, pid: int, space: str) -> None:
        """Let go of an ended node's network namespace, or the kernel would keep it."""
        self._nodes.remove(pid)
        self._spaces.let_go(space)

    def end_node(self, request: Request) -> None:
        """Kill a node's first process, and so everything in the node: also one that has stopped and
        would never see that its channel closed. A node that has ended already is fine."""
        if request["pid"] in self._nodes:
            os.kill(request["pid"], signal.SIGKILL)
        request.reply()

    def change_root(self, request: Request) -> None:
        """Give a node another root: see :func:`harness.nodes.roots.change_root`."""
        kinds = ("user", "mnt") if self._user_namespaces else ("mnt",)
        where = [f"/proc/{request['pid']}/ns/{kind}" for kind in kinds]
        report_read, report_write = os.pipe()
        if os.fork() == 0:
            os.close(report_read)
            run_forked(lambda: change_root(where, request.fields), report_write)
        os.close(report_write)
        with open(report_read, "rb") as report:
            said = report.read()
        if said:
            request.fail(said.decode(errors="replace"), errno.EPERM)
        else:
            request.reply()

    def _become_parent(self, channel: int, report: int, wanted: Fields) -> None:
        flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
        if self._user_namespaces:
            flags |= CLONE_NEWUSER
        unshare(flags)
        ready_read, ready_write = os.pipe()
        child = os.fork()
        if child == 0:
            for there, fd in ((NODE_CHANNEL, channel), (NODE_REPORT, ready_write)):
                os.dup2(fd, there)
            run_forked(lambda: become_node(wanted), NODE_REPORT)
        os.close(ready_write)
        with open(ready_read, "rb") as ready:
            said = ready.read()
        os.write(report, said or b"pid %d" % child)


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


def become_node(wanted: Fields) -> None:
    """In the first process of a new node: put its root together, then serve as its agent."""
    signal.set_wakeup_fd(-1)
    os.closerange(NODE_REPORT + 1, os.sysconf("SC_OPEN_MAX"))
    enter_root(wanted["lower"], wanted["size"], wanted["files"])
    set_hostname(wanted["name"])
    write_anew("/etc/hosts", hosts_file(wanted["name"]), 0o644)
    quieten()
    ignore_what_ports_hear()
    enter_environment()
    agent = Agent(socket.socket(fileno=os.dup(NODE_CHANNEL)))
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(NODE_REPORT)
    agent.serve()


def main(channel: int, hand: int, harness: int, by_main_thread: int) -> None:
    """Enter namespaces of our own, then serve ``channel`` as the first process of them, for as long
    as the process ``harness``, our parent, lives."""
    if by_main_thread:
        # The kernel kills us even when we have stopped. It does so at the end of the thread that
        # started us, so that for any other thread we watch the process ourselves.
        die_with_parent()
    parent = os.pidfd_open(harness)
    if os.getppid() != harness:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    user_namespaces = os.geteuid() != 0
    flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC
    try:
        unshare(flags | (CLONE_NEWUSER if user_namespaces else 0))
    except OSError as error:
        refuse(channel, f"no namespaces: {error.strerror}", error.errno or 0)
    first = os.fork()
    if first:
        os.close(channel)
        os.close(hand)
        watch_over(first, parent)
    os.close(parent)
    die_with_parent()
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    quieten()
    agent = Agent(socket.socket(fileno=channel))
    handed = socket.socket(fileno=hand)
    agent.offer(Launcher(agent.children, agent.spaces, handed, user_namespaces).operations)
    agent.serve()
    os._exit(0)


def watch_over(child: int, parent: int) -> NoReturn:
    """Wait for the child, or kill it when the process of the pidfd ``parent`` ends; end with it."""
    either = select.poll()
    for fd in (os.pidfd_open(child), parent):
        either.register(fd, select.POLLIN)
    either.poll()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def refuse(channel: int, said: str, number: int) -> None:
    """Answer the greeting with an error, as the agent would have, and end."""
    head = json.dumps({"id": 1, "error": said, "errno": number}).encode()
    os.write(channel, struct.pack("!II", len(head), len(head)) + head)
    os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
