"""mount(2) and the flags of it that nodes need."""

from __future__ import annotations

import ctypes
import os

from harness.agent.libc import check, libc

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429
"""The same on all processors."""
AT_FDCWD, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = -100, 1, 4


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); raise OSError naming what was mounted where."""
    arguments = [value.encode() for value in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount {kind} on {target}")


def overlay(lower: list[str], upper: str, work: str, target: str) -> None:
    """Mount overlayfs(5). ``lower`` are directories, the first on top. A path may hold characters
    that the options can't; that of a descriptor (``/proc/self/fd/3``) holds none."""
    options = f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}"
    mount("overlay", target, "overlay", 0, options)


def clone(path: str) -> int:
    """What is to be seen at a directory, as a mount that is attached nowhere yet (open_tree(2)): a
    descriptor, good in other mount namespaces too."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC
    return check(libc.syscall(SYS_OPEN_TREE, AT_FDCWD, path.encode(), flags), f"open_tree {path}")


def attach(tree: int, target: str) -> None:
    """Mount what :func:`clone` returned at a directory (move_mount(2))."""
    arguments = [tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH]
    check(libc.syscall(SYS_MOVE_MOUNT, *arguments), f"move_mount to {target}")
