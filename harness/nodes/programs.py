"""Starts programs that end with this process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence


def started_by_main_thread() -> bool:
    """Whether the kernel will not end a child too early when asked to end it with its parent: it
    does so at the end of the thread that started it (prctl(2), PR_SET_PDEATHSIG)."""
    return threading.current_thread() is threading.main_thread()


def ending_with_us(line: list[str]) -> list[str]:
    """A command that the kernel ends when this process ends (setpriv(1)), and that does not begin
    when this process has ended before the kernel was told. Where the kernel would end it too early,
    it has to end by itself, with the streams that this process has to it."""
    if not started_by_main_thread():
        return line
    begin = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]
    return ["setpriv", "--pdeathsig", "KILL", *begin, *line]


def spawn(
    module: str, arguments: Sequence[object], inherited: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Run a module as a program, with the file descriptors that it inherits."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        cwd="/",
        # Ctrl-C is for this process, which still has labs to look at and to end.
        start_new_session=True,
    )
