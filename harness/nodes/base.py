"""What a node is to the rest of the harness: commands, files, links, frames."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


class NodeError(RuntimeError):
    """A node could not do what was asked; the message says what was under way.

    ``errno`` is the system's error number where it was a system call that failed, else 0.
    """

    errno: int = 0


class NodeLost(NodeError):
    """The node's channel closed, or it did not answer within its bound."""


class CommandFailed(NodeError):
    """A command in a node ended with a non-zero exit status."""

    def __init__(self, done: Completed) -> None:
        self.done = done
        said = (done.stderr.strip() or done.stdout.strip() or "(it printed nothing)")[-4000:]
        super().__init__(f"{done.node}: `{shlex.join(done.argv)}` exited {done.status}: {said}")


class Completed(NamedTuple):
    """A command that has ended. ``duration`` is in seconds."""

    node: str
    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    duration: float
    host: str | None = None

    def check(self) -> Completed:
        """Return self, or raise :class:`CommandFailed` when the exit status is not 0."""
        if self.status != 0:
            raise CommandFailed(self)
        return self


class Pending(Protocol):
    """An answer that is on its way."""

    def result(self, timeout: float | None = None) -> Any: ...


class Question(NamedTuple):
    """One of several JSON-RPC requests (:meth:`Node.json_rpc_all_soon`)."""

    method: str
    after: Sequence[int] = ()
    """The places in the list of those that have to be answered before."""
    line: int = 0
    """Numbers connections to the same socket."""
    may_fail: bool = False
    """Whether an error is an answer like any other; the result is then None."""
    times: int = 1
    """How often it is asked, all at once; the result is the last one's."""


class Node(Protocol):
    """A sandbox with its own network stack, files and processes.

    Every call is one message to the node's agent. A method ending in ``_soon`` does not
    wait: it returns a :class:`Pending`, so that many nodes work at the same time.
    """

    name: str
    patience: float
    """How many times as long as usual what is done in it may take."""

    @property
    def commands(self) -> Sequence[Completed]:
        """Every command that was run in this node so far, in order of completion."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` (never through a shell) and wait; ``host`` names a network namespace of
        :meth:`add_host`. Raise :class:`CommandFailed` on a non-zero status when ``check``,
        :class:`NodeLost` when the node is gone or ``timeout`` (seconds) passed: the command is
        then killed and the message says what it had printed."""

    def run_soon(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Pending:
        """Like :meth:`run`, not waiting; the result is a :class:`Completed`, never checked."""

    def output(self, argv: Sequence[str], *, timeout: float = 30.0) -> tuple[int, bytes, bytes]:
        """Like :meth:`run`, never checked: exit status, and what was written to standard output
        and standard error, as it was written."""

    def read_file(self, path: str) -> bytes:
        """The content of a file. Raise :class:`NodeError` naming the path and errno."""

    def read_files(self, paths: Sequence[str]) -> list[bytes | None]:
        """Several files in one message; None where one could not be read."""

    def read_files_soon(self, paths: Sequence[str]) -> Pending:
        """Like :meth:`read_files`, not waiting."""

    def write_file(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        """Write a file whole."""

    def json_rpc(self, path: str, method: str, params: list[Any], timeout: float = 10.0) -> Any:
        """One JSON-RPC 1.0 request over the unix socket at ``path`` in the node (the agent keeps
        the connection). Return its ``result``; raise :class:`NodeError` with its ``error``."""

    def json_rpc_soon(
        self, path: str, method: str, params: list[Any], timeout: float = 10.0, *, line: int = 0
    ) -> Pending:
        """Like :meth:`json_rpc`, not waiting; ``line`` numbers connections to the same socket."""

    def json_rpc_all_soon(
        self, path: str, questions: Sequence[Question], timeout: float = 10.0
    ) -> Pending:
        """Several JSON-RPC requests in one message, each asked as soon as those are answered that
        it comes after. Not waited for; the result is the list of their results."""

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once when the node has ended."""

    def close(self) -> None:
        """End the node and everything in it. Idempotent."""
