"""The agent as it is carried into a node that does not see our files: as one file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

MAIN = """\
from agent.program import main

main()
"""
BOOT = """\
import os, sys
def take(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit("the stream ended before the agent had come")
        data += more
    return data
program = os.memfd_create("agent", 0)
with open(program, "wb", closefd=False) as file:
    file.write(take(int.from_bytes(take(4), "big")))
place = f"/proc/self/fd/{program}"
os.execv(sys.executable, [sys.executable, "-I", place, "-", *sys.argv[1:]])
"""
"""Begins an agent (``python3 -I -c BOOT``) where there is nothing but two pipes, the first of which
brings the agent itself (:func:`shipped`): no file is left of it. With ``node`` behind it, the
network namespace is all a node's."""
MADE = (1980, 1, 1, 0, 0, 0)
"""The time of everything in the file: the same modules make the same file."""


def modules() -> dict[str, bytes]:
    """The content of each, by its path in the file."""
    package = Path(__file__).parent
    return {f"agent/{module.name}": module.read_bytes() for module in sorted(package.glob("*.py"))}


def program() -> bytes:
    """A file that Python runs as an agent, also in isolated mode: an archive with a `__main__.py`
    (Python's library reference, zipapp)."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in {"__main__.py": MAIN.encode(), **modules()}.items():
            archive.writestr(zipfile.ZipInfo(name, MADE), content)
    return made.getvalue()


def shipped() -> bytes:
    """What goes over the stream to :data:`BOOT`, before all else."""
    carried = program()
    return len(carried).to_bytes(4, "big") + carried
