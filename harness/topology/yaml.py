"""Topologies as YAML files: the model's own field names, each list of ports told apart by ``kind``.

Reading and writing lose nothing: ``loads(dump(spec)) == spec``.
"""

from __future__ import annotations

import os
import stat

from harness.topology.errors import Mistake, TopologyError
from harness.topology.model import TopologySpec

MAX_SIZE = 1 << 20
"""Bytes of YAML that are read."""


def load(path: str | os.PathLike[str]) -> TopologySpec:
    """The topology in the file at ``path``. Raise :class:`TopologyError`: ``path:line:column`` and
    what was expected there, or why the file can't be read."""
    name = os.fspath(path)
    try:
        data = _read(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TopologyError([Mistake(name, f"can't read the topology: {reason}")]) from None
    if len(data) > MAX_SIZE:
        raise TopologyError([Mistake(name, f"larger than {MAX_SIZE} bytes; no topology needs it")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"expected UTF-8 text, got byte {data[error.start]:#04x}"
        raise TopologyError([Mistake(f"{name}:{line}:{column}", message)]) from None
    return loads(text, name)


def loads(text: str, name: str = "<string>") -> TopologySpec:
    """The topology in ``text``; ``name`` is what mistakes call it. Raise :class:`TopologyError`."""
    # PyYAML takes longer to import than all the rest of the room.
    from harness.topology.decode import decode
    from harness.topology.nodes import compose

    if len(text) > MAX_SIZE:
        raise TopologyError([Mistake(name, f"larger than {MAX_SIZE} bytes; no topology needs it")])
    return decode(compose(text, name), name)


def dump(spec: TopologySpec) -> str:
    """``spec`` as YAML text, the same every time; :func:`loads` reads it back equal."""
    from harness.topology.encode import encode

    return encode(spec)


def _read(name: str) -> bytes:
    """The file's bytes, no more than one over the bound. Never waits, as for a FIFO's writer."""
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise ValueError("it is a directory")
        if not stat.S_ISREG(mode):
            raise ValueError("it is not a regular file")
        return file.read(MAX_SIZE + 1)
