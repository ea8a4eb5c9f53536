"""What a restart must keep, as data that compares, and how two such states differ in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.ovs.dumps import Flow, TlvMapping
from harness.ovs.records import Content


class BridgeState(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenFlow knows of a bridge. Counters and ages are no part of it."""

    datapath_id: str | None = None
    """None: Open vSwitch could not make the bridge."""
    ports: dict[str, int | None] = {}
    """Interface to OpenFlow port number; None or -1 where it has none."""
    flows: tuple[Flow, ...] = ()
    groups: dict[int, str] = {}
    meters: dict[str, str] = {}
    tlv_map: tuple[TlvMapping, ...] = ()


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A local or internal interface, as the network stack of the switch's machine sees it."""

    mac: str = ""
    mtu: int = 0
    """In bytes."""
    up: bool = False
    carrier: bool = False
    addresses: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    """Routes of the main table through this interface, as ``ip route`` words them."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one switch. States compare with ``==``; :func:`diff` says why they differ."""

    switch: str
    bridges: dict[str, BridgeState] = {}
    database: Content = {}
    """OVSDB: table, record, column, value; see :mod:`harness.ovs.records`."""
    links: dict[str, Link] = {}

    def without(self, *names: str) -> State:
        """This state, but for what is known to change: ``Table.column`` of the database, or a field
        of every :class:`BridgeState` (``meters``) or :class:`Link` (``carrier``).

        Raise ValueError for any other name.
        """
        state = self
        for name in names:
            state = _leave_out(state, name)
        return state

    def save(self, path: Path) -> None:
        """Write the state as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)))


def load(path: Path) -> State:
    """Read what :meth:`State.save` wrote. Raise ValueError naming the file for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not a saved state: {error}") from error


def _leave_out(state: State, name: str) -> State:
    table, dot, column = name.partition(".")
    if dot:
        records = {
            record: {key: value for key, value in row.items() if key != column}
            for record, row in state.database.get(table, {}).items()
        }
        return msgspec.structs.replace(state, database={**state.database, table: records})
    for field, kind in (("bridges", BridgeState), ("links", Link)):
        if name in kind.__struct_fields__:
            blank = {name: getattr(kind(), name)}
            items = getattr(state, field).items()
            replaced = {key: msgspec.structs.replace(item, **blank) for key, item in items}
            return msgspec.structs.replace(state, **{field: replaced})
    raise ValueError(f"a state has no {name!r}: name a Table.column or a field of bridges or links")


def diff(before: State, after: State) -> list[str]:
    """How two states differ, one line each; empty when they are equal."""
    lines = list(_changes(before.bridges, after.bridges, "bridge {}", _bridge_diff))
    lines += _changes(before.links, after.links, "interface {}", _fields_diff)
    for table in sorted(before.database.keys() | after.database.keys()):
        old, new = before.database.get(table, {}), after.database.get(table, {})
        lines += _changes(old, new, f"{table} {{}}", _row_diff)
    if before.switch != after.switch:
        lines.append(f"switch: {before.switch} -> {after.switch}")
    return lines


def _changes(
    before: Mapping[Any, Any], after: Mapping[Any, Any], title: str, compare: Any
) -> Iterator[str]:
    """Lines for what is in one mapping only, and ``compare``'s lines for what is in both."""
    for key in sorted(before.keys() | after.keys()):
        name = title.format(key)
        if key not in after:
            yield f"{name}: gone"
        elif key not in before:
            yield f"{name}: new"
        elif before[key] != after[key]:
            yield from (f"{name}: {line}" for line in compare(before[key], after[key]))


def _bridge_diff(before: BridgeState, after: BridgeState) -> Iterator[str]:
    if before.datapath_id != after.datapath_id:
        yield _change("datapath id", before.datapath_id, after.datapath_id)
    yield from _values_diff("port {}", before.ports, after.ports)
    yield from _flows_diff(before.flows, after.flows)
    yield from _values_diff("group {}", before.groups, after.groups)
    yield from _values_diff("meter {}", before.meters, after.meters)
    yield from _values_diff("TLV map {}", _by_field(before), _by_field(after))


def _by_field(bridge: BridgeState) -> dict[str, str]:
    return {
        mapping.field: f"class {mapping.option_class:#x}, type {mapping.type:#x}, "
        f"length {mapping.length}"
        for mapping in bridge.tlv_map
    }


def _flows_diff(before: tuple[Flow, ...], after: tuple[Flow, ...]) -> Iterator[str]:
    old, new = ({flow.key: flow for flow in flows} for flows in (before, after))
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield f"flow gone: {old[key]}"
        elif key not in old:
            yield f"flow new: {new[key]}"
        elif old[key] != new[key]:
            changes = ", ".join(_fields_diff(old[key], new[key]))
            yield f"flow {key}: {changes}"


def _fields_diff(before: msgspec.Struct, after: msgspec.Struct) -> Iterator[str]:
    for field in before.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            yield _change(field, old, new)


def _row_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    return _values_diff("{}", before, after)


def _values_diff(title: str, before: Mapping[Any, Any], after: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield _change(title.format(key), old, new)


def _change(name: str, before: Any, after: Any) -> str:
    old, new = ("(none)" if value in (None, ()) else value for value in (before, after))
    return f"{name}: {old} -> {new}"
