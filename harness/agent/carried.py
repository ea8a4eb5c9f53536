"""The agent as it is carried into a node that does not see our files."""

from __future__ import annotations

from pathlib import Path

MAIN = """\
from agent.program import main

main()
"""


def files() -> dict[str, bytes]:
    """A directory that is a program: `python3 -I DIRECTORY` runs it as an agent (Python's manual,
    "Command line": what holds a ``__main__.py`` can be run, and its modules are found, also by the
    isolated mode). The content of each file, by its path in the directory."""
    package = Path(__file__).parent
    modules = sorted(package.glob("*.py"))
    found = {f"agent/{module.name}": module.read_bytes() for module in modules}
    return {"__main__.py": MAIN.encode(), **found}
