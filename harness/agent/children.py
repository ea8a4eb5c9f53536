"""Child processes. The first process of a PID namespace has all that end there as its children, so
that the agent waits for any."""

from __future__ import annotations

import os
import signal
from typing import Callable

from .loop import Loop


class Children:
    """Tells when a child has ended. To be made in the main thread, once a process (signal(7))."""

    def __init__(self, loop: Loop) -> None:
        self._waiting: dict[int, Callable[[int], None]] = {}
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        loop.watch(wake_read, self._reap, wake_read)

    def when_ended(self, pid: int, action: Callable[[int], None]) -> None:
        """Call ``action`` with the status (wait(2)) of this child once it has ended. To be asked
        before the loop goes on: a child that has ended already is forgotten then."""
        self._waiting[pid] = action

    def _reap(self, wake: int) -> None:
        os.read(wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # Those that nobody waits for are orphans, of commands or of nodes.
            action = self._waiting.pop(pid, None)
            if action is not None:
                action(status)
