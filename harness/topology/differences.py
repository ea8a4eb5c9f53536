"""How two states of a switch differ, thing by thing, in words.

States are plain data here, as JSON has them: ``bridges`` with what OpenFlow knows, ``links`` with
what the network stack does, and the ``database``, each by name. So who drives a switch and who only
judges what is left of one say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Data = Mapping[str, Any]

_HIDDEN = ("match", "actions", "table", "priority")
_SINGLE = {"mac": "MAC address", "mtu": "MTU", "up": "administratively up", "carrier": "carrier"}
_LISTED = {"addresses": "address", "routes": "route"}


class Difference(NamedTuple):
    """``what`` differs, by the name that an operation may say to change; ``said`` in words."""

    what: str
    said: str


def differences(before: Data, after: Data) -> Iterator[Difference]:
    """Everything that differs; nothing when the states are equal."""
    yield from _values("switch", {"switch": before}, {"switch": after})
    old, new = before.get("bridges", {}), after.get("bridges", {})
    yield from _lost_and_new("bridges", "bridge", old, new)
    for name in sorted(old.keys() & new.keys()):
        yield from _prefixed(f"bridge {name}", _bridge(old[name], new[name]))
    old, new = before.get("links", {}), after.get("links", {})
    yield from _lost_and_new("links", "interface", old, new)
    for name in sorted(old.keys() & new.keys()):
        yield from _prefixed(f"interface {name}", _link(old[name], new[name]))
    old, new = before.get("database", {}), after.get("database", {})
    for table in sorted(old.keys() | new.keys()):
        yield from _table(table, old.get(table, {}), new.get(table, {}))


def _prefixed(where: str, found: Iterator[Difference]) -> Iterator[Difference]:
    return (Difference(one.what, f"{where}: {one.said}") for one in found)


def _bridge(before: Data, after: Data) -> Iterator[Difference]:
    yield from _values("datapath_id", {"datapath id": before}, {"datapath id": after})
    yield from _mapped("ports", "OpenFlow port of {}", before, after)
    yield from _flows(before.get("flows", ()), after.get("flows", ()))
    yield from _mapped("groups", "group {}", before, after)
    yield from _mapped("meters", "meter {}", before, after)
    tlv = ({"tlv_map": _by_field(state.get("tlv_map", ()))} for state in (before, after))
    yield from _mapped("tlv_map", "TLV map of {}", *tlv)


def _mapped(what: str, title: str, before: Data, after: Data) -> Iterator[Difference]:
    """Things of a bridge that have a name or number each."""
    old, new = before.get(what, {}), after.get(what, {})
    for key in sorted(old.keys() | new.keys(), key=_naturally):
        name = title.format(key)
        if key not in new:
            yield Difference(what, f"{name} lost: {old[key]}")
        elif key not in old:
            yield Difference(what, f"{name} new: {new[key]}")
        elif old[key] != new[key]:
            yield Difference(what, _changed(name, old[key], new[key]))


def _naturally(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (-1, key)


def _by_field(mappings: Sequence[Data]) -> dict[str, str]:
    return {
        one["field"]: f"class {one['option_class']:#x}, type {one['type']:#x}, "
        f"length {one['length']}"
        for one in mappings
    }


def _flows(before: Sequence[Data], after: Sequence[Data]) -> Iterator[Difference]:
    old, new = ({_key(flow): flow for flow in flows} for flows in (before, after))
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield Difference("flows", f"flow lost: {_flow(old[key])}")
        elif key not in old:
            yield Difference("flows", f"flow new: {_flow(new[key])}")
        else:
            names = [name for name in (*old[key], *new[key]) if name not in _HIDDEN]
            for name in dict.fromkeys([*names, "actions"]):
                was, now = (_setting(name, flow.get(name)) for flow in (old[key], new[key]))
                if was != now:
                    yield Difference("flows", f"flow {key}: {_changed(name, was, now)}")


def _key(flow: Data) -> str:
    """What tells a flow from all others of its bridge."""
    match = f",{flow['match']}" if flow["match"] else ""
    return f"table={flow['table']},priority={flow['priority']}{match}"


def _flow(flow: Data) -> str:
    settings = [
        f"{name}={_setting(name, value)}"
        for name, value in flow.items()
        if value and name not in _HIDDEN
    ]
    return ",".join([_key(flow), *settings]) + f" actions={flow['actions']}"


def _setting(name: str, value: Any) -> str:
    """A flow's setting; one that is absent has its default."""
    if name == "cookie":
        return f"{value or 0:#x}"
    if isinstance(value, list | tuple):
        return "+".join(value) or "(none)"
    return str(value or 0) if name != "flags" else str(value or "(none)")


def _link(before: Data, after: Data) -> Iterator[Difference]:
    for name, title in _SINGLE.items():
        yield from _values(name, {title: before}, {title: after})
    for name, title in _LISTED.items():
        old, new = before.get(name, ()), after.get(name, ())
        yield from (Difference(name, f"{title} lost: {one}") for one in old if one not in new)
        yield from (Difference(name, f"{title} new: {one}") for one in new if one not in old)


def _values(
    what: str, before: Mapping[str, Data], after: Mapping[str, Data]
) -> Iterator[Difference]:
    """One value, under the title that it has in words."""
    for title, state in before.items():
        old, new = state.get(what), after[title].get(what)
        if old != new:
            yield Difference(what, _changed(title, old, new))


def _table(table: str, before: Data, after: Data) -> Iterator[Difference]:
    yield from _lost_and_new(table, table, before, after)
    for record in sorted(before.keys() & after.keys()):
        old, new = before[record], after[record]
        for column in sorted(old.keys() | new.keys()):
            if old.get(column) != new.get(column):
                said = _changed(f"{table} {record}: {column}", old.get(column), new.get(column))
                yield Difference(f"{table}.{column}", said)


def _lost_and_new(what: str, title: str, before: Data, after: Data) -> Iterator[Difference]:
    yield from (
        Difference(what, f"{title} {name} lost") for name in sorted(before.keys() - after.keys())
    )
    yield from (
        Difference(what, f"{title} {name} new") for name in sorted(after.keys() - before.keys())
    )


def _changed(name: str, before: Any, after: Any) -> str:
    old, new = ("(none)" if value in (None, (), []) else value for value in (before, after))
    return f"{name}: {old} -> {new}"
