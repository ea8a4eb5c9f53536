"""Nodes as hosts of testinfra, whose commands go over the agent.

Importing this module loads testinfra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from harness.nodes.base import Node

Run = Callable[[Sequence[str]], tuple[int, bytes, bytes]]
"""Runs a command to its end: exit status, standard output and standard error."""


class AgentBackend(BaseBackend):  # type: ignore[misc]
    """A connection of testinfra's to a place where an agent runs commands."""

    NAME = "agent"

    def __init__(self, name: str, run: Run, **options: Any) -> None:
        super().__init__(name, **options)
        self._run = run

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run a command line with the node's shell; each of ``args`` is quoted into it."""
        del kwargs
        line = self.get_command(command, *args)
        status, out, err = self._run(["/bin/sh", "-c", line])
        return self.result(status, self.encode(line), out, err)


def host_of(node: Node) -> Host:
    """A node as a host of testinfra. It remembers what it found out about the system: take a new
    one after an upgrade."""
    return Host(AgentBackend(node.name, node.output))
