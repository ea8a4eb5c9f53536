"""The agent as it is carried into a node that does not see our files: as one file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Mapping

MAIN = """\
from agent.program import main

main()
"""
BOOT = """\
import os, sys
if sys.version_info < (3, 9):
    sys.exit("its python3 is %d.%d, and the agent needs 3.9 or later" % sys.version_info[:2])
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
    """The content of each of the agent's, by its path in the file."""
    package = Path(__file__).parent
    return {f"agent/{module.name}": module.read_bytes() for module in sorted(package.glob("*.py"))}


def archive(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A file that Python runs, also in isolated mode, of modules and a `__main__.py` (Python's
    library reference, zipapp); ``method`` is zipfile's way to compress."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, MADE), content, method)
    return made.getvalue()


def program() -> bytes:
    """A file that Python runs as an agent."""
    return archive({"__main__.py": MAIN.encode(), **modules()})


def shipped(program: bytes) -> bytes:
    """What goes over the stream to :data:`BOOT`, before all else."""
    return len(program).to_bytes(4, "big") + program
