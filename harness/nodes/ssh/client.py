"""Nodes on remote machines, as the harness sees them: each at the end of an ssh of its own.

That is the user's own ssh(1), with his keys, known hosts and settings.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import harness.nodes
from harness.agent import carried
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import ENDED, Answer, Channel
from harness.nodes.namespace import LAYER_SIZE
from harness.nodes.programs import ending_with_us
from harness.nodes.remote import RemoteNode
from harness.nodes.ssh.words import explained

SHIPPED = ("mounts", "machine", "roots", "sandbox", "ssh/there")
"""What goes over beside the agent, by its path in this room."""
MAIN = "from harness.nodes.ssh.there import main\n\nmain({})\n"
CONNECT_BOUND = 15
"""Seconds that a machine may take to answer at all."""
START_BOUND = 60.0
"""Seconds from the beginning until a node's agent serves."""
ALIVE_EVERY, ALIVE_MISSED = 2, 4
"""ssh asks every so many seconds whether the machine is still there, and takes it for lost when so
many questions have gone unanswered: about when a node that does not answer is."""
END_BOUND = 10.0
"""Seconds that a node may take to end before its ssh is killed; the machine then notices it by the
end of the connection."""
OPTIONS = {
    # It asks nobody anything.
    "BatchMode": "yes",
    "ConnectTimeout": CONNECT_BOUND,
    "ServerAliveInterval": ALIVE_EVERY,
    "ServerAliveCountMax": ALIVE_MISSED,
    # What is kept up for others would outlive us, and a connection that is shared does not say
    # when the machine is lost.
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
}


class Order(NamedTuple):
    """What a node shall be."""

    own: Sequence[str]
    """Directories of the machine's own system that it has for itself, empty at first."""
    links: Mapping[str, str]
    """Symbolic links of its own, and where they lead."""
    files: Mapping[str, str]
    """Laid over the machine's own, executable: path to text."""


def modules() -> dict[str, bytes]:
    """The content of each module that is sent, by its path in the archive."""
    room = Path(harness.nodes.__path__[0])
    packages = ("harness", "harness/nodes", "harness/nodes/ssh")
    files = {f"{package}/__init__.py": b"" for package in packages}
    files |= {f"harness/{path}": content for path, content in carried.modules().items()}
    return files | {f"harness/nodes/{one}.py": (room / f"{one}.py").read_bytes() for one in SHIPPED}


def _program(name: str, order: Order) -> bytes:
    wanted = {
        "name": name,
        "own": list(order.own),
        "links": dict(order.links),
        "files": dict(order.files),
        "size": LAYER_SIZE,
    }
    files = {"__main__.py": MAIN.format(repr(wanted)).encode(), **modules()}
    return carried.archive(files, zipfile.ZIP_DEFLATED)


def command_line(machine: str) -> list[str]:
    """The ssh that begins an agent on a machine, whatever shell the user has there."""
    options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
    boot = f"exec(bytes.fromhex('{carried.BOOT.encode().hex()}'))"
    return ["ssh", "-T", *options, "--", f"ssh://{machine}", f'exec python3 -I -c "{boot}"']


class Connection:
    """One ssh to a machine. It ends with this process."""

    def __init__(self, machine: str, stream: socket.socket) -> None:
        """Start it; ``stream`` is its end, still to be closed here. Raise :class:`NodeError`."""
        self.machine = machine
        if shutil.which("ssh") is None:
            raise NodeError(
                f"{machine} is reached by ssh, which is not installed here: "
                "`sudo apt-get install openssh-client`"
            )
        # A pipe would have to be read all the time, or ssh waits once it is full.
        self._printed = os.fdopen(os.memfd_create("printed"), "w+b")
        line = ending_with_us(command_line(machine))
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                line,
                stdin=stream.fileno(),
                stdout=stream.fileno(),
                stderr=self._printed,
                start_new_session=True,
            )
        except OSError as error:
            self._printed.close()
            raise NodeError(f"cannot start {line[0]} for {machine}: {error.strerror}") from None

    def fate(self) -> str:
        """What ended it, in words. To be asked for when its stream has ended."""
        try:
            status = self.process.wait(timeout=END_BOUND)
        except subprocess.TimeoutExpired:
            return f"the ssh to {self.machine} does not end"
        if status < 0:
            return f"the ssh to {self.machine} was ended by {signal.Signals(-status).name}"
        return explained(self.machine, self._said(), status)

    def _said(self) -> str:
        if self._printed.closed:
            return ""
        self._printed.seek(0)
        return self._printed.read().decode(errors="replace")

    def close(self) -> None:
        """Wait until it has ended, its stream having been closed, or end it. Idempotent."""
        try:
            self.process.wait(timeout=END_BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._printed.close()


class SshNode(RemoteNode):
    """A node on a remote machine: a sandbox of its own there."""

    def __init__(self, name: str, channel: Channel, connection: Connection) -> None:
        super().__init__(name, channel, pid=1)
        self._connection = connection
        self.clock = connection.machine
        channel.last_words = self._last_words

    @property
    def machine(self) -> str:
        """Where it is, as ssh is told."""
        return self._connection.machine

    @property
    def process(self) -> int:
        """The process id of its ssh."""
        return self._connection.process.pid

    def find_places(self, count: int) -> Answer:
        """Where ends of underlays at this node are to be reached, not waited for. Value: the
        machine's ``address``, and ``count`` free UDP ``ports``."""
        what = "find places for ends of underlays"
        return self.channel.ask("underlay_places", {"count": count}, what=what)

    def _last_words(self) -> str:
        return "" if self.channel.lost is None else f"; {self._connection.fate()}"

    def close(self) -> None:
        """Let the node end, and everything in it, and do not wait for it: :meth:`wait` does, so
        that many end at the same time. Idempotent."""
        self.channel.last_words = str
        super().close()

    def wait(self) -> None:
        """Wait until a node that was closed has ended. Idempotent."""
        self._connection.close()


class Starting:
    """A node that is being started."""

    def __init__(self, name: str, machine: str, order: Order) -> None:
        """Begin to start it. Raise :class:`NodeError` when there is no ssh here."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                connection = Connection(machine, theirs)
            except BaseException:
                ours.close()
                raise
        # There is room for all of it: nobody reads before ssh has logged in. That ssh has ended is
        # told by the request.
        with suppress(OSError):
            ours.sendall(carried.shipped(_program(name, order)))
        channel = Channel(name, ours)
        self._node = SshNode(name, channel, connection)
        self._connection = connection
        self._greeting = channel.ask("hello", {}, what=f"start on {machine}", bound=START_BOUND)

    def result(self) -> SshNode:
        """The node, once its agent serves. To be asked for once; raises :class:`NodeError`."""
        try:
            self._greeting.result()
        except NodeLost:
            said = self._why()
            self.close()
            raise NodeError(said) from None
        except BaseException:
            self.close()
            raise
        return self._node

    def _why(self) -> str:
        """Why no agent serves, and the way out."""
        machine, lost = self._connection.machine, self._node.channel.lost
        if lost is None:
            return f"{machine}: no agent serves there within {START_BOUND:g} s: is it overloaded?"
        if lost == ENDED:
            return self._connection.fate()
        return f"{machine}: {lost}; does a start-up file of the shell there (~/.bashrc) print it?"

    def close(self) -> None:
        """Give it up. Idempotent."""
        self._node.close()
        self._node.wait()
