"""create_cluster, join_cluster, upgrade_cluster: databases that several servers hold together.

Source: ovs-lib; ovsdb(7), "Clustered Database Service Model" and "Upgrading or Downgrading a
Database"; ovn-ctl uses them for its own databases.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

ROW = {"name": "kept"}


def schema(library: Library, version: str, *columns: str) -> str:
    path = f"{library.top}/{version}.ovsschema"
    table = {"columns": {name: {"type": "string"} for name in ("name", *columns)}, "isRoot": True}
    content = {"name": "Trial", "version": version, "cksum": "123 45", "tables": {"T": table}}
    library.node.write_file(path, json.dumps(content))
    return path


def standalone(library: Library) -> str:
    """Make a standalone database with one row; its path."""
    path = f"{library.dbdir}/trial.db"
    code = 'ovsdb-tool create "$1" "$2" && ovsdb-tool transact "$1" "$3"'
    library.shell(code, path, schema(library, "1.0.0"), insert(ROW))
    return path


def insert(row: dict[str, str]) -> str:
    return json.dumps(["Trial", {"op": "insert", "table": "T", "row": row}])


def raft(library: Library) -> str:
    """The address at which a server hears the others."""
    return f"unix:{library.top}/raft"


def kind(library: Library, path: str) -> str:
    code = 'ovsdb-tool db-is-clustered "$1" && echo clustered || echo standalone'
    return library.shell(code, path).strip()


def backups(library: Library) -> list[str]:
    return library.shell('cd "$1"; ls | grep backup || true', library.dbdir).split()


def create(library: Library, path: str, *more: str) -> tuple[int, list[str]]:
    words = (path, schema(library, "1.0.0"), raft(library), *more)
    done = library.run('create_cluster "$@"', *words)
    return done.status, done.stdout.splitlines()


def join(library: Library, path: str, remote: Library) -> tuple[int, list[str]]:
    done = library.run('join_cluster "$@"', path, "Trial", raft(library), raft(remote))
    return done.status, done.stdout.splitlines()


# -- one file


def test_create_where_there_is_nothing(apart: Library) -> None:
    path = f"{apart.dbdir}/trial.db"
    assert create(apart, path) == (0, [f"Creating cluster database {path}."])
    assert kind(apart, path) == "clustered"
    assert apart.shell('ovsdb-tool db-local-address "$1"', path).strip() == raft(apart)


def test_create_with_an_election_timer(apart: Library) -> None:
    if "ELECTION_TIMER_MS" not in apart.text:
        pytest.skip("this create_cluster takes no election timer: it came after Open vSwitch 2.15")
    path = f"{apart.dbdir}/trial.db"
    assert create(apart, path, "3456")[0] == 0
    assert '"election_timer":3456' in apart.node.read_file(path).decode()


def test_create_from_a_standalone_database(apart: Library) -> None:
    path = standalone(apart)
    backup = f"{path}.backup1.0.0-123"
    assert create(apart, path) == (
        0,
        [
            f"Backing up database to {backup}.",
            f"Creating cluster database {path} from existing one.",
        ],
    )
    assert (kind(apart, path), kind(apart, backup)) == ("clustered", "standalone")
    for file in (path, backup):
        assert '"kept"' in apart.node.read_file(file).decode()


def test_create_leaves_a_cluster_alone(apart: Library) -> None:
    path = f"{apart.dbdir}/trial.db"
    create(apart, path)
    before = apart.node.read_file(path)
    assert create(apart, path)[1] == []
    assert (apart.node.read_file(path), backups(apart)) == (before, [])
    assert kind(apart, path) == "clustered"


def test_join_where_there_is_nothing(apart: Library, library: Library) -> None:
    path, remote = f"{apart.dbdir}/trial.db", library.apart()
    # That of 2.15 does it without a word.
    silent = "# Backup standalone database and join cluster." in apart.text
    assert join(apart, path, remote) == (0, [] if silent else [f"Joining {path} to cluster."])
    # It has no members yet but one that it is to ask.
    assert raft(remote) in apart.node.read_file(path).decode()
    assert kind(apart, path) == "clustered"


def test_join_with_a_standalone_database(apart: Library, library: Library) -> None:
    """It is put aside, not merged."""
    path = standalone(apart)
    backup = f"{path}.backup1.0.0-123"
    assert join(apart, path, library.apart()) == (
        0,
        [f"Backing up database to {backup}.", f"Joining {path} to cluster."],
    )
    assert (kind(apart, path), kind(apart, backup)) == ("clustered", "standalone")
    assert '"kept"' in apart.node.read_file(backup).decode()
    assert '"kept"' not in apart.node.read_file(path).decode()


def test_join_leaves_a_member_alone(apart: Library, library: Library) -> None:
    path, remote = f"{apart.dbdir}/trial.db", library.apart()
    join(apart, path, remote)
    before = apart.node.read_file(path)
    assert join(apart, path, remote) == (0, [])
    assert apart.node.read_file(path) == before


def test_that_fails_is_said_to_have_failed(apart: Library) -> None:
    """An address is not one."""
    path = f"{apart.dbdir}/trial.db"
    words = f'"{path}" "{schema(apart, "1.0.0")}" nonsense'
    done = apart.run(f"create_cluster {words}; echo $?")
    assert done.stdout == f"Creating cluster database {path} ... failed!\n1\n"


# -- three servers


class Member:
    """One of three servers."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.path = f"{library.dbdir}/trial.db"
        self.remote = f"unix:{library.top}/db.sock"

    def start(self) -> None:
        library = self.library
        done = library.start(f"--remote=p{self.remote}", database=self.path, before="MONITOR=no")
        assert done.status == 0, done
        assert library.proc("comm") == "ovsdb-server\n"

    def lose(self) -> None:
        pid = self.library.pid
        self.library.shell('kill -KILL "$1"', str(pid))
        self.library.ends(pid)

    def version(self) -> str:
        """The version of the schema that it serves."""
        code = 'ovsdb-client -t 10 get-schema-version "$1" Trial'
        return self.library.shell(code, self.remote).strip()

    def transact(self, transaction: str) -> str:
        return self.library.shell('ovsdb-client -t 10 transact "$1" "$2"', self.remote, transaction)

    def upgrade(self, schema: str) -> tuple[int, list[str]]:
        done = self.library.run('upgrade_cluster "$1" "$2"', schema, self.remote)
        return done.status, done.stdout.splitlines()


@pytest.fixture
def members(library: Library) -> list[Member]:
    """Three servers that hold one row together."""
    first, *others = (Member(library.apart()) for _ in range(3))
    create(first.library, first.path)
    first.start()
    for other in others:
        assert join(other.library, other.path, first.library)[0] == 0
        other.start()
    for other in others:
        connected = 'ovsdb-client -t 20 wait "$1" Trial connected'
        other.library.shell(connected, other.remote)
    first.transact(insert(ROW))
    return [first, *others]


WAITED = "Waiting for Trial to come up."
CONVERTED = "Upgrading database Trial from schema version 1.0.0 to 1.1.0."


def test_upgrade_of_all_by_any_of_them(members: list[Member]) -> None:
    newer = schema(members[2].library, "1.1.0", "more")
    assert members[2].upgrade(newer) == (0, [WAITED, CONVERTED])
    for member in members:
        version_becomes(member, "1.1.0")
    # A second time there is nothing to do, whoever does it.
    assert members[0].upgrade(newer) == (0, [WAITED])


def version_becomes(member: Member, version: str) -> None:
    eventually(member.version, lambda seen: seen == version, within=60, what="the new schema")


def test_upgrade_never_downgrades(members: list[Member]) -> None:
    """Another member, of a newer version, may have upgraded it already."""
    members[0].upgrade(schema(members[0].library, "1.1.0", "more"))
    status, said = members[1].upgrade(schema(members[1].library, "1.0.0"))
    assert status == 0
    assert said == [
        WAITED,
        "Database Trial has newer schema version (1.1.0) than our local schema (1.0.0), possibly "
        "an upgrade is partially complete? ... (warning).",
    ]
    assert members[0].version() == "1.1.0"


@pytest.mark.parametrize("lost", [0, 2], ids=["founder", "last"])
def test_upgrade_while_one_of_three_is_lost(members: list[Member], lost: int) -> None:
    gone = members[lost]
    gone.lose()
    here = members[1]
    assert here.upgrade(schema(here.library, "1.1.0", "more")) == (0, [WAITED, CONVERTED])
    here.transact(insert({"name": "new", "more": "x"}))
    gone.start()
    gone.library.shell('ovsdb-client -t 20 wait "$1" Trial connected', gone.remote)
    version_becomes(gone, "1.1.0")
    query = json.dumps(["Trial", {"op": "select", "table": "T", "where": [], "columns": ["name"]}])
    (found,) = json.loads(gone.transact(query))
    assert sorted(row["name"] for row in found["rows"]) == ["kept", "new"]


def test_upgrade_of_a_server_that_is_not_there(apart: Library) -> None:
    # It would be waited for for half a minute.
    client = apart.shell("command -v ovsdb-client").strip()
    apart.program("ovsdb-client", f'test "$2" = 30 && shift 2 && exec {client} -t 1 "$@"')
    done = apart.run('upgrade_cluster "$1" "$2"', schema(apart, "1.0.0"), f"unix:{apart.top}/none")
    assert done.stdout == "Waiting for Trial to come up ... failed!\n"
    assert done.status != 0


def test_upgrade_without_a_schema(apart: Library) -> None:
    apart.program("ovsdb-client", "exit 1")
    done = apart.run('upgrade_cluster "$1" "$2"', f"{apart.top}/none", f"unix:{apart.top}/none")
    assert (done.status, done.stdout) == (1, "")
