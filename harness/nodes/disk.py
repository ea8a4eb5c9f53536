"""The disk of a virtual machine: what is still there when its power has been cut.

A machine keeps on it what a running system writes to: ``/etc`` and ``/var`` (hier(7)), and the same
below ``/usr/local`` for what `make install` puts there; the rest of its root is the image's. A disk
is a file without a name, so that none is left, whatever ends the harness.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from harness.nodes.base import Node

SIZE = 128 << 20
"""Bytes. What was never written takes no room."""
DEVICE = "/dev/vda"
PLACE = "/run/disk"
DIRECTORIES = ("etc", "var", "usr/local/etc", "usr/local/var")
_FORMAT = """\
mkfs.ext4 -q -F -N 8192 "$0"
mkdir "$1"
mount -t ext4 -o noinit_itable "$0" "$1"
for directory in $2; do mkdir -p "$1/$directory" "$1/.$directory"; done
umount "$1"
rmdir "$1"
sync
"""
_MOUNT = """\
mkdir "$1"
mount -t ext4 -o noinit_itable "$0" "$1"
for directory in $2; do
    [ -d "/$directory" ] || continue
    layers="lowerdir=/$directory,upperdir=$1/$directory,workdir=$1/.$directory"
    mount -t overlay -o "$layers" "$directory" "/$directory"
done
"""
"""Both get the device, the place where it is mounted, and the directories on it."""


class Disk:
    """A disk, empty or the copy of another one."""

    def __init__(self, like: Path | None = None) -> None:
        self._fd = os.memfd_create("disk", os.MFD_CLOEXEC)
        try:
            os.truncate(self._fd, SIZE)
            if like is not None:
                with like.open("rb") as source:
                    _copy(source.fileno(), self._fd)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._fd

    def save(self, path: Path) -> None:
        """Write what is on it to a new file."""
        with path.open("xb") as sink:
            sink.truncate(SIZE)
            _copy(self._fd, sink.fileno())

    def close(self) -> None:
        """Let go of it; it is gone when no machine has it either. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _copy(source: int, sink: int) -> None:
    """Copy what has been written to one file to another one, as large and without anything in it
    yet (lseek(2), ``SEEK_DATA``)."""
    end = 0
    while True:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(source, begin, os.SEEK_HOLE)
        while begin < end:
            begin += os.pwrite(sink, os.pread(source, end - begin, begin), begin)


def set_up(node: Node) -> None:
    """Make file systems on a machine's new disk. Raise :class:`NodeError`."""
    _run(node, _FORMAT)


def mount(node: Node) -> None:
    """Have a machine use what is on its disk. Raise :class:`NodeError`."""
    _run(node, _MOUNT)


def _run(node: Node, code: str) -> None:
    argv = ["sh", "-e", "-c", code, DEVICE, PLACE, " ".join(DIRECTORIES)]
    node.run(argv, timeout=60)
