"""A host of a lab, as a scenario handles it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.lab.plan import Endpoint
from harness.nodes.base import Completed, Pending
from harness.nodes.remote import RemoteNode


class Host:
    """A traffic endpoint: a network namespace with one interface, ``eth0``."""

    def __init__(self, endpoint: Endpoint, node: RemoteNode) -> None:
        self._endpoint = endpoint
        self._node = node

    @property
    def name(self) -> str:
        """Its name, unique in the lab."""
        return self._endpoint.name

    @property
    def mac(self) -> str:
        """The MAC address of its interface."""
        return self._endpoint.mac

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its IP addresses with prefix length, as the topology gives them."""
        return self._endpoint.addresses

    def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        check: bool = True,
    ) -> Completed:
        """Run a command in the host, as ordinary kernel traffic needs it: ``ping``, ``nc``.

        A string is split into words as a shell would, and never given to one. Raise
        :class:`~harness.nodes.base.CommandFailed` on a non-zero exit status when ``check``.
        """
        return self._node.run(
            _words(command),
            stdin=stdin,
            timeout=timeout,
            host=self._endpoint.space,
            check=check,
        )

    def start(
        self, command: str | Sequence[str], *, stdin: str | bytes = b"", timeout: float = 30.0
    ) -> Pending:
        """Like :meth:`run`, not waiting: the result is the ended command, not checked."""
        return self._node.run_soon(
            _words(command), stdin=stdin, timeout=timeout, host=self._endpoint.space
        )

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.mac}>"


def _words(command: str | Sequence[str]) -> Sequence[str]:
    return shlex.split(command) if isinstance(command, str) else command
