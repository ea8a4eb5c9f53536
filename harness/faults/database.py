"""What befalls the database: a full disk below it, damage, an old schema.

Where ovsdb-server runs again at once, ovs-vswitchd goes on as it was and connects anew.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from typing import ClassVar, Literal

from harness.faults.fault import Fault, FaultError, Ground, Undo
from harness.faults.processes import running, switch_works
from harness.ovs.errors import DaemonError
from harness.ovs.options import OVSDB_SERVER, Options
from harness.ovs.switch import Switch

Part = Literal["header", "tail"]

OLD_VERSION = "0.0.1"
"""Of a schema: older than any that Open vSwitch had."""


class FullDisk(Fault, frozen=True):
    """The file system below the database is full, but for the rest of the file's last page (4 kB).

    For that the directory becomes a small file system of its own, and ovsdb-server is restarted on
    it. Undone, the database is where it was, with all that was written.
    """

    name: ClassVar[str] = "full disk"

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch, file = _database(ground, self)
        with ExitStack() as undo:
            undo.callback(_start, switch)
            _stop(switch)
            _shell(switch, _SMALL, file)
            undo.callback(_shell, switch, _LARGE, file)
            undo.callback(_stop, switch)
            _start(switch)
            undo.callback(_shell, switch, 'rm -f "$(dirname "$1")/ballast"', file)
            _shell(switch, _FILL, file)
            steps = undo.pop_all()
        return steps.close


_DIRECTORY = 'set -e; here=$(dirname "$1"); '
_SMALL = (
    _DIRECTORY
    + """
size=$(($(du -sk "$here" | cut -f1) + 1024))
mkdir "$here.kept"
cp -a "$here/." "$here.kept"
mount -t tmpfs -o "size=${size}k,mode=755" small "$here"
cp -a "$here.kept/." "$here"
"""
)
_FILL = (
    _DIRECTORY
    + """
! dd if=/dev/zero of="$here/ballast" bs=4096 2> "$here.said"
grep -q "No space left" "$here.said"
rm "$here.said"
"""
)
_LARGE = (
    _DIRECTORY
    + """
cp -a "$here/." "$here.kept"
umount "$here"
cp -a "$here.kept/." "$here"
rm -r "$here.kept"
"""
)


class DamagedDatabase(Fault, frozen=True):
    """The database file is damaged when ovsdb-server starts: its ``header``, or the ``tail`` of
    what was written last, as after a crash in the midst of it. Undone by putting back what was
    there."""

    name: ClassVar[str] = "damaged database"

    part: Part = "header"

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch, file = _database(ground, self)
        with ExitStack() as undo:
            undo.callback(_start, switch)
            _stop(switch)
            _shell(switch, 'cp -a "$1" "$1.sound"', file)
            undo.callback(_shell, switch, 'mv "$1.sound" "$1"', file)
            undo.callback(_stop, switch)
            _shell(switch, _DAMAGE[self.part], file)
            # Whether it starts on that is what somebody wants to see.
            with suppress(DaemonError):
                _start(switch)
            switch.adopt()
            steps = undo.pop_all()
        return steps.close


_DAMAGE: dict[Part, str] = {
    "header": 'printf XXXX | dd of="$1" conv=notrunc 2> /dev/null',
    "tail": 'printf "OVSDB JSON 500 %040d\\n{\\"Bri" 0 >> "$1"',
}


class OldSchema(Fault, frozen=True):
    """The database has an older schema when ovsdb-server starts, so that ``ovs-ctl`` makes a backup
    and converts it. Undone, the backup is gone."""

    name: ClassVar[str] = "old schema"

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        switch, file = _database(ground, self)
        schema = json.loads(switch.node.read_file(f"{switch.layout.datadir}/vswitch.ovsschema"))
        schema["version"] = OLD_VERSION
        with ExitStack() as undo:
            undo.callback(_start, switch)
            _stop(switch)
            switch.node.write_file(f"{file}.schema", json.dumps(schema))
            _shell(switch, 'ovsdb-tool convert "$1" "$1.schema"; rm "$1.schema"', file)
            _start(switch)
            undo.pop_all()
        version = _shell(switch, 'ovsdb-tool db-version "$1"', file).strip()
        if version == OLD_VERSION:
            raise FaultError(f"{self}: ovs-ctl did not convert it")
        return lambda: _drop_backup(switch)


def _drop_backup(switch: Switch) -> None:
    # It lies beside the link, if there is one.
    _shell(switch, f'rm "$1".backup{OLD_VERSION}-*', _named(switch))


def _database(ground: Ground, fault: Fault) -> tuple[Switch, str]:
    """The switch that a fault is done to, whose ovsdb-server has to run, and its database file,
    links to it followed."""
    switch = ground.switch(fault.switch)
    if OVSDB_SERVER not in running(switch):
        raise FaultError(f"{fault}: ovsdb-server does not run")
    return switch, switch.node.run(["readlink", "-f", _named(switch)]).stdout.strip()


def _named(switch: Switch) -> str:
    return switch.options.db_file or f"{switch.layout.dbdir}/conf.db"


def _stop(switch: Switch) -> None:
    switch.stop(Options(ovs_vswitchd=False))


def _start(switch: Switch) -> None:
    if OVSDB_SERVER not in running(switch):
        switch.start_again(OVSDB_SERVER)
        switch_works(switch)


def _shell(switch: Switch, code: str, file: str) -> str:
    """Run shell code, with the database file as ``$1``. Raise
    :class:`~harness.nodes.base.CommandFailed` when it fails."""
    return switch.node.run(["sh", "-c", code, "sh", file]).stdout
