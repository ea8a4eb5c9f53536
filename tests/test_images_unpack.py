"""Unpacking a root file system that an enemy may have written."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.images import UnsafeArchiveError
from harness.images.unpack import Unpacker, safe_mode

Entry = tuple[str, bytes, str, int]
"""Name, type, content or link goal, mode."""

FILE, DIRECTORY, SYMLINK, HARD_LINK = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
)


def tar_of(entries: list[Entry]) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, content, mode in entries:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.mtime = kind, mode, 12, 1000
            if kind == FILE:
                member.size = len(content)
            else:
                member.linkname = content
            archive.addfile(member, io.BytesIO(content.encode()))
    data.seek(0)
    return data


def unpack(target: Path, entries: list[Entry], *, skip_devices: bool = False) -> Unpacker:
    unpacker = Unpacker(target, skip_devices=skip_devices)
    with tarfile.open(fileobj=tar_of(entries), mode="r|") as archive:
        unpacker.unpack(archive, ((member.name, member) for member in archive))
    return unpacker


def test_a_plain_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    unpacker = unpack(
        tmp_path,
        [
            (".", DIRECTORY, "", 0o755),
            ("./usr", DIRECTORY, "", 0o755),
            ("./usr/file", FILE, "content", 0o644),
            ("./usr/again", HARD_LINK, "./usr/file", 0o644),
            ("./bin", SYMLINK, "usr/bin", 0o777),
            ("./etc/mtab", SYMLINK, "/proc/mounts", 0o777),
            ("./tmp", DIRECTORY, "", 0o1777),
        ],
    )
    assert (tmp_path / "usr/file").read_text() == "content"
    assert (tmp_path / "usr/file").stat().st_mtime == 1000
    assert (tmp_path / "usr/file").stat().st_uid == os.geteuid()
    assert (tmp_path / "usr/again").samefile(tmp_path / "usr/file")
    assert (tmp_path / "bin").readlink() == Path("usr/bin")
    assert (tmp_path / "etc/mtab").readlink() == Path("/proc/mounts")
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert unpacker.size == len("content")


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        (FILE, 0o4755, 0o755),
        (FILE, 0o2755, 0o755),
        (FILE, 0o1644, 0o644),
        (FILE, 0o000, 0o400),
        (DIRECTORY, 0o000, 0o700),
        (DIRECTORY, 0o2775, 0o775),
        (DIRECTORY, 0o1777, 0o1777),
    ],
)
def test_modes_lose_what_is_dangerous_and_keep_the_tree_removable(
    kind: bytes, mode: int, expected: int
) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.mode = kind, mode
    assert safe_mode(member) == expected


HOSTILE: dict[str, list[Entry]] = {
    "up": [("../evil", FILE, "x", 0o644)],
    "up in the middle": [("a/../../evil", FILE, "x", 0o644)],
    "absolute": [("/evil", FILE, "x", 0o644)],
    "through an absolute link": [
        ("a", SYMLINK, "{outside}", 0o777),
        ("a/evil", FILE, "x", 0o644),
    ],
    "through a relative link": [("a", SYMLINK, "..", 0o777), ("a/evil", FILE, "x", 0o644)],
    "over a link": [("evil", SYMLINK, "{outside}/evil", 0o777), ("evil", FILE, "x", 0o644)],
    "directory over a link": [("a", SYMLINK, "{outside}", 0o777), ("a", DIRECTORY, "", 0o777)],
    "hard link to the outside": [("a", HARD_LINK, "../evil", 0o644)],
    "hard link to an absolute path": [("a", HARD_LINK, "{outside}/there", 0o644)],
    "hard link to a link": [
        ("a", SYMLINK, "{outside}/there", 0o777),
        ("b", HARD_LINK, "a", 0o777),
    ],
    "hard link through a link": [
        ("a", SYMLINK, "{outside}", 0o777),
        ("b", HARD_LINK, "a/there", 0o777),
    ],
    "file as a directory": [("a", FILE, "x", 0o644), ("a/evil", FILE, "x", 0o644)],
    "twice": [("a", FILE, "x", 0o644), ("a", FILE, "y", 0o644)],
    "character device": [("a", tarfile.CHRTYPE, "", 0o666)],
    "block device": [("a", tarfile.BLKTYPE, "", 0o666)],
    "fifo": [("a", tarfile.FIFOTYPE, "", 0o666)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leaves_the_tree_is_refused(tmp_path: Path, name: str) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target/root"
    outside.mkdir()
    target.mkdir(parents=True)
    (outside / "there").write_text("untouched")
    (outside / "there").chmod(0o600)
    entries = [
        (where, kind, content.format(outside=outside), mode)
        for where, kind, content, mode in HOSTILE[name]
    ]
    with pytest.raises(UnsafeArchiveError):
        unpack(target, entries)
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert (outside / "there").stat().st_mode & 0o7777 == 0o600
    assert not (tmp_path / "evil").exists()
    assert not (target.parent / "evil").exists()


def test_devices_of_our_own_build_are_left_out(tmp_path: Path) -> None:
    unpack(tmp_path, [("dev/null", tarfile.CHRTYPE, "", 0o666)], skip_devices=True)
    assert not (tmp_path / "dev/null").exists()


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.images.unpack.MAX_BYTES", 10)
    with pytest.raises(UnsafeArchiveError, match="unpacks to more than"):
        unpack(tmp_path, [("a", FILE, "123456", 0o644), ("b", FILE, "123456", 0o644)])
    monkeypatch.setattr("harness.images.unpack.MAX_MEMBERS", 1)
    with pytest.raises(UnsafeArchiveError, match="members"):
        unpack(tmp_path, [("c", FILE, "", 0o644), ("d", FILE, "", 0o644)])
