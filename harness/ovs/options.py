"""How a switch's daemons are run: the options of ``ovs-ctl``, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

OVSDB_SERVER = "ovsdb-server"
OVS_VSWITCHD = "ovs-vswitchd"
NAMES = (OVSDB_SERVER, OVS_VSWITCHD)

Wrapper = Literal["valgrind", "strace", "glibc"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``ovs-ctl`` that have to do with the life of the daemons (ovs-ctl(8)).

    Each field is an option of the same name: ``delete_bridges=True`` is ``--delete-bridges``,
    ``monitor=False`` is ``--no-monitor``. A field that has its default is not passed on, so that
    ``ovs-ctl`` decides. Change one with :func:`msgspec.structs.replace`.
    """

    system_id: str | None = None
    """``random``: one that is made once and kept in a file."""
    system_type: str | None = None
    system_version: str | None = None
    external_id: Mapping[str, str] = {}
    full_hostname: bool = True
    record_hostname: bool = True
    """False is refused by the ``ovs-ctl`` of 2.15 and before, which always records it."""

    delete_bridges: bool = False
    delete_transient_ports: bool = False

    ovsdb_server: bool = True
    """False: leave ovsdb-server as it is."""
    ovs_vswitchd: bool = True
    """False: leave ovs-vswitchd as it is."""
    monitor: bool = True
    """Whether each daemon gets a second process that starts it again when it crashes."""
    ovs_user: str | None = None
    """``user`` or ``user:group`` that the daemons change to."""
    self_confinement: bool = True
    mlockall: bool = True
    force_corefiles: bool = True
    dump_hugepages: bool = False
    daemon_cwd: str | None = None

    ovsdb_server_priority: int | None = None
    """Niceness, -20 to 19."""
    ovs_vswitchd_priority: int | None = None
    ovsdb_server_wrapper: Wrapper | None = None
    """A program to run the daemon under. One that is not installed is done without."""
    ovs_vswitchd_wrapper: Wrapper | None = None
    ovsdb_server_options: tuple[str, ...] = ()
    """Words that hold no white space, for ``ovs-ctl`` splits them there."""
    ovs_vswitchd_options: tuple[str, ...] = ()
    ovsdb_server_umask: str | None = None
    """Octal. From 3.4 on."""
    ovs_vswitchd_umask: str | None = None

    db_file: str | None = None
    db_sock: str | None = None
    db_schema: str | None = None
    extra_dbs: tuple[str, ...] = ()
    """Database files that ovsdb-server is to serve beside: those that are there."""

    @property
    def words(self) -> list[str]:
        """The words on the command line."""
        return [
            word
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != field.default
            for word in _words(field.name.replace("_", "-"), value)
        ]

    @property
    def selection(self) -> list[str]:
        """The words that say which daemons are meant: all that ``stop`` goes by."""
        chosen = Options(ovsdb_server=self.ovsdb_server, ovs_vswitchd=self.ovs_vswitchd)
        return chosen.words

    @property
    def daemons(self) -> tuple[str, ...]:
        """The daemons that are meant."""
        meant = {OVSDB_SERVER: self.ovsdb_server, OVS_VSWITCHD: self.ovs_vswitchd}
        return tuple(name for name in NAMES if meant[name])


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, Mapping):
        return [f"--{name}={key}={item}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [f"--{name}={' '.join(value)}"]
    return [f"--{name}={value}"]
