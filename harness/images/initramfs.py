"""A root file system as an archive that a kernel unpacks into memory when it boots.

The format is "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): headers of
ASCII hexadecimal digits, names and contents each padded to 4 bytes. It is not compressed: QEMU
reads it from the page cache faster than an emulated processor unpacks it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.images.layers import merged

_MAGIC = b"070701"
_END = "TRAILER!!!"


class Writer:
    """Writes entries to ``sink``. What belongs to an ordinary user who unpacked it (``owners``
    False) belongs to root in the archive."""

    def __init__(self, sink: BinaryIO, *, owners: bool) -> None:
        self._sink, self._owners = sink, owners
        self._position = self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", owner: tuple[int, int] = (0, 0)) -> None:
        """One entry: ``mode`` with the type of file; of a symbolic link ``data`` is the goal."""
        self._inode += 1
        path = os.fsencode(name) + b"\0"
        uid, gid = owner if self._owners else (0, 0)
        fields = (self._inode, mode, uid, gid, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self._write(_MAGIC + b"".join(b"%08x" % field for field in fields) + path)
        self._write(data)

    def _write(self, data: bytes) -> None:
        padding = -(self._position + len(data)) % 4
        self._sink.write(data)
        self._sink.write(bytes(padding))
        self._position += len(data) + padding

    def tree(self, layers: Sequence[Path], place: str = "") -> None:
        """Everything in ``layers`` as :func:`~harness.images.layers.merged` shows it."""
        for name, path, found in merged(layers, place):
            owner = (found.st_uid, found.st_gid)
            if stat.S_ISLNK(found.st_mode):
                self.add(name, found.st_mode, os.fsencode(path.readlink()), owner)
            elif stat.S_ISREG(found.st_mode):
                self.add(name, found.st_mode, path.read_bytes(), owner)
            elif stat.S_ISDIR(found.st_mode):
                self.add(name, found.st_mode, b"", owner)

    def end(self) -> None:
        """The last entry."""
        self.add(_END, 0)


def write(
    sink: BinaryIO,
    layers: Sequence[Path],
    modules: Path,
    files: Mapping[str, tuple[int, bytes]],
) -> None:
    """The root file system of a VM: what ``layers`` show (the last is a whole system, the first on
    top), the kernel's ``modules`` (``lib/modules`` of it) and ``files``, a mode and a content by
    path. ``files`` replace what is there before."""
    writer = Writer(sink, owners=os.geteuid() == 0)
    writer.tree(layers)
    place = "usr/lib/modules" if (layers[-1] / "lib").is_symlink() else "lib/modules"
    writer.add(place, stat.S_IFDIR | 0o755)
    writer.tree([modules], f"{place}/")
    above = (reversed(PurePosixPath(name).parents[:-1]) for name in files)
    for parent in dict.fromkeys(chain.from_iterable(above)):
        writer.add(str(parent), stat.S_IFDIR | 0o755)
    for name, (mode, data) in files.items():
        writer.add(name, stat.S_IFREG | mode, data)
    writer.end()
