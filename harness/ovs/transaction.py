"""Words of one ``ovs-vsctl`` transaction: records that are created, and values in OVSDB's syntax.

The syntax of values is that of ovs-vsctl(8), "Database Values" (ovsdb_datum_from_string).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import msgspec

from harness.ovs.errors import ConfigurationError


class Record(msgspec.Struct, frozen=True):
    """A reference to a record that the same transaction creates (``--id=@name``)."""

    symbol: str


Value = str | int | bool | Record | Sequence["Value"] | Mapping[str, str] | Mapping[int, Record]

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def quote(text: str) -> str:
    """``text`` as a string of OVSDB: always in quotes, so that nothing in it is syntax.

    Raise :class:`ConfigurationError` for what no argument can carry: NUL and lone surrogates.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"{text!r} holds a character that no command line can carry")
    return json.dumps(text, ensure_ascii=False)


def render(value: Value) -> str:
    """A value in OVSDB's syntax."""
    if isinstance(value, Record):
        return value.symbol
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{render(key)}={render(item)}" for key, item in value.items()) + "}"
    return "[" + ",".join(render(item) for item in value) + "]"


def assignment(column: str, value: Value, key: str | None = None) -> str:
    """``column=value`` or ``column:key=value`` as ``ovs-vsctl set`` and ``create`` take it.

    Raise :class:`ConfigurationError` for a name that no column can have.
    """
    if not _COLUMN.fullmatch(column):
        raise ConfigurationError(f"{column!r} is not the name of a database column")
    where = column if key is None else f"{column}:{quote(key)}"
    return f"{where}={render(value)}"


class Transaction:
    """Commands of one ``ovs-vsctl`` call, in order."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._created = 0

    def create(self, table: str, columns: Mapping[str, Value]) -> Record:
        """Create a record and return the reference to it."""
        record = Record(f"@r{self._created}")
        self._created += 1
        self._words += ["--", f"--id={record.symbol}", "create", table]
        self._words += [assignment(column, value) for column, value in columns.items()]
        return record

    def set_root(self, assignments: Sequence[str]) -> None:
        """Set columns of the one record of table Open_vSwitch."""
        self._words += ["--", "set", "Open_vSwitch", ".", *assignments]

    def words(self) -> list[str]:
        return list(self._words)
