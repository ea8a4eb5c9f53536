"""A virtual machine that is started before it is known what for."""

from __future__ import annotations

from harness.images.templates import Template
from harness.nodes import vm
from harness.nodes.vm import StartingVm


class Spare:
    """A clone of a template: it comes up while the rest of the harness is loaded, and the first
    lab that it suits has it."""

    def __init__(self, made: Template) -> None:
        """Raise :class:`~harness.nodes.base.NodeError` when it can't be started."""
        self._path = made.path
        self._starting: StartingVm | None = vm.clone("spare", made.machine, made.path)

    def take(self, name: str, made: Template) -> StartingVm | None:
        """It, from now on called ``name``, if it is still there and a clone of that template."""
        starting = self._starting
        if starting is None or made.path != self._path:
            return None
        self._starting = None
        starting.rename(name)
        return starting

    def close(self) -> None:
        """End it, if nobody has it. Idempotent."""
        if self._starting is not None:
            self._starting.close()
            self._starting = None
