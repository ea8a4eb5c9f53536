"""The agent as a program: on a stream that is file descriptor 0, or on a machine's own device."""

from __future__ import annotations

import os
import socket
import sys

from .agent import Agent
from .environment import enter_environment
from .looks import count_idling
from .machine import keep_up
from .quiet import ignore_what_ports_hear, quieten


class Device:
    """A character device as a stream: a port of a virtual machine's serial line."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def setblocking(self, _flag: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        return self.fd

    def recv(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def sendmsg(self, buffers: list[memoryview]) -> int:
        return os.writev(self.fd, buffers)


def main() -> None:
    """Serve the device that is named, or the stream on file descriptor 0."""
    enter_environment()
    if len(sys.argv) == 1:
        Agent(socket.socket(fileno=os.dup(0))).serve()
        return
    # The first process of a machine that is a node and nothing else.
    quieten()
    ignore_what_ports_hear()
    keep_up()
    os.umask(0o022)
    agent = Agent(Device(sys.argv[1]))
    agent.looks.counts_idling = count_idling()
    agent.serve()
