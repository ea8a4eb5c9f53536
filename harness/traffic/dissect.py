"""scapy, for what a report says about a frame. Nothing here is on the path of every frame."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scapy.packet import Packet

_LAYERS = (
    "scapy.layers.l2",
    "scapy.layers.inet",
    "scapy.layers.inet6",
    "scapy.layers.vxlan",
    "scapy.contrib.geneve",
    "scapy.contrib.lacp",
    "scapy.contrib.mpls",
)
_QUIET = frozenset({"chksum", "len"})
"""Fields that follow from others: named only when nothing else explains a change."""


@cache
def _load() -> Any:
    for module in _LAYERS:
        import_module(module)
    return import_module("scapy.layers.l2").Ether


def dissect(frame: bytes) -> Packet:
    """``frame`` as scapy sees it. What cannot be dissected ends up as ``Raw``."""
    packet: Packet = _load()(frame)
    return packet


def field_changes(before: bytes, after: bytes) -> list[str]:
    """The fields in which two frames differ, as ``"IP.ttl 64 -> 63"``; checksums and lengths only
    when nothing else does."""
    left, right = _fields(dissect(before)), _fields(dissect(after))
    keys = [*left, *(key for key in right if key not in left)]
    changed = [
        (key, f"{'.'.join(key[1:])} {left.get(key, 'absent')} -> {right.get(key, 'absent')}")
        for key in keys
        if left.get(key) != right.get(key)
    ]
    loud = [text for key, text in changed if key[2] not in _QUIET]
    return loud or [text for _, text in changed]


def _fields(packet: Any) -> dict[tuple[str, str, str], str]:
    """Layer index, layer and field to value, without payload bytes."""
    fields = {}
    index = 0
    while packet:
        name = type(packet).__name__
        if name not in {"Raw", "Padding"}:
            for field in packet.fields_desc:
                shown = field.i2repr(packet, packet.getfieldval(field.name))
                fields[str(index), name, field.name] = str(shown)
        packet = packet.payload
        index += 1
    return fields
