"""One transaction of the switch's database: records that are created, and columns of its root.

It is carried out as operations (RFC 7047, 5.2) and shown to people as the ``ovs-vsctl`` call that
does the same, in the syntax of ovs-vsctl(8), "Database Values".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from harness.ovs.errors import ConfigurationError
from harness.ovs.ovsdb import NAME


class Record(msgspec.Struct, frozen=True):
    """A reference to a record that the same transaction creates."""

    name: str


Value = str | int | bool | Record | Sequence["Value"] | Mapping[str, str] | Mapping[int, Record]


def encode(value: Value) -> Any:
    """A value as the database takes it (RFC 7047, 5.1, ``<value>``).

    Raise :class:`ConfigurationError` for what no string of it can hold: NUL and lone surrogates.
    """
    if isinstance(value, Record):
        return ["named-uuid", value.name]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return ["map", [[encode(key), encode(item)] for key, item in value.items()]]
    return ["set", [encode(item) for item in value]]


def _text(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"{text!r} holds a character that the database cannot hold")
    return text


def render(value: Value) -> str:
    """A value in the syntax of ovs-vsctl; text is always in quotes, so that nothing in it is
    syntax."""
    if isinstance(value, Record):
        return f"@{value.name}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{render(key)}={render(item)}" for key, item in value.items()) + "}"
    return "[" + ",".join(render(item) for item in value) + "]"


class Transaction:
    """Records, in the order in which they are created, and then columns of the root."""

    def __init__(self) -> None:
        self._created: list[tuple[str, Record, Mapping[str, Value]]] = []
        self._root: dict[str, Value] = {}
        self._root_keys: dict[str, Mapping[str, str]] = {}

    def create(self, table: str, columns: Mapping[str, Value]) -> Record:
        """Create a record and return the reference to it."""
        record = Record(f"r{len(self._created)}")
        self._created.append((table, record, dict(columns)))
        return record

    def set_root(self, columns: Mapping[str, Value], keys: Mapping[str, Mapping[str, str]]) -> None:
        """Set columns of the root, and single ``keys`` of its columns that are maps."""
        self._root.update(columns)
        self._root_keys.update({column: pairs for column, pairs in keys.items() if pairs})

    def operations(self) -> list[dict[str, Any]]:
        """It as the database carries it out. Raise :class:`ConfigurationError` as :func:`encode`
        does."""
        found: list[dict[str, Any]] = [
            {
                "op": "insert",
                "table": table,
                "uuid-name": record.name,
                "row": {column: encode(value) for column, value in columns.items()},
            }
            for table, record, columns in self._created
        ]
        if self._root:
            row = {column: encode(value) for column, value in self._root.items()}
            found.append({"op": "update", "table": NAME, "where": [], "row": row})
        mutations: list[list[Any]] = []
        for column, pairs in self._root_keys.items():
            # What has a key already is left as it is by "insert" (RFC 7047, 5.1, <mutation>).
            mutations.append([column, "delete", encode(list(pairs))])
            mutations.append([column, "insert", encode(pairs)])
        if mutations:
            found.append({"op": "mutate", "table": NAME, "where": [], "mutations": mutations})
        return found

    def words(self) -> list[str]:
        """It as the arguments of one ``ovs-vsctl`` call."""
        words: list[str] = []
        for table, record, columns in self._created:
            words += ["--", f"--id=@{record.name}", "create", table, *_assignments(columns)]
        words += ["--", "set", NAME, ".", *_assignments(self._root)]
        for column, pairs in self._root_keys.items():
            words += _assignments({f"{column}:{render(key)}": pairs[key] for key in pairs})
        return words


def _assignments(columns: Mapping[str, Value]) -> Iterable[str]:
    return (f"{column}={render(value)}" for column, value in columns.items())
