"""A root file system as the file system of a disk, which a machine mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from harness.images.cache import full_disk_explained, images_directory
from harness.images.errors import ImageError
from harness.images.layers import merged

SIZE = 1 << 30
"""Bytes. What is empty takes no room."""
FEATURES = "none,dir_index,ext_attr,extent,filetype,large_file,sparse_super"
"""What every kernel and every mke2fs knows (ext4(5)). Nothing is ever written to it."""
SYSTEM_PROGRAMS = "/usr/sbin:/sbin"
"""Where an ordinary user does not look."""


@cache
def pack(root: Path) -> int:
    """Make an ext4 file system of everything below ``root``, in a file without a name; return a
    descriptor of it to read from, which stays open as long as this process lives.

    What belongs to an ordinary user who unpacked it belongs to root in there, as it does in
    :mod:`harness.images.initramfs`. Raise :class:`ImageError` when that fails.
    """
    with full_disk_explained():
        made = tempfile.TemporaryFile(dir=images_directory())  # noqa: SIM115 - closed below
    with made:
        made.truncate(SIZE)
        how = ["-q", "-F", "-t", "ext4", "-m", "0", "-O", FEATURES]
        _run(made.fileno(), "mke2fs", *how, "-d", str(root), file(made.fileno()))
        if os.geteuid() != 0:
            _give_to_root(made.fileno(), root)
        return os.open(file(made.fileno()), os.O_RDONLY | os.O_CLOEXEC)


def file(descriptor: int) -> str:
    """The name of an open file for a program that inherits it."""
    return f"/proc/self/fd/{descriptor}"


def _give_to_root(descriptor: int, root: Path) -> None:
    commands = [
        f"set_inode_field {_quoted(place)} {owner} 0\n"
        for place in ("/", *(f"/{entry.place}" for entry in merged([root])))
        for owner in ("uid", "gid")
    ]
    _run(descriptor, "debugfs", "-w", "-f", "-", file(descriptor), stdin="".join(commands))


def _quoted(place: str) -> str:
    return '"' + place.replace('"', '""') + '"'


def _run(descriptor: int, program: str, *arguments: str, stdin: str = "") -> None:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PROGRAMS}")
    if path is None:
        raise ImageError(f"{program} makes disks of images: run `sudo apt-get install e2fsprogs`")
    done = subprocess.run(
        [path, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        pass_fds=[descriptor],
        check=False,
    )
    if done.returncode != 0:
        raise ImageError(f"{program} made no disk of the image: {done.stderr.strip()}")
