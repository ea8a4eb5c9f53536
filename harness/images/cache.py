"""The cache of built images: what is there, how it gets in whole, and how it gets out.

``$XDG_CACHE_HOME/ovs-harness/images/<name>-<key>/`` holds ``rootfs/`` and ``meta.json``. Such a
directory appears by one rename when everything is in it, so one that is there is finished.
Half-made ones are called ``.new-…`` and half-removed ones ``.old-…``; the next build sweeps those
that nobody holds. Locks are files of their own in ``locks/``.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from harness.images.catalogue import KEY_LENGTH, catalogue
from harness.images.errors import ImageError
from harness.images.locks import Hold, describe_holders, lock, try_lock

Progress = Callable[[str], None]
"""Gets one line of text for each stage of something that takes its time."""


_WORK = "ovs-harness"
_HALF_MADE = re.compile(rf"\.new-(.+-[0-9a-f]{{{KEY_LENGTH}}})-")


class Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``meta.json`` says of an image. ``size`` is in bytes, ``built`` is an ISO 8601 time."""

    name: str
    key: str
    suite: str
    version: str
    """Open vSwitch's."""
    architecture: str
    packages: tuple[str, ...]
    """Every installed package as ``name=version``."""
    built: str
    size: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One image in the cache. ``current`` is False when the catalogue has changed since."""

    meta: Meta
    path: Path
    current: bool

    @property
    def rootfs(self) -> Path:
        """The root file system."""
        return self.path / "rootfs"


def images_directory() -> Path:
    """Where images are kept. XDG Base Directory Specification: a relative path is to be ignored."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".cache"
    return base / "ovs-harness" / "images"


def _label(name: str, key: str) -> str:
    return f"{name}-{key}"


def _build_lock(label: str) -> Path:
    return images_directory() / "locks" / f"{label}.build"


def _use_lock(label: str) -> Path:
    return images_directory() / "locks" / f"{label}.use"


def find(name: str, key: str) -> Stored | None:
    """The image of that name and key, or None. Raise :class:`ImageError` when its ``meta.json``
    can't be read."""
    path = images_directory() / _label(name, key)
    if not path.exists():
        return None
    try:
        text = (path / "meta.json").read_bytes()
        meta = msgspec.json.decode(text, type=Meta)
    except (OSError, msgspec.DecodeError) as error:
        raise ImageError(
            f"{path}/meta.json can't be read ({error}): `ovs-harness image remove {name}`"
        ) from None
    recipe = catalogue().get(name)
    return Stored(meta=meta, path=path, current=recipe is not None and recipe.key == key)


def _labels() -> Iterator[tuple[str, str]]:
    """Name and key of every finished image."""
    directory = images_directory()
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        name, dash, key = path.name.rpartition("-")
        if dash and name and not name.startswith(".") and len(key) == KEY_LENGTH:
            yield name, key


def list_images() -> list[Stored]:
    """The images in the cache, by name. Raise :class:`ImageError` as :func:`find` does."""
    found = (find(name, key) for name, key in _labels())
    return [stored for stored in found if stored is not None]


def hold(stored: Stored) -> Hold:
    """Keep the image from being removed. Raise :class:`ImageError` when it is gone, or going."""
    held = try_lock(_use_lock(stored.path.name), shared=True)
    if held is None:
        raise ImageError(f"image {stored.meta.name} is being removed just now: run again")
    if not stored.rootfs.is_dir():
        held.close()
        raise ImageError(f"image {stored.meta.name} has been removed: run again to build it anew")
    return held


def remove(name: str) -> list[Path]:
    """Remove every image called ``name``, outdated ones too; return their former paths. Raise
    :class:`ImageError` when there is none, or one is in use: that one then stays whole."""
    labels = [_label(found, key) for found, key in _labels() if found == name]
    if not labels:
        raise ImageError(f"no image {name!r} is built; see `ovs-harness image list`")
    removed = []
    for label in labels:
        held = try_lock(_use_lock(label))
        if held is None:
            users = describe_holders(_use_lock(label))
            raise ImageError(f"image {name} is in use by {users}: end that first")
        with held:
            path = images_directory() / label
            grave = Path(tempfile.mkdtemp(prefix=f".old-{label}-", dir=images_directory()))
            path.rename(grave / "image")
            removed.append(path)
        # What another process sweeps at the same time is gone as well; what stays, a build sweeps.
        shutil.rmtree(grave, ignore_errors=True)
    return removed


@contextmanager
def building(name: str, key: str, progress: Progress) -> Iterator[Path | None]:
    """Hold the right to make an image: yields an empty directory that :func:`publish` makes the
    image, and that is gone at the end otherwise; or None, when meanwhile the image is there."""
    label = _label(name, key)

    def waiting(by_whom: str) -> None:
        progress(f"{name}: waiting for {by_whom}, which is making this image")

    with full_disk_explained(), lock(_build_lock(label), waiting):
        if find(name, key) is not None:
            yield None
            return
        _sweep(label)
        staging = Path(tempfile.mkdtemp(prefix=f".new-{label}-", dir=images_directory()))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def workplace(staging: Path) -> Iterator[Path]:
    """A directory for temporary files of the build in ``staging``, swept like that one.

    An ordinary user's mmdebstrap works with subordinate ids (subuid(5)), which may not enter the
    user's home directory: for it the place is in the machine's temporary directory.
    """
    if os.geteuid() == 0:
        yield staging
        return
    place = Path(tempfile.mkdtemp(prefix=f"{_WORK}{staging.name}-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(staging: Path, meta: Meta) -> Stored:
    """Make the content of ``staging`` (``rootfs/``) the image that ``meta`` describes."""
    (staging / "meta.json").write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2))
    # mkdtemp made it 0700: an image is no secret, and a container engine may have to read it.
    staging.chmod(0o755)
    # A rename can reach the disk before the files do; after a power cut the image would be empty.
    os.sync()
    staging.rename(images_directory() / _label(meta.name, meta.key))
    stored = find(meta.name, meta.key)
    assert stored is not None  # the build lock is ours
    return stored


def _sweep(mine: str) -> None:
    """Remove what builds and removals that were killed have left. Ours is the lock of ``mine``."""
    for path in images_directory().glob(".old-*"):
        shutil.rmtree(path, ignore_errors=True)
    works = Path(tempfile.gettempdir()).glob(f"{_WORK}.new-*")
    for path in (*images_directory().glob(".new-*"), *works):
        found = _HALF_MADE.search(path.name)
        if found is None:
            continue
        label = found[1]
        if label == mine:
            shutil.rmtree(path, ignore_errors=True)
            continue
        held = try_lock(_build_lock(label))
        if held is not None:
            with held:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def full_disk_explained() -> Iterator[None]:
    """Turn the errors of a disk that is full or can't be written into :class:`ImageError`."""
    try:
        yield
    except OSError as error:
        directory = images_directory()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ImageError(
                f"the disk of {directory} is full ({error.strerror}): free 500 MB there, "
                "or set XDG_CACHE_HOME to another place"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise ImageError(
                f"{error.filename or directory}: {error.strerror}; set XDG_CACHE_HOME to a place "
                "where you may write"
            ) from None
        raise


def now() -> str:
    """The time of day for ``Meta.built``."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
