"""Public names of a package that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def loaded_from(homes: Mapping[str, str], package: str) -> Callable[[str], object]:
    """A module's ``__getattr__`` that takes each name from the module that is its home."""

    def attribute(name: str) -> object:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
