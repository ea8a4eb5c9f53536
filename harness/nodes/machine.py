"""The machine's own system as the root of a node: its programs, none of its data.

The root directory can't be shown whole. Whoever is root in a user namespace only may not lay
anything over a directory that file systems are mounted in (what these cover would come to light),
and owns none of the machine's files: without more, such a root could write nowhere. So each system
directory is laid over for itself, and the directories that are written to are the node's own.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import Iterable

from harness.nodes.mounts import MS_BIND, mount, overlay

SHOWN = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "usr", "etc")
"""What a node sees of the machine (hier(7)): programs, libraries, settings."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def mount_points(mountinfo: str) -> set[str]:
    """Where file systems are mounted, of the text of ``/proc/PID/mountinfo`` (proc(5))."""
    paths = (line.split()[4] for line in mountinfo.splitlines())
    return {_ESCAPED.sub(lambda found: chr(int(found[1], 8)), path) for path in paths}


def own_places(layer: str, place: str = "") -> tuple[list[str], dict[str, str]]:
    """Which directories the tree ``layer`` makes a node's own, the empty ones of it; and its
    symbolic links with where they lead."""
    directories: list[str] = []
    links: dict[str, str] = {}
    with os.scandir(f"{layer}/{place}") as entries:
        for entry in entries:
            path = f"{place}/{entry.name}".lstrip("/")
            if entry.is_symlink():
                links[path] = os.readlink(entry.path)
            else:
                below, more = own_places(layer, path)
                directories += below
                links |= more
    if place and not directories and not links:
        directories.append(place)
    return directories, links


class Root:
    """Puts a node's root together at ``target``, a directory on the node's throw-away layer;
    ``scratch`` is another one there. ``own`` are directories that the node has for itself, empty at
    first; in those of ``writable`` files can be made, whoever owns them on the machine."""

    def __init__(
        self, target: str, scratch: str, own: Iterable[str], writable: Iterable[str] = ()
    ) -> None:
        self._target, self._scratch = target, scratch
        self._own = frozenset(own)
        self._ours = self._own | frozenset(writable)
        with open("/proc/thread-self/mountinfo", errors="surrogateescape") as file:
            self._mounted = mount_points(file.read())
        self._count = 0

    def make(self, links: dict[str, str]) -> None:
        """Make it, with these symbolic links of its own."""
        mount(self._target, self._target, "", MS_BIND)
        for name in SHOWN:
            self._show(name)
        for place in sorted(self._own):
            self._own_directory(f"{self._target}/{place}")
        for place, goal in links.items():
            os.makedirs(os.path.dirname(f"{self._target}/{place}"), exist_ok=True)
            os.symlink(goal, f"{self._target}/{place}")

    def _show(self, place: str) -> None:
        there, here = f"/{place}", f"{self._target}/{place}"
        try:
            mode = os.lstat(there).st_mode
        except FileNotFoundError:
            return
        if place in self._own:
            return
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(there), here)
        elif stat.S_ISREG(mode):
            # Ordinary users need not have what they can't read.
            with suppress(PermissionError):
                _copy(there, here, stat.S_IMODE(mode))
        elif stat.S_ISDIR(mode):
            os.mkdir(here)
            if any(path.startswith(there + "/") for path in self._mounted):
                for name in os.listdir(there):
                    self._show(f"{place}/{name}")
            else:
                self._lay_over(place)

    def _lay_over(self, place: str) -> None:
        """Show a directory of the machine's, under a layer of the node's own."""
        layer = self._scratch_directory()
        os.mkdir(f"{layer}/work")
        os.mkdir(f"{layer}/upper")
        for path in self._ours:
            if path.startswith(place + "/"):
                # A directory takes its owner from the topmost layer that has it.
                os.makedirs(f"{layer}/upper/{path[len(place) + 1 :]}", exist_ok=True)
        lower = os.open(f"/{place}", os.O_PATH | os.O_DIRECTORY)
        below, target = f"/proc/self/fd/{lower}", f"{self._target}/{place}"
        overlay([below], f"{layer}/upper", f"{layer}/work", target)
        os.close(lower)

    def _own_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        if os.listdir(path):
            mount(self._scratch_directory(), path, "", MS_BIND)

    def _scratch_directory(self) -> str:
        self._count += 1
        path = f"{self._scratch}/{self._count}"
        os.mkdir(path)
        return path


def _copy(there: str, here: str, mode: int) -> None:
    with open(there, "rb") as source:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(here, flags, mode), "wb") as copy:
            copy.write(source.read())
