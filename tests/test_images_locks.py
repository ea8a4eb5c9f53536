"""Locks: who holds one, and that the kernel lets go of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.images.locks import _holders, holders, lock, try_lock

LINES = [
    "1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF",
    "1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:123456 0 EOF",
    "2: FLOCK  ADVISORY  READ 4713 fe:00:77 0 EOF",
    "3: FLOCK  ADVISORY  READ 4714 fe:00:77 0 EOF",
    "4: POSIX  ADVISORY  WRITE 4715 fe:00:123456 0 EOF",
    "5: FLOCK  ADVISORY  WRITE 0 fe:00:88 0 EOF",
    "",
]


@pytest.mark.parametrize(
    ("inode", "expected"), [(123456, [4711]), (77, [4713, 4714]), (88, []), (99, [])]
)
def test_holders_are_read_from_proc_locks(inode: int, expected: list[int]) -> None:
    assert _holders(LINES, inode) == expected


def test_one_writer_or_many_readers(tmp_path: Path) -> None:
    path = tmp_path / "deep/lock"
    first = try_lock(path, shared=True)
    second = try_lock(path, shared=True)
    assert first is not None
    assert second is not None
    assert try_lock(path) is None
    first.close()
    second.close()
    second.close()
    held = try_lock(path)
    assert held is not None
    with held:
        assert holders(path) == [os.getpid()]
        assert try_lock(path, shared=True) is None
    assert try_lock(path) is not None


def test_waiting_names_the_holder_and_ends_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from harness.images.locks import try_lock\n"
        f"held = try_lock(Path({str(path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        said = []

        def waiting(by_whom: str) -> None:
            said.append(by_whom)
            other.kill()

        with lock(path, waiting):
            assert said == [f"process {other.pid}"]
