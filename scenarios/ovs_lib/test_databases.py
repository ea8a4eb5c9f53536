"""create_db, backup_db, upgrade_db: the database file before ovsdb-server runs, in every branch.

Source: ovs-lib; ovs-ctl(8), "The start command": the database is created when there is none, and
converted, after a backup, when its schema is not the one of this version.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

WORD, NUMBER = "string", "integer"
SIMPLE = {"T": {"name": WORD}}
"""A table T with one column, as a schema's tables are abbreviated here."""


def schema(library: Library, version: str, tables: dict[str, dict[str, Any]]) -> str:
    """Write a schema file; its path."""
    path = f"{library.top}/{version}.ovsschema"
    content = {
        "name": "Trial",
        "version": version,
        "cksum": "12345 678",
        "tables": {
            table: {"columns": {name: {"type": kind} for name, kind in columns.items()}}
            for table, columns in tables.items()
        },
    }
    library.node.write_file(path, json.dumps(content))
    return path


def database(library: Library, schema: str, row: dict[str, Any], name: str = "conf.db") -> str:
    """Make a database with one row in T; its path."""
    path = f"{library.dbdir}/{name}"
    insert = json.dumps(["Trial", {"op": "insert", "table": "T", "row": row}])
    code = 'ovsdb-tool create "$1" "$2" && ovsdb-tool transact "$1" "$3"'
    library.shell(code, path, schema, insert)
    return path


def rows(library: Library, path: str) -> list[dict[str, Any]]:
    query = json.dumps(["Trial", {"op": "select", "table": "T", "where": []}])
    said = library.shell('ovsdb-tool query "$1" "$2"', path, query)
    found = [row for result in json.loads(said) for row in result["rows"]]
    return [{name: row[name] for name in row if name[0] != "_"} for row in found]


def version(library: Library, path: str) -> str:
    return library.shell('ovsdb-tool db-version "$1"', path).strip()


def backups(library: Library) -> list[str]:
    return library.shell('cd "$1"; ls | grep backup || true', library.dbdir).split()


def upgrade(library: Library, path: str, schema: str) -> tuple[int, list[str]]:
    """What upgrade_db answers and prints."""
    done = library.run('upgrade_db "$1" "$2"', path, schema)
    return done.status, done.stdout.splitlines()


# -- create_db, backup_db


def test_create(apart: Library) -> None:
    wanted = schema(apart, "1.0.0", SIMPLE)
    path = f"{apart.dbdir}/conf.db"
    done = apart.run('create_db "$1" "$2"', path, wanted)
    assert (done.status, done.stdout) == (0, f"Creating empty database {path}.\n")
    assert (version(apart, path), rows(apart, path)) == ("1.0.0", [])


@pytest.mark.parametrize("problem", ["schema", "database"])
def test_create_fails_when_it_cannot(apart: Library, problem: str) -> None:
    """There is no such schema; there is a database already."""
    wanted = schema(apart, "1.0.0", SIMPLE)
    path = database(apart, wanted, {"name": "kept"})
    if problem == "schema":
        wanted, path = f"{apart.top}/none", f"{apart.dbdir}/new.db"
    done = apart.run('create_db "$1" "$2"', path, wanted)
    assert (done.status, done.stdout) == (1, f"Creating empty database {path} ... failed!\n")
    assert rows(apart, f"{apart.dbdir}/conf.db") == [{"name": "kept"}]


def test_backup_is_a_copy_named_for_its_schema(apart: Library) -> None:
    path = database(apart, schema(apart, "1.0.0", SIMPLE), {"name": "kept"})
    done = apart.run('DB_FILE=$1; backup_db; echo "$backup"', path)
    # The checksum of the schema: the next backup from the same one takes its place.
    backup = f"{path}.backup1.0.0-12345"
    assert done.stdout.splitlines() == [f"Backing up database to {backup}.", backup]
    apart.shell('cmp "$1" "$2"', path, backup)


def test_backup_that_fails(apart: Library) -> None:
    """Its name would be longer than a file's may be."""
    made = database(apart, schema(apart, "1.0.0", SIMPLE), {"name": "kept"})
    path = f"{apart.dbdir}/{'x' * 250}"
    apart.shell('mv "$1" "$2"', made, path)
    done = apart.run("DB_FILE=$1; backup_db", path)
    assert done.status == 1
    assert done.stdout.endswith(" ... failed!\n")


# -- upgrade_db


def test_upgrade_creates_what_is_not_there(apart: Library) -> None:
    wanted = schema(apart, "1.0.0", SIMPLE)
    path = f"{apart.top}/fresh/conf.db"
    status, said = upgrade(apart, path, wanted)
    assert status == 0
    assert said == [
        f"{path} does not exist ... (warning).",
        f"Creating empty database {path}.",
    ]
    assert (version(apart, path), rows(apart, path)) == ("1.0.0", [])
    assert apart.shell('stat -c %a "$1"', f"{apart.top}/fresh") == "755\n"


def test_upgrade_leaves_a_database_of_this_schema_alone(apart: Library) -> None:
    wanted = schema(apart, "1.0.0", SIMPLE)
    path = database(apart, wanted, {"name": "kept"})
    apart.shell('cp "$1" "$2"', path, f"{apart.top}/before")
    assert upgrade(apart, path, wanted) == (0, [])
    apart.shell('cmp "$1" "$2"', path, f"{apart.top}/before")
    assert backups(apart) == []
    # So that the scenario tells it from one that needs conversion.
    status, said = upgrade(apart, path, schema(apart, "1.0.1", SIMPLE))
    assert (status, len(said)) == (0, 3)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        # A column that is new has its default.
        (("1.0.0", SIMPLE), ("1.1.0", {"T": {"name": WORD, "n": NUMBER}}), {"name": "a", "n": 0}),
        (("1.0.0", SIMPLE), ("2.0.0", {**SIMPLE, "U": {"name": WORD}}), {"name": "a"}),
        # A downgrade.
        (("1.1.0", {"T": {"name": WORD, "n": NUMBER}}), ("1.0.0", SIMPLE), {"name": "a"}),
    ],
    ids=["new-column", "new-table", "downgrade"],
)
def test_upgrade_converts_after_a_backup(
    apart: Library,
    before: tuple[str, dict[str, dict[str, Any]]],
    after: tuple[str, dict[str, dict[str, Any]]],
    kept: dict[str, Any],
) -> None:
    row = {"name": "a"}
    path = database(apart, schema(apart, *before), row)
    status, said = upgrade(apart, path, schema(apart, *after))
    (backup,) = backups(apart)
    assert status == 0
    assert said == [
        f"Backing up database to {apart.dbdir}/{backup}.",
        "Compacting database.",
        "Converting database schema.",
    ]
    assert (version(apart, path), rows(apart, path)) == (after[0], [kept])
    assert version(apart, f"{apart.dbdir}/{backup}") == before[0]
    assert rows(apart, f"{apart.dbdir}/{backup}")[0].items() >= row.items()


@pytest.mark.parametrize(("compacts", "ends"), [("", "."), ("exit 1", " ... failed!")])
def test_upgrade_compacts_first_and_goes_on_if_it_cannot(
    apart: Library, compacts: str, ends: str
) -> None:
    """A database of a later version may hold what this version's tool does not understand."""
    path = database(apart, schema(apart, "1.0.0", SIMPLE), {"name": "kept"})
    tool = apart.shell("command -v ovsdb-tool").strip()
    note = f'case $2 in compact | convert) echo "$2" >> {apart.top}/ran ;; esac'
    fail = f"test $2 = compact && {{ {compacts or ':'}; }}"
    apart.program("ovsdb-tool", f'{note}\n{fail}\nexec {tool} "$@"')
    status, said = upgrade(apart, path, schema(apart, "1.1.0", SIMPLE))
    assert (status, said[1:]) == (0, [f"Compacting database{ends}", "Converting database schema."])
    assert apart.file(f"{apart.top}/ran") == "compact\nconvert\n"
    assert rows(apart, path) == [{"name": "kept"}]


def test_upgrade_that_fails_leaves_an_empty_database_and_the_backup(apart: Library) -> None:
    """Text can't become a number."""
    path = database(apart, schema(apart, "1.0.0", SIMPLE), {"name": "precious"})
    status, said = upgrade(apart, path, schema(apart, "2.0.0", {"T": {"name": NUMBER}}))
    (backup,) = backups(apart)
    assert status == 0
    assert said[2:] == [
        "Converting database schema ... failed!",
        "Schema conversion failed, using empty database instead ... (warning).",
        f"Creating empty database {path}.",
    ]
    assert (version(apart, path), rows(apart, path)) == ("2.0.0", [])
    assert rows(apart, f"{apart.dbdir}/{backup}") == [{"name": "precious"}]


def test_upgrade_without_backup_converts_nothing(apart: Library) -> None:
    made = database(apart, schema(apart, "1.0.0", SIMPLE), {"name": "kept"})
    path = f"{apart.dbdir}/{'x' * 250}"
    apart.shell('mv "$1" "$2"', made, path)
    status, said = upgrade(apart, path, schema(apart, "2.0.0", SIMPLE))
    assert (status, len(said)) == (1, 1)
    assert said[0].startswith("Backing up database to ")
    assert (version(apart, path), rows(apart, path)) == ("1.0.0", [{"name": "kept"}])


def test_upgrade_leaves_what_is_no_database_to_ovsdb_server(apart: Library) -> None:
    path = f"{apart.dbdir}/conf.db"
    apart.node.write_file(path, "rubbish\n")
    done = apart.run('upgrade_db "$1" "$2"; echo $?', path, schema(apart, "1.0.0", SIMPLE))
    assert done.stdout == "0\n"
    assert "conf.db" in done.stderr
    assert apart.node.read_file(path) == b"rubbish\n"


def test_the_schema_of_this_version_is_new_to_that_of_the_last(apart: Library) -> None:
    """Open vSwitch's own schema, once with a column less, and back."""
    installed = json.loads(apart.node.read_file(f"{apart.switch.layout.datadir}/vswitch.ovsschema"))
    version_now = installed["version"]
    del installed["tables"]["Open_vSwitch"]["columns"]["dpdk_version"]
    older = f"{apart.top}/older.ovsschema"
    apart.node.write_file(older, json.dumps({**installed, "version": "7.0.0"}))
    path = f"{apart.dbdir}/conf.db"
    assert upgrade(apart, path, older)[0] == 0
    insert = {"op": "insert", "table": "Open_vSwitch", "row": {"system_type": "kept"}}
    apart.shell('ovsdb-tool transact "$1" "$2"', path, json.dumps(["Open_vSwitch", insert]))
    now = f"{apart.switch.layout.datadir}/vswitch.ovsschema"
    for schema_file, found in ((now, version_now), (older, "7.0.0")):
        assert upgrade(apart, path, schema_file)[0] == 0
        assert version(apart, path) == found
        assert "system_type=kept" in apart.shell('ovsdb-tool -mmm show-log "$1"', path)
    assert len(backups(apart)) == 2
