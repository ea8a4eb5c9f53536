"""Power that is cut."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.fault import FORGOTTEN, Fault, Ground, Undo


class PowerCut(Fault, frozen=True):
    """The switch's node has no power, and its hosts neither. Undone, it boots from its disk, and
    Open vSwitch starts as it does with a machine.

    ``synced``: all that was written is on the disk, as it is by itself after half a minute (Linux,
    Documentation/admin-guide/sysctl/vm.rst, "dirty_expire_centisecs"). Otherwise only that is which
    a program has waited for (fsync(2)).
    """

    name: ClassVar[str] = "power cut"

    synced: bool = True

    @property
    def changes(self) -> tuple[str, ...]:
        """What was in memory alone is lost. An internal interface whose MAC address nobody has set
        gets another one."""
        return (*FORGOTTEN, "mac")

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        if self.synced:
            switch.node.run(["sync"])
        ground.cut_power(self.switch)
        return lambda: ground.boot(self.switch)
