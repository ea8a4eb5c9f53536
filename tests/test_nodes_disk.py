"""Disks: files without a name, copied without what was never written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.nodes.disk import SIZE, Disk

MIB = 1 << 20
WRITTEN = {0: b"first", 5 * MIB: b"in the midst", SIZE - 4: b"last"}


@pytest.fixture
def written() -> Iterator[Disk]:
    with closing(Disk()) as made:
        for place, data in WRITTEN.items():
            os.pwrite(made.fileno(), data, place)
        yield made


def check(fd: int) -> None:
    found = os.fstat(fd)
    assert found.st_size == SIZE
    assert found.st_blocks * 512 < MIB
    assert {place: os.pread(fd, len(data), place) for place, data in WRITTEN.items()} == WRITTEN
    assert os.pread(fd, 4, 9 * MIB) == bytes(4)


def test_a_new_disk_is_empty_and_takes_no_room() -> None:
    with closing(Disk()) as made:
        found = os.fstat(made.fileno())
        assert (found.st_size, found.st_blocks) == (SIZE, 0)


def test_what_was_written_is_saved_and_copied(written: Disk, tmp_path: Path) -> None:
    check(written.fileno())
    written.save(tmp_path / "disk")
    with (tmp_path / "disk").open("rb") as saved:
        check(saved.fileno())
    with closing(Disk(tmp_path / "disk")) as copy:
        check(copy.fileno())
        os.pwrite(copy.fileno(), b"other", 0)
    check(written.fileno())


def test_a_disk_that_can_not_be_copied_leaves_nothing(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        Disk(tmp_path / "none")
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_it_can_be_closed_twice() -> None:
    made = Disk()
    made.close()
    made.close()
