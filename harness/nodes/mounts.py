"""mount(2) and the flags of it that nodes need."""

from __future__ import annotations

import ctypes

from harness.agent.agent import check, libc

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); raise OSError naming what was mounted where."""
    arguments = [value.encode() for value in (source, target, kind)]
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount {kind} on {target}")


def overlay(lower: list[int], upper: str, work: str, target: str) -> None:
    """Mount overlayfs(5). ``lower`` are descriptors, the first on top: a path may hold characters
    that the options can't."""
    below = ":".join(f"/proc/self/fd/{fd}" for fd in lower)
    options = f"lowerdir={below},upperdir={upper},workdir={work}"
    mount("overlay", target, "overlay", 0, options)
