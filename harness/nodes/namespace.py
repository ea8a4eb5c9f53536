"""The namespace backend: nodes made of Linux namespaces, with or without root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.agent.agent import PATH
from harness.nodes import processes
from harness.nodes.base import NodeError
from harness.nodes.channel import Channel
from harness.nodes.remote import RemoteNode

LAYER_SIZE = "1g"
"""At most this much can be written in a node; only what is written takes memory."""


class NamespaceNode(RemoteNode):
    """A node in PID, mount, network, UTS and IPC namespaces, and without root a user namespace."""

    def __init__(self, name: str, channel: Channel, pid: int, space: str, launcher: int) -> None:
        super().__init__(name, channel, pid)
        self.space = space
        """What the launcher calls the node's own network namespace."""
        self._launcher = launcher
        """The process id of the launcher, in this process's own PID namespace."""

    def shell_argv(self, host: str | None = None, terminal: str = "") -> list[str]:
        """A command for this machine that opens a shell in the node, or in the network namespace
        of one of its hosts (nsenter(1)). ``terminal`` is what ``TERM`` is to be, if not what it is
        here.

        Raise :class:`NodeError` when the node has ended, or has no such host.
        """
        found = self.channel.ask("spaces", {}, what="find its network namespaces").result()
        if host is not None and host not in found["spaces"]:
            raise NodeError(f"{self.name}: there is no host {host!r}")
        descriptor = found["home"] if host is None else found["spaces"][host]
        pid = processes.find_node(self._launcher, self.pid)
        if pid is None:
            raise NodeError(f"{self.name}: its first process can't be seen from here")
        users = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        enter = ["nsenter", "-t", str(pid), *users, "-m", "-u", "-i", "-p"]
        network = f"--net=/proc/{pid}/fd/{descriptor}"
        # bash puts the name in as it is: what a variable holds is not expanded again.
        place = self.name if host is None else f"{host}@{self.name}"
        environment = {
            "TERM": terminal or os.environ.get("TERM", "dumb"),
            "PATH": PATH,
            "HOME": "/root",
            "PLACE": place,
            "PS1": r"$PLACE:\w\$ ",
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        return [*enter, network, "/usr/bin/env", "-i", *settings, "/bin/bash", "--norc"]


class Fabric:
    """The launcher, seen from the harness: starts nodes, and holds underlays with many ends.

    Nothing that is made through it outlives it, and it does not outlive this process.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._hand, hand = socket.socketpair()
        with theirs, hand:
            self.process = _spawn(theirs.fileno(), hand.fileno())
        channel = Channel("launcher", ours)
        try:
            greeting = channel.ask("hello", {}, what="start the launcher").result()
        except NodeError as error:
            channel.close()
            self._hand.close()
            self.process.wait()
            raise NodeError(
                f"cannot make namespaces on this machine: {error}; `ovs-harness doctor` says more"
            ) from error
        self.node = RemoteNode("launcher", channel, greeting["pid"])

    def start_node(
        self, name: str, lower: Sequence[Path], files: Mapping[str, str] | None = None
    ) -> NamespaceNode:
        """Start a node whose root is ``lower`` (directories, top first) under a throw-away layer.

        ``files`` (path to text) are laid over it, executable. Raises :class:`NodeError` with what
        the kernel refused.
        """
        ours, theirs = socket.socketpair()
        # That the launcher has ended is told by the request.
        with theirs, suppress(OSError):
            socket.send_fds(self._hand, [b"."], [theirs.fileno()])
        request = {
            "name": name,
            "lower": [str(path) for path in lower],
            "size": LAYER_SIZE,
            "files": dict(files or {}),
        }
        answer = self.node.channel.ask("start_node", request, what=f"start node {name}")
        try:
            started = answer.result()
        except NodeError:
            ours.close()
            raise
        channel = Channel(name, ours)
        return NamespaceNode(name, channel, started["pid"], started["space"], self.process.pid)

    def close(self) -> None:
        """End the launcher and with it everything it started. Idempotent."""
        self.node.close()
        self._hand.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def _spawn(channel: int, hand: int) -> subprocess.Popen[bytes]:
    """Start the launcher on its channel and the socket by which it is handed nodes' channels."""
    command = [sys.executable, "-P", "-m", "harness.nodes.launcher", str(channel), str(hand)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=(channel, hand),
        cwd="/",
        # Ctrl-C is for this process, which still has labs to look at and to end.
        start_new_session=True,
    )
