"""Data to YAML that people edit: fields in the model's order, defaults left out, short things on
one line, OpenFlow text as a block."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from harness.topology.model import TopologySpec

_WIDTH = 100
_ONE_LINE = 80
_TAGS = {str: "str", int: "int", bool: "bool"}


def encode(spec: TopologySpec) -> str:
    """``spec`` as YAML, the same text every time."""
    text: str = yaml.serialize(
        _node(spec), Dumper=yaml.SafeDumper, allow_unicode=True, width=_WIDTH
    )
    return text


def _node(value: Any) -> yaml.Node:
    if isinstance(value, msgspec.Struct):
        return _mapping(_fields(value))
    if isinstance(value, dict):
        return _mapping(value)
    if isinstance(value, list | tuple):
        items = [_node(item) for item in value]
        flow = all(isinstance(item, yaml.ScalarNode) for item in items)
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=flow)
    tag = f"tag:yaml.org,2002:{_TAGS[type(value)]}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return yaml.ScalarNode(tag, text, style="|" if "\n" in text else None)


def _mapping(value: dict[Any, Any]) -> yaml.Node:
    entries = [(_node(key), _node(item)) for key, item in value.items()]
    sizes = [_size(node) for entry in entries for node in entry]
    flow = all(sizes) and sum(sizes) <= _ONE_LINE
    return yaml.MappingNode("tag:yaml.org,2002:map", entries, flow_style=flow)


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    """What differs from the defaults; msgspec's own ``omit_defaults`` compares by identity."""
    tag = struct.__struct_config__.tag
    found = {} if tag is None else {"kind": tag}
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        default = {} if field.default_factory is dict else field.default
        if value != default or type(value) is not type(default):
            found[field.name] = value
    return found


def _size(node: yaml.Node) -> int:
    """Characters of ``node`` within a line; 0 when it should not be there."""
    if isinstance(node, yaml.ScalarNode):
        return 0 if node.style else len(node.value) + 2
    if not isinstance(node, yaml.CollectionNode) or not node.flow_style:
        return 0
    parts = [part for item in node.value for part in (item if isinstance(item, tuple) else [item])]
    nested = any(not isinstance(part, yaml.ScalarNode) for part in parts)
    return 0 if nested else 2 + sum(len(part.value) + 2 for part in parts)
