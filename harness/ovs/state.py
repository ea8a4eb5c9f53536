"""What a restart must keep, as data that compares, and how two such states differ in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.ovs.dumps import Flow, TlvMapping
from harness.ovs.records import Content
from harness.topology.differences import differences


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


def plain(state: State) -> dict[str, Any]:
    """A state as JSON has it."""
    data: dict[str, Any] = msgspec.to_builtins(state, str_keys=True)
    return data


def diff(before: State, after: State) -> list[str]:
    """How two states differ, one line each; empty when they are equal."""
    return [one.said for one in differences(plain(before), plain(after))]
