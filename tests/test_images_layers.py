"""What layers show, beside what overlayfs itself shows of the same ones."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.images.layers import fingerprint, merged

# Layers from the top down. An entry with a goal is a symbolic link, with an empty one a directory.
CASES: dict[str, tuple[dict[str, str | None], ...]] = {
    "one layer": ({"a": None, "d/b": None, "empty": "", "link": "a"},),
    "a file over a file": ({"a": None}, {"a": None, "b": None}),
    "directories are merged": ({"d/a": None, "d/e/x": None}, {"d/b": None, "d/e/y": None}),
    "a file hides a directory": ({"d": None}, {"d/a": None}),
    "a link hides a directory": ({"d": "elsewhere"}, {"d/a": None}),
    "a directory hides a file": ({"d/a": None}, {"d": None}),
    "a directory hides a link": ({"lib/x": None}, {"lib": "usr/lib", "usr/lib/y": None}),
    "a file between directories": ({"d/a": None}, {"d": None}, {"d/b": None}),
    "a link given back": (
        {"var/run": "/run"},
        {"var/run/openvswitch": ""},
        {"var/run": "/run", "var/log/x": None},
    ),
    "names sort by name": ({"a.b": None, "a/c": None}, {"a-b": None, "a/b": None}),
}


def make(root: Path, layer: dict[str, str | None], content: str) -> Path:
    root.mkdir()
    for place, goal in layer.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if goal is None:
            path.write_text(content)
        elif goal:
            path.symlink_to(goal)
        else:
            path.mkdir()
    return root


@pytest.fixture
def layers(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    case = CASES[request.param]
    return [make(tmp_path / f"{number}", layer, str(number)) for number, layer in enumerate(case)]


def described(place: str, path: Path) -> str:
    if path.is_symlink():
        return f"{place} -> {path.readlink()}"
    return f"{place}/" if path.is_dir() else f"{place}: {path.read_text()}"


OVERLAY = """\
mount -t overlay -o "lowerdir=$1" none "$2" && cd "$2"
find . -mindepth 1 -not -type d -exec stat -c '%n %f %s' {} + | sed 's,^[.]/,,'
"""
"""Directories are left out: their sizes are a matter of their file systems."""


@pytest.mark.parametrize("layers", CASES, indirect=True)
def test_it_is_what_overlayfs_shows(layers: list[Path], tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    (tmp_path / "nothing").mkdir()  # overlayfs wants two layers
    lower = ":".join(map(str, [*layers, tmp_path / "nothing"]))
    argv = ["unshare", "--mount", "sh", "-c", OVERLAY, "sh", lower, str(tmp_path / "seen")]
    user = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    done = subprocess.run([*user, *argv], capture_output=True, text=True, check=True)
    assert sorted(
        f"{entry.place} {entry.status.st_mode:x} {entry.status.st_size}"
        for entry in merged(layers)
        if not stat.S_ISDIR(entry.status.st_mode)
    ) == sorted(done.stdout.splitlines())


WANTED = {
    "one layer": ["a: 0", "d/", "d/b: 0", "empty/", "link -> a"],
    "a file over a file": ["a: 0", "b: 1"],
    "directories are merged": ["d/", "d/a: 0", "d/b: 1", "d/e/", "d/e/x: 0", "d/e/y: 1"],
    "a file hides a directory": ["d: 0"],
    "a link hides a directory": ["d -> elsewhere"],
    "a directory hides a file": ["d/", "d/a: 0"],
    "a directory hides a link": ["lib/", "lib/x: 0", "usr/", "usr/lib/", "usr/lib/y: 1"],
    "a file between directories": ["d/", "d/a: 0"],
    "a link given back": ["var/", "var/log/", "var/log/x: 2", "var/run -> /run"],
    "names sort by name": ["a/", "a/b: 1", "a/c: 0", "a-b: 1", "a.b: 0"],
}


@pytest.mark.parametrize("layers", CASES, indirect=True)
def test_each_entry_is_the_topmost_one(layers: list[Path], request: pytest.FixtureRequest) -> None:
    assert [described(entry.place, entry.path) for entry in merged(layers)] == WANTED[
        request.node.callspec.params["layers"]
    ]


def test_below_a_place(tmp_path: Path) -> None:
    make(tmp_path / "0", {"6.1/a": None}, "")
    places = [entry.place for entry in merged([tmp_path / "0"], "lib/modules/")]
    assert places == ["lib/modules/6.1", "lib/modules/6.1/a"]


def rewrite(root: Path) -> None:
    """As many bytes as before."""
    (root / "d/b").write_text("1")
    os.utime(root / "d/b", ns=(1, 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "other content": rewrite,
    "another mode": lambda root: (root / "a").chmod(0o755),
    "another goal": lambda root: relink(root / "link"),
    "one more": lambda root: (root / "new").touch(),
    "one less": lambda root: (root / "a").unlink(),
    "another name": lambda root: (root / "a").rename(root / "b"),
}


def relink(link: Path) -> None:
    """To a goal of the same length, made at the same time."""
    before = link.lstat().st_mtime_ns
    link.unlink()
    link.symlink_to("d")
    os.utime(link, ns=(before, before), follow_symlinks=False)


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_tells_what_has_changed(tmp_path: Path, change: str) -> None:
    root = make(tmp_path / "0", CASES["one layer"][0], "0")
    before = fingerprint([root])
    assert fingerprint([root]) == before
    CHANGES[change](root)
    assert fingerprint([root]) != before


def test_nothing_has_a_fingerprint_too(tmp_path: Path) -> None:
    root = make(tmp_path / "0", CASES["one layer"][0], "0")
    assert fingerprint([]) == fingerprint([]) != fingerprint([root])
