"""The archive that a kernel unpacks into memory, read back by a reader of its own."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.images import initramfs, layers
from harness.images.initramfs import Writer


class Entry(NamedTuple):
    """One entry, as buffer-format.rst of the kernel's documentation describes it."""

    inode: int
    mode: int
    owner: tuple[int, int]
    links: int
    time: int
    data: bytes


ABOUT = ("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize")
FIELDS = (*ABOUT, "maj", "min", "rmaj", "rmin", "namesize", "chksum")


def read(archive: bytes) -> dict[bytes, Entry]:
    """The entries by name, in order. As in the kernel, a later one of the same name counts; a
    directory that is there already stays, and gets the later one's mode and owner."""
    found: dict[bytes, Entry] = {}
    position = 0
    while True:
        assert position % 4 == 0
        header = archive[position : position + 110]
        assert header[:6] == b"070701"
        values = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        head = dict(zip(FIELDS, values, strict=True))
        assert not any(head[name] for name in ("maj", "min", "rmaj", "rmin", "chksum"))
        end = position + 110 + head["namesize"]
        name = archive[position + 110 : end]
        assert name.endswith(b"\0")
        start = end + -end % 4
        assert archive[end:start] == bytes(start - end)
        stop = start + head["filesize"]
        position = stop + -stop % 4
        assert archive[stop:position] == bytes(position - stop)
        if name == b"TRAILER!!!\0":
            assert archive[position:] == b""
            return found
        parent = name[:-1].rpartition(b"/")[0]
        assert not parent or stat.S_ISDIR(found[parent].mode), f"{name!r} before its directory"
        owner = (head["uid"], head["gid"])
        entry = Entry(
            head["ino"], head["mode"], owner, head["nlink"], head["mtime"], archive[start:stop]
        )
        found[name[:-1]] = entry


def packed(root: Path, *, owners: bool = True) -> dict[bytes, Entry]:
    sink = io.BytesIO()
    writer = Writer(sink, owners=owners)
    writer.tree([root])
    writer.end()
    return read(sink.getvalue())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "usr/lib").mkdir(parents=True)
    (made / "lib").symlink_to("usr/lib")
    (made / "etc").mkdir()
    (made / "etc/passwd").write_bytes(b"root:x:0:0\n")
    return made


def test_modes_kinds_and_contents(root: Path) -> None:
    (root / "empty").touch(0o600)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "secret").write_bytes(b"x")
    (root / "secret").chmod(0o400)
    (root / "dangling").symlink_to("/no/where")
    found = packed(root)
    kinds = {name: (oct(entry.mode), entry.data) for name, entry in found.items()}
    assert kinds == {
        b"dangling": (oct(stat.S_IFLNK | 0o777), b"/no/where"),
        b"empty": (oct(stat.S_IFREG | 0o600), b""),
        b"etc": (oct(stat.S_IFDIR | 0o755), b""),
        b"etc/passwd": (oct(stat.S_IFREG | 0o644), b"root:x:0:0\n"),
        b"lib": (oct(stat.S_IFLNK | 0o777), b"usr/lib"),
        b"secret": (oct(stat.S_IFREG | 0o400), b"x"),
        b"tmp": (oct(stat.S_IFDIR | 0o1777), b""),
        b"usr": (oct(stat.S_IFDIR | 0o755), b""),
        b"usr/lib": (oct(stat.S_IFDIR | 0o755), b""),
    }
    # None is a hard link to another one: the kernel would take it for one of the same number.
    assert {entry.links for entry in found.values()} == {1}
    assert len({entry.inode for entry in found.values()}) == len(found)


@pytest.mark.parametrize("size", range(9))
@pytest.mark.parametrize("length", range(1, 6))
def test_names_and_contents_of_any_length_are_padded(
    tmp_path: Path, size: int, length: int
) -> None:
    (tmp_path / ("n" * length)).write_bytes(b"\xff" * size)
    (tmp_path / "z").write_bytes(b"after it")
    found = packed(tmp_path)
    assert [entry.data for entry in found.values()] == [b"\xff" * size, b"after it"]


def test_a_file_that_has_two_names_is_whole_under_both(root: Path) -> None:
    os.link(root / "etc/passwd", root / "etc/passwd-")
    found = packed(root)
    assert found[b"etc/passwd"].data == found[b"etc/passwd-"].data == b"root:x:0:0\n"


@pytest.mark.parametrize("name", ["Netlock_Főtanúsítvány.pem".encode(), b"\xff\xfe", b"a b\n"])
def test_names_are_bytes(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"here")
    (tmp_path / "link").symlink_to(os.fsdecode(name))
    found = packed(tmp_path)
    assert found[name].data == b"here"
    assert found[b"link"].data == name


def test_what_is_no_file_is_left_out(root: Path) -> None:
    os.mkfifo(root / "etc/fifo")
    assert set(packed(root)) == {b"etc", b"etc/passwd", b"lib", b"usr", b"usr/lib"}


def test_owners_are_those_of_the_files_or_all_root(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = {entry.owner for entry in packed(root).values()}
    assert everybody == {(os.getuid(), os.getgid())}
    seen = os.stat_result((stat.S_IFDIR | 0o755, 5, 6, 1, 7, 8, 0, 0, 0, 0))
    entry = layers.Entry("etc", root / "etc", seen)
    monkeypatch.setattr(initramfs, "merged", lambda *_: iter([entry]))
    assert packed(root)[b"etc"].owner == (7, 8)
    assert packed(root, owners=False)[b"etc"].owner == (0, 0)


def written(root: Path, modules: Path) -> bytes:
    sink = io.BytesIO()
    files = {
        "init": (0o755, b"#!/bin/sh\n"),
        ".harness/agent/loop.py": (0o644, b"agent"),
        "etc/passwd": (0o600, b"other\n"),
    }
    initramfs.write(sink, [root], modules, files)
    return sink.getvalue()


@pytest.mark.parametrize("merged", [True, False])
def test_the_root_file_system_of_a_machine(root: Path, tmp_path: Path, merged: bool) -> None:
    """Modules lie where ``/lib`` of the image is: an entry can't lie below a link."""
    if not merged:
        (root / "lib").unlink()
        (root / "lib").mkdir()
    modules = tmp_path / "modules"
    (modules / "6.1-x").mkdir(parents=True)
    (modules / "6.1-x/modules.dep").write_bytes(b"dep")
    found = read(written(root, modules))
    place = b"usr/lib/modules" if merged else b"lib/modules"
    assert found[place + b"/6.1-x/modules.dep"].data == b"dep"
    assert found[b"init"].mode == stat.S_IFREG | 0o755
    assert found[b".harness/agent/loop.py"].data == b"agent"
    # A kernel makes no directories that it is not told of.
    assert found[b".harness"].mode == found[b".harness/agent"].mode == stat.S_IFDIR | 0o755
    # The last one of a name is the one that stays.
    assert found[b"etc/passwd"].data == b"other\n"
    assert found[b"etc/passwd"].mode == stat.S_IFREG | 0o600


def test_the_same_tree_makes_the_same_archive(root: Path, tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    first = written(root, modules)
    for path in root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert written(root, modules) == first
    assert {entry.time for entry in read(first).values()} == {0}
