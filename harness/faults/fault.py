"""What every fault is: a value that says what is done to a switch, and how that is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Protocol

import msgspec

from harness.nodes.impairment import Impairment
from harness.ovs.switch import Switch

Undo = Callable[[], object]

FORGOTTEN = ("flows", "groups", "meters", "tlv_map")
"""What ovs-vswitchd keeps in its memory alone, and has lost when it ends without ``ovs-ctl
restart`` (ovs-ctl(8), "The restart command")."""


class FaultError(RuntimeError):
    """A fault could not begin, or not be undone; the message says what is left of it."""


class Ground(Protocol):
    """What a fault acts on. A lab is one."""

    def switch(self, name: str) -> Switch:
        """The switch of that name."""

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """Set a physical port of a switch up or down, the port at the other end with it."""

    def operation(
        self, name: str, *, switch: str, changes: Sequence[str], **arguments: str | int | bool
    ) -> AbstractContextManager[None]:
        """A context in which something is done to a switch, for the history."""

    def change_image(self, switch: str, image: str, keep: Sequence[str]) -> str:
        """Have a switch's node run another image, and return the one before. The directories
        ``keep`` stay, and what runs goes on. Raise ``RuntimeError``, saying why, where that can't
        be."""

    def cut_power(self, switch: str) -> None:
        """End a switch's node, with its hosts, as a power cut does. Raise ``RuntimeError``, saying
        why, where that can't be."""

    def boot(self, switch: str) -> None:
        """Give it power again, and have it be up as it was, from what is on its disk."""

    def impair(self, underlay: str, impairment: Impairment | None) -> Impairment | None:
        """Make an underlay a bad wire, or (None) a good one again; return what it was before. Raise
        ``RuntimeError``, saying why, where that can't be."""


class Fault(msgspec.Struct, frozen=True):
    """Something done to the switch of this name. The other fields of a fault say how: they go into
    the history as they are, so they are numbers, words or yes and no."""

    switch: str

    name: ClassVar[str]
    """As the history has it: ``kill``, ``link down`` …"""
    marks_itself: ClassVar[bool] = False
    """Whether the switch itself notes in the history that this is done to it."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What it is meant to change for good (see :meth:`harness.ovs.state.State.without`)."""
        return ()

    @property
    def logged(self) -> tuple[str, ...]:
        """What daemons may log because of it alone: regular expressions."""
        return ()

    @property
    def arguments(self) -> dict[str, str | int | bool]:
        """How it is done, by name."""
        found: dict[str, str | int | bool] = msgspec.structs.asdict(self)
        del found["switch"]
        return found

    def begin(self, ground: Ground) -> Undo:
        """Do it, and see to it that it has come about; return what undoes it, and sees to that.

        From then on the switch expects the daemons to run that run now. Raise
        :class:`FaultError` when it can't be done; nothing is left of it then, or the message says
        what.
        """
        raise NotImplementedError

    @contextmanager
    def applied(self, ground: Ground) -> Iterator[None]:
        """A context in which it is done. It is undone also when the context raises."""
        undo = self.begin(ground)
        try:
            yield
        except BaseException as error:
            try:
                undo()
            except Exception as second:  # noqa: BLE001 - what went wrong first says more
                error.add_note(f"then {self} could not be undone: {second}")
            raise
        undo()

    def __str__(self) -> str:
        words = "".join(f" {name}={value}" for name, value in self.arguments.items())
        return f"{self.name} of {self.switch}{words}"
