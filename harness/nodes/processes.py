"""The processes of nodes as this machine sees them, looked up in /proc (proc(5))."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process: its parent, and its ids from the PID namespace of this /proc to its own."""

    parent: int
    ids: tuple[int, ...]


def parse_status(text: str) -> Process | None:
    """What ``/proc/PID/status`` says; None for a process without the two lines needed."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "PPid" not in lines or "NSpid" not in lines:
        return None
    return Process(int(lines["PPid"]), tuple(int(number) for number in lines["NSpid"].split()))


def look(proc: Path = Path("/proc")) -> dict[int, Process]:
    """All processes that can be seen, by their id here."""
    found = {}
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            process = parse_status((directory / "status").read_text(errors="replace"))
        except OSError:
            # It has ended meanwhile, or is somebody else's.
            continue
        if process is not None:
            found[int(directory.name)] = process
    return found


def first_of(node: int, launcher: int, found: dict[int, Process]) -> int | None:
    """The id here of a node's first process, which the launcher knows as ``node``.

    The launcher's first process is the only child of ``launcher``; every node's is a child of that
    one, and the first process of one more PID namespace.
    """
    for pid, process in found.items():
        parent = found.get(process.parent)
        if parent is None or parent.parent != launcher:
            continue
        if process.ids[-1] == 1 and process.ids[-2:-1] == (node,):
            return pid
    return None


def find_node(launcher: int, node: int) -> int | None:
    """:func:`first_of`, looked up now."""
    return first_of(node, launcher, look())
