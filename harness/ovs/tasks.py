"""Work on many switches at the same time.

There is no thread: work is a generator that yields what it waits for, and several such generators
are moved on in turn. While one of them waits, the commands of all others run in their nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, TypeVar

from harness.nodes.base import NodeError, Pending
from harness.ovs.errors import OvsError

T = TypeVar("T")

Steps = Generator[Sequence[Pending], list[Any], T]
"""Work in steps: yields answers to wait for, gets their values, returns its result."""


class Task(Generic[T]):
    """Work that has begun. Its first step is under way as soon as it is made; the following ones
    are taken by :meth:`step`, :meth:`result` or :func:`gather`."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._waiting: Sequence[Pending] = ()
        self._value: list[T] = []
        self._error: Exception | None = None
        self._advance(lambda: next(steps))

    @property
    def done(self) -> bool:
        """True once there is a result or an error."""
        return bool(self._value) or self._error is not None

    def step(self, timeout: float | None = None) -> None:
        """Wait for the step that is under way (``timeout`` in seconds; None: as long as the
        commands may take) and begin the next."""
        if self.done:
            return
        try:
            answers = [pending.result(timeout) for pending in self._waiting]
        except (NodeError, OvsError) as problem:
            error = problem
            self._advance(lambda: self._steps.throw(error))
        else:
            self._advance(lambda: self._steps.send(answers))

    def _advance(self, move: Callable[[], Sequence[Pending]]) -> None:
        try:
            self._waiting = move()
        except StopIteration as end:
            self._value.append(end.value)
        except (NodeError, OvsError) as error:
            self._error = error

    def result(self, timeout: float | None = None) -> T:
        """Take all steps that are left (``timeout`` in seconds for each) and return the result.
        Raise what the work raised: :class:`NodeError` or :class:`OvsError`."""
        while not self.done:
            self.step(timeout)
        if self._error is not None:
            raise self._error
        return self._value[0]


def gather(tasks: Iterable[Task[T]]) -> list[T]:
    """Take all steps of all tasks, one step each in turn, and return their results in order.

    All are taken to their end; then the first error, if any, is raised.
    """
    everything = list(tasks)
    unfinished = everything
    while unfinished:
        for task in unfinished:
            task.step()
        unfinished = [task for task in unfinished if not task.done]
    return [task.result() for task in everything]
