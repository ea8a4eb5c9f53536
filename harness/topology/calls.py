"""Where in the user's code a verb was called, and data made from what it was given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import TypeVar

import msgspec

from harness.topology.errors import Mistake, TopologyError, path_text
from harness.topology.validate import wrong_type

T = TypeVar("T", bound=msgspec.Struct)


class Call(msgspec.Struct, frozen=True):
    """A line of the user's code."""

    file: str
    line: int

    def __str__(self) -> str:
        path = FilePath(self.file)
        here = FilePath.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{self.line}"

    def refuse(self, message: str) -> TopologyError:
        """The error that this call is."""
        return TopologyError([Mistake(str(self), message)])


class Handle:
    """What a verb returns: it stands for its ``name`` wherever a name is asked for."""

    name: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def caller() -> Call:
    """The innermost call that does not come from this package."""
    package = __name__.rpartition(".")[0] + "."
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        frame = frame.f_back
    return Call(frame.f_code.co_filename, frame.f_lineno)


def make(kind: type[T], call: Call, subject: object = None, **fields: object) -> T:
    """A ``kind`` from what a user gave for ``subject``, by default the field ``name``. Raise
    :class:`TopologyError` on a value of a wrong type."""
    try:
        return msgspec.convert({name: _plain(value) for name, value in fields.items()}, kind)
    except msgspec.ValidationError as error:
        path, message = wrong_type(error, kind.__name__.lower())
        subject = fields.get("name") if subject is None else subject
        raise call.refuse(f"{subject!r}: {path_text(path)}: {message}") from None


def _plain(value: object) -> object:
    if isinstance(value, Handle):
        return value.name
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | msgspec.Struct):
        return [_plain(item) for item in value]
    return value
