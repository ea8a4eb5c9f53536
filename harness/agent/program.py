"""The agent as a program: on a stream at file descriptor 0, on two pipes, or on a device."""

from __future__ import annotations

import os
import socket
import sys

from .agent import Agent
from .environment import enter_environment
from .looks import count_idling
from .machine import keep_up
from .quiet import be_a_node


class Files:
    """Two files as a stream, or one that is both: what comes is read from the first, what goes is
    written to the second."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink

    def setblocking(self, flag: bool) -> None:
        os.set_blocking(self.source, flag)
        os.set_blocking(self.sink, flag)

    def fileno(self) -> int:
        return self.source

    def recv(self, size: int) -> bytes:
        return os.read(self.source, size)

    def sendmsg(self, buffers: list[memoryview]) -> int:
        return os.writev(self.sink, buffers)


def main() -> None:
    """Serve the device that is named, the pipes on file descriptors 0 and 1 (``-``, and ``node``
    where the network namespace is all a node's), or the stream on file descriptor 0."""
    enter_environment()
    if len(sys.argv) == 1:
        Agent(socket.socket(fileno=os.dup(0))).serve()
        return
    if sys.argv[1] == "-":
        os.umask(0o022)
        if sys.argv[2:] == ["node"]:
            be_a_node()
        serve_pipes()
        return
    # The first process of a machine that is a node and nothing else.
    os.umask(0o022)
    be_a_node()
    keep_up()
    # A port of a virtual machine's serial line.
    device = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    agent = Agent(Files(device, device))
    agent.looks.counts_idling = count_idling()
    agent.serve()


def serve_pipes() -> None:
    """Serve standard input and output, which nothing that is started from here has as its own."""
    pipes = Files(os.dup(0), os.dup(1))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    Agent(pipes, pipes.sink).serve()
