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

from harness.agent.agent import Agent
from harness.agent.children import Children
from harness.agent.libc import CLONE_NEWNET
from harness.agent.quiet import quieten
from harness.agent.requests import Fields, Operations, Request
from harness.agent.spaces import Spaces
from harness.nodes.mounts import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC, mount
from harness.nodes.roots import change_root, enter_root
from harness.nodes.sandbox import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    NODE,
    die_with_parent,
    furnish,
    run_forked,
    serve,
    unshare,
    watch_over,
)

NODE_CHANNEL, NODE_REPORT = 0, 3
"""Descriptors in a new node: its stream, and where it says what went wrong before it serves."""


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
        unshare(NODE | (CLONE_NEWUSER if self._user_namespaces else 0))
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


def become_node(wanted: Fields) -> None:
    """In the first process of a new node: put its root together, then serve as its agent."""
    signal.set_wakeup_fd(-1)
    os.closerange(NODE_REPORT + 1, os.sysconf("SC_OPEN_MAX"))
    enter_root(wanted["lower"], wanted["size"], wanted["files"])
    furnish(wanted["name"])
    agent = Agent(socket.socket(fileno=os.dup(NODE_CHANNEL)))
    os.close(NODE_REPORT)
    serve(agent)


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
        watch_over(first, {parent: select.POLLIN})
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


def refuse(channel: int, said: str, number: int) -> None:
    """Answer the greeting with an error, as the agent would have, and end."""
    head = json.dumps({"id": 1, "error": said, "errno": number}).encode()
    os.write(channel, struct.pack("!II", len(head), len(head)) + head)
    os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
