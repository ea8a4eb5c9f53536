"""flock(2) locks that name their holders. The kernel drops them when their process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class Hold:
    """A lock that is held until :meth:`close`, the end of a ``with`` block, or of the process."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def try_lock(path: Path, *, shared: bool = False) -> Hold | None:
    """Take the lock of the file ``path`` (made where it is missing), or None when someone has it.

    Lock files are never deleted: one that is would let two processes hold "the same" lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Hold(descriptor)


@contextmanager
def lock(path: Path, waiting: Callable[[str], None], *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of ``path`` in a ``with`` block. When someone has it, first call ``waiting``
    with "process N" (or with "another process", where the kernel does not tell), then wait."""
    hold = try_lock(path, shared=shared)
    if hold is None:
        waiting(describe_holders(path))
        hold = _wait(path, shared)
    with hold:
        yield


def _wait(path: Path, shared: bool) -> Hold:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return Hold(descriptor)


def holders(path: Path) -> list[int]:
    """The processes that hold the lock of ``path``, as far as proc_locks(5) tells them."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    return _holders(lines, inode)


def _holders(lines: list[str], inode: int) -> list[int]:
    """Lines read ``1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF``; a waiter's have ``->``. The
    device is not compared: on btrfs it differs from that of stat(2)."""
    found = set()
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            found.add(int(fields[4]))
    return sorted(pid for pid in found if pid > 0)


def describe_holders(path: Path) -> str:
    """ "process 12", "processes 12, 13", or "another process" when it can't be told."""
    pids = holders(path)
    if not pids:
        return "another process"
    return ("process " if len(pids) == 1 else "processes ") + ", ".join(map(str, pids))
