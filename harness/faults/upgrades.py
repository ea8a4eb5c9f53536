"""Upgrades and downgrades: another version of Open vSwitch, with the configuration kept.

What Debian's openvswitch-switch does to its daemons is in its maintainer scripts. Of each version
the new files are unpacked first, and then postinst calls ``/etc/init.d/openvswitch-switch restart``
with ``OVS_FORCE_RELOAD_KMOD=yes``, which is ``ovs-ctl restart`` of the new version as long as the
kernel module on disk is the loaded one: flows are saved and restored. Where systemd runs, it is
otherwise: from 3.1 on preinst stops both daemons before anything is unpacked, and they are started
afterwards.
"""

from __future__ import annotations

import posixpath
from contextlib import ExitStack
from typing import ClassVar, Literal

from harness.faults.fault import FORGOTTEN, Fault, FaultError, Ground, Undo
from harness.faults.processes import running, switch_works
from harness.ovs.options import NAMES
from harness.ovs.switch import Switch

IMAGES = ("bullseye", "bookworm", "trixie", "forky")
"""Between which upgrades are drawn at random, oldest first."""

Way = Literal["restart", "stop and start"]

OTHER_VERSION = tuple(
    f"Open_vSwitch.{column}"
    for column in ("ovs_version", "db_version", "system_version", "iface_types", "datapath_types")
)
"""What the database says of the versions, and of what they can do."""


class Upgrade(Fault, frozen=True):
    """The switch becomes that of another ``image``, newer or older: its programs, scripts and
    libraries are exchanged while it runs, its database, system id and logs stay, and so do network
    namespaces and interfaces. Undone by the way back, which is no less an upgrade.

    ``way``: ``restart`` saves and restores flows, as Debian does without systemd; ``stop and
    start`` does not, as Debian does with it. ``ovs-ctl`` makes a backup of the database and
    converts it, up and down (``upgrade_db`` in ovs-lib): what the older schema has no column for is
    lost on the way down.
    """

    name: ClassVar[str] = "upgrade"
    marks_itself: ClassVar[bool] = True

    image: str
    way: Way = "restart"

    @property
    def changes(self) -> tuple[str, ...]:
        """Versions, and what nobody saves."""
        return OTHER_VERSION + (FORGOTTEN if self.way != "restart" else ())

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch = ground.switch(self.switch)
        if running(switch).keys() != {*NAMES}:
            raise FaultError(f"{self}: the switch does not run")
        before = self._change(ground, switch, self.image)
        return lambda: self._change(ground, switch, before)

    def _change(self, ground: Ground, switch: Switch, image: str) -> str:
        """Have the switch be that of an image; return the image before."""
        marked = ground.operation(
            self.name, switch=self.switch, changes=self.changes, image=image, way=self.way
        )
        with marked, ExitStack() as undo:
            if self.way != "restart":
                switch.stop()
                undo.callback(switch.start)
            before = _exchange(ground, switch, image)
            undo.callback(_exchange, ground, switch, before)
            if self.way == "restart":
                undo.callback(switch.adopt)
                switch.restart()
            else:
                switch.start()
            undo.pop_all()
        switch_works(switch)
        return before


def _exchange(ground: Ground, switch: Switch, image: str) -> str:
    """Exchange the installation, and return the image before. Raise :class:`FaultError`, with the
    one before in place, when the new one has its files elsewhere."""
    old, kept = switch.layout, _kept(switch)
    before = ground.change_image(switch.name, image, kept)
    switch.reinstalled()
    new = switch.layout
    if (new.dbdir, new.logdir, new.rundir) != (old.dbdir, old.logdir, old.rundir):
        ground.change_image(switch.name, before, kept)
        switch.reinstalled()
        raise FaultError(
            f"{switch.name}: image {image} has its database, logs and sockets in {new.dbdir}, "
            f"{new.logdir} and {new.rundir}, where {before} does not look for them"
        )
    return before


def _kept(switch: Switch) -> list[str]:
    """The directories of the database, of the file that it may be a link to, and of the logs."""
    layout = switch.layout
    named = switch.options.db_file or f"{layout.dbdir}/conf.db"
    file = switch.node.run(["readlink", "-f", named]).stdout.strip()
    places = (layout.dbdir, posixpath.dirname(named), posixpath.dirname(file), layout.logdir)
    return [*dict.fromkeys(places)]
