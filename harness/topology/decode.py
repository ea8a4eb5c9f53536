"""Nodes to data, led by the types of the model: a text field gets the text that was written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from msgspec import NODEFAULT, inspect

from harness.topology.errors import Mistake, Path, TopologyError
from harness.topology.model import TopologySpec
from harness.topology.nodes import Mapping, Node, Scalar, Sequence, duplicates
from harness.topology.validate import check

_MOST = 100
"""Mistakes after which the reader gives up: the first ones say enough."""
_NULLS = frozenset(["", "~", "null", "Null", "NULL"])
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_LOOKS_LIKE_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*", re.ASCII)
_LOOKS_LIKE_BOOLEAN = re.compile(r"true|false|yes|no|on|off|y|n", re.ASCII | re.IGNORECASE)


class _Bad:
    """Stands for a value that was refused, so that the rest can still be read."""


_BAD = _Bad()


def decode(root: Node, name: str) -> TopologySpec:
    """The topology that ``root`` holds, checked. Raise :class:`TopologyError` with the mistakes,
    each at its ``name:line:column``."""
    decoder = _Decoder(name)
    spec = decoder.value(root, _model(), ())
    if decoder.mistakes:
        raise TopologyError(decoder.mistakes)
    assert isinstance(spec, TopologySpec)
    return check(spec, decoder.where)


@cache
def _model() -> inspect.Type:
    return inspect.type_info(TopologySpec)


class _Decoder:
    def __init__(self, name: str) -> None:
        self.mistakes: list[Mistake] = []
        self._name = name
        self._places: dict[Path, Node] = {}

    def where(self, path: Path) -> str:
        known = next(path[:n] for n in range(len(path), -1, -1) if path[:n] in self._places)
        return self._place(self._places[known])

    def value(self, node: Node, kind: inspect.Type, path: Path) -> Any:
        self._places[path] = node
        match kind:
            case inspect.UnionType():
                return self._union(node, kind.types, path)
            case inspect.StructType():
                return self._struct(node, kind, path)
            case inspect.VarTupleType():
                return self._tuple(node, kind, path)
            case inspect.DictType():
                return self._dict(node, kind, path)
        return self._scalar(node, kind)

    def _union(self, node: Node, kinds: tuple[inspect.Type, ...], path: Path) -> Any:
        structs = {str(kind.tag): kind for kind in kinds if isinstance(kind, inspect.StructType)}
        if structs:
            return self._tagged(node, structs, path)
        rest = [kind for kind in kinds if not isinstance(kind, inspect.NoneType)]
        optional = len(rest) < len(kinds)
        if isinstance(node, Scalar):
            if optional and node.plain and node.text in _NULLS:
                return None
            return self._scalar(node, rest[0]) if len(rest) == 1 else self._open_scalar(node)
        mapping = next((kind for kind in rest if isinstance(kind, inspect.DictType)), None)
        return self.value(node, mapping or rest[0], path)

    def _tagged(self, node: Node, structs: dict[str, inspect.StructType], path: Path) -> Any:
        one_of = ", ".join(structs)
        if not isinstance(node, Mapping):
            return self._expected(f"a mapping with its `kind` ({one_of})", node)
        tag = next((value for key, value in node.entries if key.text == "kind"), None)
        if tag is None:
            return self._refuse(node, f"`kind` is missing; it is one of {one_of}")
        if not isinstance(tag, Scalar) or tag.text not in structs:
            return self._expected(f"one of {one_of}", tag)
        return self._struct(node, structs[tag.text], path)

    def _struct(self, node: Node, kind: inspect.StructType, path: Path) -> Any:
        if not isinstance(node, Mapping):
            return self._expected("a mapping", node)
        self._refuse_duplicates(node)
        fields = {field.name: field for field in kind.fields}
        known = [*fields, kind.tag_field] if kind.tag_field else list(fields)
        found = {}
        for key, value in node.entries:
            if key.text in fields:
                found[key.text] = self.value(value, fields[key.text].type, (*path, key.text))
            elif key.text not in known:
                self._refuse(key, _unknown_field(key.text, known))
        missing = [
            name
            for name, field in fields.items()
            if name not in found
            and field.default is NODEFAULT
            and field.default_factory is NODEFAULT
        ]
        if missing:
            return self._refuse(node, f"`{missing[0]}` is missing")
        return _BAD if _BAD in found.values() else kind.cls(**found)

    def _tuple(self, node: Node, kind: inspect.VarTupleType, path: Path) -> Any:
        if not isinstance(node, Sequence):
            return self._expected("a list", node)
        items = [
            self.value(item, kind.item_type, (*path, index))
            for index, item in enumerate(node.items)
        ]
        return _BAD if _BAD in items else tuple(items)

    def _dict(self, node: Node, kind: inspect.DictType, path: Path) -> Any:
        if not isinstance(node, Mapping):
            return self._expected("a mapping", node)
        self._refuse_duplicates(node)
        found = {}
        for key, value in node.entries:
            name = self._scalar(key, kind.key_type)
            found[name] = self.value(value, kind.value_type, (*path, name))
        return _BAD if _BAD in found or _BAD in found.values() else found

    def _scalar(self, node: Node, kind: inspect.Type) -> Any:
        read = _READERS[type(kind)]
        return read(self, node, kind)

    def _text(self, node: Node, _kind: inspect.Type) -> Any:
        if not isinstance(node, Scalar) or (node.plain and node.text in _NULLS):
            return self._expected("text", node)
        return node.text

    def _integer(self, node: Node, _kind: inspect.Type) -> Any:
        if not isinstance(node, Scalar):
            return self._expected("a whole number", node)
        if not _INTEGER.fullmatch(node.text):
            return self._expected("a whole number, written in decimal like 900", node)
        if not node.plain:
            return self._expected("a whole number without quotes", node)
        return int(node.text)

    def _boolean(self, node: Node, _kind: inspect.Type) -> Any:
        if not isinstance(node, Scalar) or not node.plain or node.text not in {"true", "false"}:
            return self._expected("true or false", node)
        return node.text == "true"

    def _choice(self, node: Node, kind: inspect.Type) -> Any:
        assert isinstance(kind, inspect.LiteralType)
        if not isinstance(node, Scalar) or node.text not in kind.values:
            return self._expected("one of " + ", ".join(map(repr, kind.values)), node)
        return node.text

    def _open_scalar(self, node: Scalar) -> Any:
        """A value that may be text, a number or a boolean: what could be two of them is refused."""
        if node.plain and node.text in {"true", "false"}:
            return node.text == "true"
        if node.plain and _INTEGER.fullmatch(node.text):
            return int(node.text)
        wanted = None
        if _LOOKS_LIKE_BOOLEAN.fullmatch(node.text):
            wanted = "true or false, or text in quotes"
        elif _LOOKS_LIKE_INTEGER.fullmatch(node.text):
            wanted = "a number without leading zeros, or text in quotes"
        elif node.text in _NULLS:
            wanted = "a value"
        return self._expected(wanted, node) if wanted and node.plain else node.text

    def _refuse_duplicates(self, node: Mapping) -> None:
        for key, first in duplicates(node):
            self._refuse(key, f"{_shown(key.text)} is there twice, first in line {first.line}")

    def _expected(self, what: str, node: Node) -> Any:
        return self._refuse(node, f"expected {what}, got {_got(node)}")

    def _refuse(self, node: Node, message: str) -> Any:
        self.mistakes.append(Mistake(self._place(node), message))
        if len(self.mistakes) >= _MOST:
            raise TopologyError(self.mistakes)
        return _BAD

    def _place(self, node: Node) -> str:
        return f"{self._name}:{node.line}:{node.column}"


_READERS: dict[type[inspect.Type], Callable[[_Decoder, Node, inspect.Type], Any]] = {
    inspect.StrType: _Decoder._text,
    inspect.IntType: _Decoder._integer,
    inspect.BoolType: _Decoder._boolean,
    inspect.LiteralType: _Decoder._choice,
}


def _unknown_field(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:64], list(known), n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
    return f"{_shown(name)} is unknown here; {hint}"


def _got(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    assert isinstance(node, Scalar)
    if node.plain and node.text in _NULLS:
        return "nothing (null)"
    return _shown(node.text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
