"""What runs on a remote machine: it makes a sandbox there, and is its agent. Carried over, never
imported by the harness itself; nothing but the standard library of Python 3.9 and its neighbours.

The sandbox's root is the machine's own system, of which it changes nothing. It ends with the stream
that it is driven by: the first process of its PID namespace is killed as soon as nobody is at the
other end, and the kernel ends the rest, and the network namespaces with what is in them.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys

from harness.agent.agent import Agent
from harness.agent.program import Files
from harness.agent.requests import Fields, Operations, Request
from harness.agent.spaces import Spaces
from harness.agent.underlays import SPACE, ipv4_addresses
from harness.nodes.roots import enter_machine
from harness.nodes.sandbox import (
    CLONE_NEWUSER,
    NODE,
    die_with_parent,
    furnish,
    run_forked,
    serve,
    unshare,
    watch_over,
)

REPORT = 2
"""Where it says what went wrong before it serves: ssh passes it on."""
LOOPBACK = "127."


class Places:
    """Says where ends of underlays are to be reached: in the machine's own network namespace."""

    def __init__(self, spaces: Spaces, network: int, address: str, user_namespace: bool) -> None:
        spaces.take(SPACE, network)
        self._spaces, self._address = spaces, address
        self._user_namespace = user_namespace
        self.operations: Operations = {"underlay_places": self.find}

    def find(self, request: Request) -> None:
        """Answer with the machine's address, and with ``count`` UDP ports that are free there."""
        if self._user_namespace:
            raise OSError(
                errno.EPERM,
                "an underlay's end is an interface in the machine's own network, which only root "
                "can make: log in as root",
            )
        # All are open at the same time, so that each is another one.
        sockets = []
        with self._spaces.inside(SPACE):
            for _ in range(request["count"]):
                sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].bind(("", 0))
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        request.reply({"address": self._address, "ports": ports})


def own_address(connection: str) -> str:
    """The IPv4 address that others reach this machine by: where ssh's connection came in
    (``SSH_CONNECTION``, ssh(1)), or else the first one; that of the loopback interface where there
    is no other."""
    words = connection.split()
    found = [words[2]] if len(words) == 4 and words[2].count(".") == 3 else []
    found += [socket.inet_ntoa(packed) for _name, packed in ipv4_addresses()]
    away = [address for address in found if not address.startswith((LOOPBACK, "169.254."))]
    return away[0] if away else "127.0.0.1"


def become_node(wanted: Fields, network: int, address: str, user_namespace: bool) -> None:
    """In the first process of the sandbox: put its root together, then serve as its agent."""
    die_with_parent()
    enter_machine(wanted["own"], wanted["links"], wanted["size"], wanted["files"])
    furnish(wanted["name"])
    pipes = Files(os.dup(0), os.dup(1))
    agent = Agent(pipes, pipes.sink)
    agent.offer(Places(agent.spaces, network, address, user_namespace).operations)
    serve(agent)


def main(wanted: Fields) -> None:
    """Make a sandbox whose agent serves standard input and output, and end with it. ``wanted`` is
    its ``name``, and what :func:`~harness.nodes.roots.enter_machine` takes."""
    # What we were carried in is open: programs in the node would have it too.
    os.closerange(REPORT + 1, os.sysconf("SC_OPEN_MAX"))
    network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    address = own_address(os.environ.get("SSH_CONNECTION", ""))
    user_namespace = os.geteuid() != 0
    try:
        unshare(NODE | (CLONE_NEWUSER if user_namespace else 0))
    except OSError as error:
        sys.exit(f"no namespaces: {error.strerror}")
    child = os.fork()
    if child == 0:
        run_forked(lambda: become_node(wanted, network, address, user_namespace), REPORT)
    # Also when the agent has stopped and would never see it.
    watch_over(child, {0: select.POLLRDHUP})
