"""Options of ovs-ctl: data in, words on the command line out."""

from __future__ import annotations

import msgspec
import pytest

from harness.ovs.options import Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(), []),
        (Options(system_id="hv1"), ["--system-id=hv1"]),
        (Options(delete_bridges=True), ["--delete-bridges"]),
        (Options(delete_transient_ports=True), ["--delete-transient-ports"]),
        (Options(monitor=False, ovs_vswitchd=False), ["--no-ovs-vswitchd", "--no-monitor"]),
        (Options(record_hostname=False), ["--no-record-hostname"]),
        (Options(full_hostname=False), ["--no-full-hostname"]),
        (Options(dump_hugepages=True, mlockall=False), ["--no-mlockall", "--dump-hugepages"]),
        (Options(ovs_user="ovs:hugetlbfs"), ["--ovs-user=ovs:hugetlbfs"]),
        (
            Options(ovsdb_server_wrapper="strace", ovs_vswitchd_wrapper="valgrind"),
            ["--ovsdb-server-wrapper=strace", "--ovs-vswitchd-wrapper=valgrind"],
        ),
        # Zero is not the default of ovs-ctl.
        (Options(ovsdb_server_priority=0), ["--ovsdb-server-priority=0"]),
        (Options(ovs_vswitchd_priority=-20), ["--ovs-vswitchd-priority=-20"]),
        (
            Options(ovs_vswitchd_options=("-vfile:dbg", "--enable-dummy")),
            ["--ovs-vswitchd-options=-vfile:dbg --enable-dummy"],
        ),
        (Options(external_id={"a": "1", "b": "x=y"}), ["--external-id=a=1", "--external-id=b=x=y"]),
        (
            Options(db_file="/tmp/a.db", db_sock="/tmp/s", db_schema="/tmp/a.ovsschema"),
            ["--db-file=/tmp/a.db", "--db-sock=/tmp/s", "--db-schema=/tmp/a.ovsschema"],
        ),
        (Options(extra_dbs=("/tmp/a.db", "b.db")), ["--extra-dbs=/tmp/a.db b.db"]),
        (Options(ovsdb_server_umask="0077"), ["--ovsdb-server-umask=0077"]),
    ],
    ids=str,
)
def test_words(options: Options, words: list[str]) -> None:
    assert options.words == words


@pytest.mark.parametrize(
    ("options", "daemons", "selection"),
    [
        (Options(system_id="x"), ("ovsdb-server", "ovs-vswitchd"), []),
        (Options(ovsdb_server=False), ("ovs-vswitchd",), ["--no-ovsdb-server"]),
        (Options(ovs_vswitchd=False, monitor=False), ("ovsdb-server",), ["--no-ovs-vswitchd"]),
        (
            Options(ovs_vswitchd=False, ovsdb_server=False),
            (),
            ["--no-ovsdb-server", "--no-ovs-vswitchd"],
        ),
    ],
    ids=str,
)
def test_which_daemons_are_meant(
    options: Options, daemons: tuple[str, ...], selection: list[str]
) -> None:
    assert options.daemons == daemons
    assert options.selection == selection


def test_options_are_immutable_and_compare() -> None:
    options = Options(system_id="hv1")
    assert msgspec.structs.replace(options, monitor=False).words == [
        "--system-id=hv1",
        "--no-monitor",
    ]
    assert options == Options(system_id="hv1")
    with pytest.raises(AttributeError):
        options.monitor = False  # type: ignore[misc]
