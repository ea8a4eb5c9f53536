"""Jobs that mostly wait for the kernel, done side by side: the one use of threads."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, List

from .loop import Loop
from .requests import Job

AT_ONCE = 64
"""Threads at most that wait for the kernel at the same time."""


class SideBySide:
    """Does jobs in threads of their own."""

    def __init__(self, loop: Loop) -> None:
        self._finished: list[Job] = []
        self._finishing = threading.Lock()
        wake_read, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.watch(wake_read, self._finish, wake_read)

    def do(self, jobs: List[Job], finish: Callable[[List[Any]], None]) -> list[threading.Thread]:
        """Do ``jobs``, then call ``finish`` in the loop's thread with their results, an exception
        standing for a job that failed. Return the threads, which have been started."""
        if not jobs:
            finish([])
            return []
        results: list[object] = [None] * len(jobs)
        todo = list(enumerate(jobs))
        threads: list[threading.Thread] = []

        def work() -> None:
            while True:
                try:
                    place, job = todo.pop()
                except IndexError:
                    break
                try:
                    results[place] = job()
                except Exception as error:  # noqa: BLE001 - the caller gets it
                    results[place] = error
            with self._finishing:
                threads.remove(threading.current_thread())
                last = not threads
            if last:
                self._finished.append(lambda: finish(results))
                os.write(self._wake, b".")

        with self._finishing:
            started = [threading.Thread(target=work) for _ in jobs[:AT_ONCE]]
            threads += started
            for thread in started:
                thread.start()
        return started

    def _finish(self, wake: int) -> None:
        os.read(wake, 4096)
        while self._finished:
            self._finished.pop(0)()
