"""Commands: run, watched, ended, and told of."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import Iterator

from .channel import Channel
from .children import Children
from .loop import Loop
from .requests import Operations, Request
from .spaces import Spaces

OUTPUT_LIMIT = 16 << 20
"""Of a command's output on each stream, the last so many bytes are kept."""
PRINT_LIMIT = 256 << 20
"""A command that prints more on one stream is killed: its output is kept in memory."""
PRINT_WATCH = 0.05
"""Seconds between looks at how much the commands under way have printed."""


class Command:
    """A command under way. Its output goes to memory files, so that nothing can block on a pipe."""

    def __init__(
        self, request: Request, argv: list[str], env: dict[str, str] | None, stdin: bytes
    ) -> None:
        self.request = request
        self.followed = False
        """Whether what it prints is told as it comes."""
        self.told = [0, 0]
        self.timed_out = self.too_much = False
        self.files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
        if stdin:
            rest = memoryview(stdin)
            while rest:
                rest = rest[os.write(self.files[0], rest) :]
            os.lseek(self.files[0], 0, os.SEEK_SET)
        self.started = time.monotonic()
        environment = dict(os.environ)
        environment.update(env or {})
        try:
            self.pid = os.posix_spawnp(
                argv[0],
                argv,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(self.files)],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ),
            )
        except (OSError, ValueError):
            self.close()
            raise

    def sizes(self) -> list[int]:
        """How many bytes the command wrote to its standard output and error so far."""
        return [os.fstat(fd).st_size for fd in self.files[1:]]

    def fresh(self) -> Iterator[tuple[int, bytes]]:
        """What the command wrote since the last call, and on which descriptor: 1 or 2."""
        for place, size in enumerate(self.sizes()):
            told = self.told[place]
            data = os.pread(self.files[place + 1], max(0, size - told), told)
            self.told[place] += len(data)
            if data:
                yield place + 1, data

    def output(self) -> tuple[bytes, bytes]:
        """What the command wrote to its standard output and error so far, or the end of it."""
        return tuple(self._content(fd) for fd in self.files[1:])  # type: ignore[return-value]

    @staticmethod
    def _content(fd: int) -> bytes:
        size = os.fstat(fd).st_size
        return os.pread(fd, min(size, OUTPUT_LIMIT), max(0, size - OUTPUT_LIMIT))

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)


class Commands:
    """Runs commands and tells what they printed and how they ended."""

    def __init__(self, loop: Loop, channel: Channel, children: Children, spaces: Spaces) -> None:
        self._loop, self._channel = loop, channel
        self._children, self._spaces = children, spaces
        self._commands: dict[int, Command] = {}
        """Those under way, by their process ids."""
        self._watching = False
        """Whether somebody will look at how much they have printed."""
        self.operations: Operations = {"run": self.run, "run_end": self.kill}

    def run(self, request: Request) -> None:
        """Run ``argv`` with the blob as its standard input; the answer comes when it has ended."""
        with self._spaces.inside(request.get("netns")):
            command = Command(request, request["argv"], request.get("env"), request.blob)
        command.followed = request.get("follow", False)
        self._commands[command.pid] = command
        self._children.when_ended(command.pid, partial(self._ended, command))
        if not self._watching:
            self._watching = True
            self._loop.after(PRINT_WATCH, self._watch_output)
        if request["timeout"] is not None:
            self._loop.after(request["timeout"], partial(self._overdue, command))

    def kill(self, request: Request) -> None:
        """Kill a command that is no longer wanted; ``run`` is the id of the request to run it."""
        for command in self._commands.values():
            if command.request.number == request["run"]:
                os.killpg(command.pid, signal.SIGKILL)
        request.reply()

    def _overdue(self, command: Command) -> None:
        if self._commands.get(command.pid) is command:
            command.timed_out = True
            os.killpg(command.pid, signal.SIGKILL)

    def _watch_output(self) -> None:
        for command in self._commands.values():
            self._tell(command)
            if max(command.sizes()) > PRINT_LIMIT and not command.too_much:
                command.too_much = True
                os.killpg(command.pid, signal.SIGKILL)
        self._watching = bool(self._commands)
        if self._watching:
            self._loop.after(PRINT_WATCH, self._watch_output)

    def _tell(self, command: Command) -> None:
        """Pass on what a followed command wrote since the last time."""
        run = command.request.number
        for descriptor, data in command.fresh() if command.followed else ():
            self._channel.post({"event": "output", "run": run, "descriptor": descriptor}, data)

    def _ended(self, command: Command, status: int) -> None:
        del self._commands[command.pid]
        self._tell(command)
        left_out = [max(0, size - OUTPUT_LIMIT) for size in command.sizes()]
        out, err = (b"", b"") if command.followed else command.output()
        command.close()
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        command.request.reply(
            {
                "status": code,
                "timed_out": command.timed_out,
                "too_much": command.too_much,
                "left_out": left_out,
                "seconds": time.monotonic() - command.started,
                "out": len(out),
            },
            out + err,
        )
