"""What is waited for: many files and moments at once, in one thread."""

from __future__ import annotations

import heapq
import selectors
import time
from typing import Any, Callable, Protocol, Union

from .requests import Job


class HasFileno(Protocol):
    """Anything that is a file to the kernel."""

    def fileno(self) -> int: ...


File = Union[int, HasFileno]


class Loop:
    """Calls what is to be called when a file is ready, or when its time has come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Job]] = []
        self._number = 0

    def watch(self, file: File, action: Callable[[Any], object], argument: object = None) -> None:
        """Call ``action(argument)`` whenever there is something to be read."""
        self._selector.register(file, selectors.EVENT_READ, (action, argument))

    def watch_room(self, file: File, wanted: bool) -> None:
        """Whether to call that action also whenever there is room to write. A file that is only
        ever written to has none: the loop just goes on then."""
        key = self._selector.get_map().get(file)
        read = key is not None and bool(key.events & selectors.EVENT_READ)
        action, argument = (_go_on, None) if key is None else key.data
        self.want(file, action, argument, read=read, room=wanted)

    def want(
        self,
        file: File,
        action: Callable[[Any], object],
        argument: object = None,
        *,
        read: bool,
        room: bool,
    ) -> None:
        """Call ``action(argument)`` from now on whenever there is something to ``read``, or
        ``room`` to write, and for nothing else."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if room else 0)
        key = self._selector.get_map().get(file)
        if key is None:
            if events:
                self._selector.register(file, events, (action, argument))
        elif not events:
            self._selector.unregister(file)
        elif key.events != events:
            self._selector.modify(file, events, (action, argument))

    def leave(self, file: File) -> None:
        """Watch it no more."""
        self._selector.unregister(file)

    def after(self, seconds: float, action: Job) -> None:
        """Call ``action`` once, ``seconds`` from now."""
        self._number += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._number, action))

    def next_time(self) -> float | None:
        """When the next action is due, if any, on the monotonic clock."""
        return self._timers[0][0] if self._timers else None

    def wait(self, seconds: float | None) -> None:
        """Wait until a file is ready, for so long at most (None: for ever), and call what is to be
        called for those that are."""
        for key, _events in self._selector.select(seconds):
            action, argument = key.data
            action(argument)

    def call_due(self, now: float) -> None:
        """Call what is due by now."""
        while self._timers and self._timers[0][0] <= now:
            _when, _number, action = heapq.heappop(self._timers)
            action()


def _go_on(_: object) -> None:
    pass
