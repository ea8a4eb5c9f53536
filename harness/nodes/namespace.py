"""The namespace backend: nodes made of Linux namespaces, with or without root."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.nodes import processes, shells
from harness.nodes.base import NodeError
from harness.nodes.channel import Answer, Channel
from harness.nodes.programs import spawn, started_by_main_thread
from harness.nodes.remote import RemoteNode

LAYER_SIZE = "1g"
"""At most this much can be written in a node; only what is written takes memory."""


class NamespaceNode(RemoteNode):
    """A node in PID, mount, network, UTS and IPC namespaces, and without root a user namespace."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        started: Mapping[str, Any],
        fabric: Fabric,
        files: Mapping[str, str],
    ) -> None:
        super().__init__(name, channel, started["pid"])
        self.space: str = started["space"]
        """What the launcher calls the node's own network namespace."""
        self._fabric = fabric
        self._files = files
        self._closed = False

    def close(self) -> None:
        """End the node and everything in it, also when its agent has stopped. Idempotent."""
        if not self._closed:
            self._closed = True
            super().close()
            self._fabric.end_node(self.pid)

    def change_root(self, lower: Sequence[Path], keep: Sequence[str]) -> None:
        """Give the node other directories (top first) as its root, with a new throw-away layer on
        them and the files that are laid over it. Its processes go on; they are in the new root, but
        what they have open is what it was. The directories ``keep`` (absolute paths) are as they
        were, and so is what a system needs to find, ``/run`` and ``/tmp`` among it.

        Raise :class:`NodeError` with what the kernel refused; the root is then what it was.
        """
        self._fabric.change_root(self.pid, lower, self._files, keep)

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
        pid = processes.find_node(self._fabric.process.pid, self.pid)
        if pid is None:
            raise NodeError(f"{self.name}: its first process can't be seen from here")
        users = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        enter = ["nsenter", "-t", str(pid), *users, "-m", "-u", "-i", "-p"]
        network = f"--net=/proc/{pid}/fd/{descriptor}"
        place = self.name if host is None else f"{host}@{self.name}"
        return [*enter, network, *shells.argv(place, terminal)]


class Starting:
    """A node that is being started."""

    def __init__(
        self,
        name: str,
        stream: socket.socket,
        answer: Answer,
        fabric: Fabric,
        files: Mapping[str, str],
    ) -> None:
        self._name, self._stream, self._answer = name, stream, answer
        self._fabric, self._files = fabric, files

    def result(self) -> NamespaceNode:
        """The node, once it is there. To be asked for once; raises :class:`NodeError`."""
        try:
            self._fabric.wait()
            started = self._answer.result()
        except NodeError:
            self._stream.close()
            raise
        channel = Channel(self._name, self._stream)
        return NamespaceNode(self._name, channel, started, self._fabric, self._files)


class Fabric:
    """The launcher, seen from the harness: starts nodes, and holds underlays with many ends.

    Nothing that is made through it outlives it, and it does not outlive this process.
    """

    def __init__(self) -> None:
        """Start the launcher, and do not wait until it is up: that is the first to ask it."""
        ours, theirs = socket.socketpair()
        self._hand, hand = socket.socketpair()
        with theirs, hand:
            self.process = _spawn(theirs.fileno(), hand.fileno())
        self._channel = Channel("launcher", ours)
        self._greeting = self._channel.ask("hello", {}, what="start the launcher")

    @cached_property
    def node(self) -> RemoteNode:
        """The launcher as a node. Raises :class:`NodeError` as :meth:`wait` does."""
        return RemoteNode("launcher", self._channel, self.wait())

    def wait(self) -> int:
        """Wait until the launcher is up; return its process id in its own namespace. Raises
        :class:`NodeError` when this machine has no namespaces for it."""
        try:
            pid: int = self._greeting.result()["pid"]
        except NodeError as error:
            self.close()
            raise NodeError(
                f"cannot make namespaces on this machine: {error}; `ovs-harness doctor` says more"
            ) from error
        return pid

    def start_node(
        self, name: str, lower: Sequence[Path], files: Mapping[str, str] | None = None
    ) -> NamespaceNode:
        """:meth:`start_node_soon`, waited for."""
        return self.start_node_soon(name, lower, files).result()

    def start_node_soon(
        self, name: str, lower: Sequence[Path], files: Mapping[str, str] | None = None
    ) -> Starting:
        """Begin to start a node whose root is ``lower`` (directories, top first) under a
        throw-away layer.

        ``files`` (path to text) are laid over it, executable. Waiting for it raises
        :class:`NodeError` with what the kernel refused.
        """
        ours, theirs = socket.socketpair()
        # That the launcher has ended is told by the request.
        with theirs, suppress(OSError):
            socket.send_fds(self._hand, [b"."], [theirs.fileno()])
        laid = dict(files or {})
        request = {"name": name, **_root(lower, laid)}
        answer = self._channel.ask("start_node", request, what=f"start node {name}")
        return Starting(name, ours, answer, self, laid)

    def change_root(
        self, pid: int, lower: Sequence[Path], files: Mapping[str, str], keep: Sequence[str]
    ) -> None:
        """See :meth:`NamespaceNode.change_root`, for the node of this process id."""
        request = {"pid": pid, "keep": list(keep), **_root(lower, files)}
        self._channel.ask("change_root", request, what="change a node's root").result()

    def end_node(self, pid: int) -> None:
        """Have the launcher kill a node, known by its process id there; not waited for."""
        self._channel.ask("end_node", {"pid": pid}, what="end a node")

    def close(self) -> None:
        """End the launcher and with it everything it started. Idempotent."""
        self._channel.close()
        self._hand.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def _root(lower: Sequence[Path], files: Mapping[str, str]) -> dict[str, Any]:
    """What a root is made of, for the launcher."""
    return {"lower": [str(path) for path in lower], "size": LAYER_SIZE, "files": dict(files)}


def _spawn(channel: int, hand: int) -> subprocess.Popen[bytes]:
    """Start the launcher on its channel and the socket by which it is handed nodes' channels."""
    arguments = [channel, hand, os.getpid(), int(started_by_main_thread())]
    return spawn("harness.nodes.launcher", arguments, [channel, hand])
