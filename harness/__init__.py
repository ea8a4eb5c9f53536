"""Integration test harness and topology simulator for Open vSwitch.

Importing this package costs next to nothing: the public names below are loaded when they
are first used, so that the agent's launcher and the command line start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.topology import Topology

__all__ = ["Lab", "Topology"]

_HOMES = {"Lab": "harness.lab", "Topology": "harness.topology"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
