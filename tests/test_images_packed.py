"""Root file systems as disks: everything is in there, and belongs to whom it should."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.images import ImageError, packed
from harness.images.packed import file

pytestmark = pytest.mark.skipif(
    shutil.which("mke2fs", path=f"{os.defpath}:{packed.SYSTEM_PROGRAMS}") is None,
    reason="needs e2fsprogs",
)

Pack = Callable[[Path], int]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    """Packs anew each time, into an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packed, "SIZE", 16 << 20)
    images = tmp_path / "cache/ovs-harness/images"
    images.mkdir(parents=True)
    made: list[int] = []

    def run(root: Path) -> int:
        made.append(packed.pack.__wrapped__(root))
        return made[-1]

    yield run
    for descriptor in made:
        os.close(descriptor)
    assert list(images.iterdir()) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "usr/bin").mkdir(parents=True)
    (made / "bin").symlink_to("usr/bin")
    (made / "usr/bin/tool").write_text("#!/bin/sh\n")
    (made / "usr/bin/tool").chmod(0o4755)
    (made / 'a "strange" name').write_text("strange")
    return made


def ask(descriptor: int, request: str) -> str:
    path = f"{os.environ['PATH']}:{packed.SYSTEM_PROGRAMS}"
    argv = ["debugfs", "-R", request, file(descriptor)]
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        pass_fds=[descriptor],
        check=True,
        env={**os.environ, "PATH": path},
    ).stdout


def test_everything_is_there(pack: Pack, root: Path) -> None:
    disk = pack(root)
    assert ask(disk, "cat /usr/bin/tool") == "#!/bin/sh\n"
    assert 'Fast link dest: "usr/bin"' in ask(disk, "stat /bin")
    assert "Mode:  04755" in ask(disk, "stat /usr/bin/tool")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(disk, b"nobody writes to it")


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin/tool", "/bin", '"/a ""strange"" name"'])
def test_what_an_ordinary_user_unpacked_belongs_to_root(
    pack: Pack, root: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if os.geteuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, 1000, 1000, follow_symlinks=False)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "User:     0   Group:     0" in ask(pack(root), f"stat {place}")


def test_the_program_is_missing(
    pack: Pack, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packed, "SYSTEM_PROGRAMS", str(tmp_path))
    with pytest.raises(ImageError, match="mke2fs .*: run `sudo apt-get install e2fsprogs`"):
        pack(root)


def test_what_does_not_fit_is_one_error(pack: Pack, root: Path) -> None:
    (root / "large").write_bytes(os.urandom(17 << 20))
    said = "^mke2fs made no disk of the image: .*Could not allocate block"
    with pytest.raises(ImageError, match=said):
        pack(root)
