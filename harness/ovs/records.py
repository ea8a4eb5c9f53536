"""The content of the switch's database as data that compares: names in place of UUIDs."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from harness.ovs.ovsdb import Column, Database, Schema, plain

Row = dict[str, Any]
Content = dict[str, dict[str, Row]]
"""Table to record to column to value: scalars, lists and dicts with text keys."""

ROOT = "Open_vSwitch"

_NAMED = ("Bridge", "Port", "Interface")
"""Tables whose ``name`` is unique in the whole database (``indexes`` in vswitch.ovsschema)."""

_NOT_STATE = {
    # How often ovs-vsctl waited for ovs-vswitchd: every command of a scenario counts it up.
    (ROOT, "cur_cfg"),
    (ROOT, "next_cfg"),
    # A counter.
    ("Interface", "cfm_flap_count"),
    # Part of a bridge's state, with its ports.
    ("Interface", "ofport"),
}
"""Columns that are left out though the schema does not call them ephemeral. The ephemeral ones
(statistics, status, link_state, mac_in_use, ifindex, lacp_current and so on) are what ovs-vswitchd
finds out anew after every start; of them Bridge ``datapath_id`` is kept, with the bridge's state,
because a restart must not change it."""


def read_rows(database: Database) -> dict[str, list[Row]]:
    """All rows of all tables, as the server sends them, in one transaction."""
    schema = database.schema
    operations = [
        {"op": "select", "table": table, "where": [], "columns": ["_uuid", *columns]}
        for table, columns in schema.items()
    ]
    results = database.transact(operations)
    return {table: result["rows"] for table, result in zip(schema, results, strict=True)}


def content(schema: Schema, rows: Mapping[str, list[Row]]) -> Content:
    """What of the rows is state. Empty values and those that a column has as long as nobody gives
    it another (RFC 7047, 5.2.1) are left out, so that a column which a newer schema adds makes no
    difference as long as nobody uses it."""
    names = _names(schema, rows)
    result: Content = {}
    for table, records in rows.items():
        kept = {
            name: column
            for name, column in schema[table].items()
            if not column.ephemeral and (table, name) not in _NOT_STATE
        }
        named = ((names[_uuid(row)], _values(kept, row, names)) for row in records)
        if records:
            result[table] = dict(sorted(named, key=lambda pair: pair[0]))
    return dict(sorted(result.items()))


def _uuid(row: Row) -> str:
    uuid: str = row["_uuid"][1]
    return uuid


def _values(columns: Mapping[str, Column], row: Row, names: Mapping[str, str]) -> Row:
    values = {name: plain(column, row[name], names) for name, column in columns.items()}
    return {
        name: value
        for name, value in values.items()
        if value not in ((None, "", [], {}) if columns[name].shape != "one" else ("", 0, False))
    }


def _names(schema: Schema, rows: Mapping[str, list[Row]]) -> dict[str, str]:
    """A name for every row: its own where that is unique, else the way that leads to it
    (``p1.qos``, ``br0.mirrors[span]``)."""
    where = {_uuid(row): (table, row) for table, records in rows.items() for row in records}
    names = {_uuid(row): row["name"] for table in _NAMED for row in rows.get(table, [])}
    names.update({_uuid(row): "." for row in rows[ROOT]})
    queue = deque(sorted(names, key=lambda uuid: (where[uuid][0], names[uuid])))
    _follow(schema, where, names, queue)
    # Records of tables that need no reference (QoS, Queue) and have none.
    for table, records in rows.items():
        left = [row for row in records if _uuid(row) not in names]
        for number, row in enumerate(sorted(left, key=lambda row: _label(schema, table, row))):
            if _uuid(row) not in names:
                names[_uuid(row)] = f"{table}[{number}]"
                _follow(schema, where, names, deque([_uuid(row)]))
    return names


def _follow(
    schema: Schema,
    where: Mapping[str, tuple[str, Row]],
    names: dict[str, str],
    queue: deque[str],
) -> None:
    """Name what the rows in ``queue`` refer to, and what that refers to."""
    while queue:
        parent = queue.popleft()
        table, row = where[parent]
        for column, shape in schema[table].items():
            for key, uuid in _references(schema, where, shape, row[column]):
                if uuid not in names:
                    names[uuid] = f"{names[parent]}.{column}{key}"
                    queue.append(uuid)


def _references(
    schema: Schema, where: Mapping[str, tuple[str, Row]], column: Column, value: Any
) -> Iterator[tuple[str, str]]:
    """The rows that a value refers to, each with what tells it from the others of the value."""
    if not isinstance(value, list):
        return
    if value[0] == "uuid" and column.shape != "set":
        yield "", value[1]
    elif column.shape == "map":
        yield from ((f"[{key}]", item[1]) for key, item in value[1] if _refers(item, where))
    else:
        members = value[1] if value[0] == "set" else [value]
        uuids = [member[1] for member in members if _refers(member, where)]
        labelled = sorted((_label(schema, *where[uuid]), uuid) for uuid in uuids)
        for number, (_, uuid) in enumerate(labelled):
            row = where[uuid][1]
            yield f"[{row.get('name') or row.get('target') or number}]", uuid


def _refers(value: Any, where: Mapping[str, tuple[str, Row]]) -> bool:
    return isinstance(value, list) and value[0] == "uuid" and value[1] in where


def _label(schema: Schema, table: str, row: Row) -> str:
    """What a row says by itself, to put unnamed rows in an order that does not depend on UUIDs."""
    lasting = (name for name, column in schema[table].items() if not column.ephemeral)
    values = {name: json.dumps(row[name], sort_keys=True) for name in sorted(lasting)}
    return str([(name, text) for name, text in values.items() if '["uuid",' not in text])
