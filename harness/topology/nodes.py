"""YAML text to a tree of nodes with places: only what a topology needs, and nothing hostile.

No anchors, no tags, no second document, no key twice, a bounded depth. Values stay the text that
was written, so that YAML 1.1 does not turn ``off`` into a boolean or ``1:30`` into 90.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import yaml

from harness.topology.errors import Mistake, TopologyError

MAX_DEPTH = 16
"""The data itself is nested 9 deep."""
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep; no topology is"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""YAML 1.1, section 4.1: what no stream may hold."""


class Node(msgspec.Struct):
    """Any value. ``line`` and ``column`` count from 1."""

    line: int
    column: int


class Scalar(Node):
    """One value as it was written; ``plain`` when it has no quotes."""

    text: str
    plain: bool


class Sequence(Node):
    """A list."""

    items: list[Node] = []


class Mapping(Node):
    """A mapping, in the order of the file."""

    entries: list[tuple[Scalar, Node]] = []
    pending: Scalar | None = None


class _Refused(Exception):  # never leaves this module
    pass


def compose(text: str, name: str) -> Node:
    """The only document in ``text``. Raise :class:`TopologyError` with ``name:line:column``."""
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
        raise _error(name, line, column, f"character {found.group()!a} is not allowed in YAML")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=loader):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else composer.at
        said = ", ".join(part for part in (error.context, error.problem) if part)
        # Scanners with a limit of their own (PyYAML's since 6.0.4) see it before there is an event.
        too_deep = "nesting depth" in said
        raise _error(name, *at, TOO_DEEP if too_deep else f"this is not YAML: {said}") from None
    except _Refused as error:
        raise _error(name, *composer.at, str(error)) from None
    if composer.root is None:
        raise _error(name, 1, 1, "expected a topology, a mapping with its `name`; this is empty")
    return composer.root


class _Composer:
    """Puts the events of one document together; the stack holds the open collections."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.at = (1, 1)
        self._stack: list[Sequence | Mapping] = []

    def take(self, event: yaml.Event) -> None:
        if event.start_mark is not None:
            self.at = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused("anchors and aliases (& and *) are not allowed; write the value out")
        if tag := getattr(event, "tag", None):
            raise _Refused(f"tags are not allowed; leave {str(tag)[:60]!r} out")
        if isinstance(event, yaml.ScalarEvent):
            self._put(Scalar(*self.at, event.value, event.implicit[0]))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(Sequence(*self.at))
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(Mapping(*self.at))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _Refused("a second document begins here; one file holds one topology")

    def _open(self, node: Sequence | Mapping) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(TOO_DEEP)
        self._put(node)
        self._stack.append(node)

    def _put(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif parent.pending is not None:
            parent.entries.append((parent.pending, node))
            parent.pending = None
        elif isinstance(node, Scalar):
            parent.pending = node
        else:
            raise _Refused("expected a name as key, not a list or mapping")


def _error(name: str, line: int, column: int, message: str) -> TopologyError:
    return TopologyError([Mistake(f"{name}:{line}:{column}", message)])


def duplicates(node: Mapping) -> Iterator[tuple[Scalar, Scalar]]:
    """The keys that are there twice: each with its first place."""
    seen: dict[str, Scalar] = {}
    for key, _ in node.entries:
        if key.text in seen:
            yield key, seen[key.text]
        seen.setdefault(key.text, key)
