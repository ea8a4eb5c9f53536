"""Directories laid over each other: what overlayfs(5) shows of them, without mounting anything."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A file, a directory or a symbolic link."""

    place: str
    """Below the root."""
    path: Path
    """Where it lies."""
    status: os.stat_result
    """Its own, also that of a link."""


def merged(layers: Sequence[Path], place: str = "") -> Iterator[Entry]:
    """Everything in ``layers``, the first of which is on top, in the order of names, directories
    before what is in them; below ``place``.

    Of several directories of one name all entries are seen, down to the first layer where the name
    is something else's. Of anything else only the topmost is.
    """
    found: dict[str, list[os.DirEntry[str]]] = {}
    for layer in layers:
        with os.scandir(layer) as entries:
            for entry in entries:
                found.setdefault(entry.name, []).append(entry)
    for name, same in sorted(found.items()):
        yield Entry(f"{place}{name}", Path(same[0].path), same[0].stat(follow_symlinks=False))
        directories = [Path(entry.path) for entry in takewhile(_is_directory, same)]
        yield from merged(directories, f"{place}{name}/")


def _is_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def fingerprint(layers: Sequence[Path]) -> str:
    """Changes when something in ``layers`` does, as far as their file systems tell: names, modes,
    sizes and times; no file is read."""
    digest = hashlib.sha256()
    for place, path, found in merged(layers):
        goal = path.readlink() if stat.S_ISLNK(found.st_mode) else ""
        said = f"{place}\0{found.st_mode:o} {found.st_size} {found.st_mtime_ns}\0{goal}\0"
        digest.update(os.fsencode(said))
    return digest.hexdigest()
