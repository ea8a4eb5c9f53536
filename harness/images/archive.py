"""An image as one file: for a machine that may not build, and for a CI cache.

The file is a tar, compressed with gzip: ``meta.json`` first, then everything below ``rootfs/`` and
``kernel/``.
"""

from __future__ import annotations

import gzip
import os
import platform
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from harness.images import kernel, rootfs
from harness.images.cache import (
    Meta,
    Progress,
    Stored,
    building,
    find,
    hold,
    publish,
)
from harness.images.catalogue import KEY_LENGTH, recipe_of
from harness.images.errors import ImageError, UnsafeArchiveError
from harness.images.unpack import Unpacker, may_chown, safe_parts

_PARTS = ("rootfs", kernel.DIRECTORY)
_META_LIMIT = 1 << 20
_COMPRESSION = 3
"""Of gzip: a third of the time of its default level, for a file a tenth larger."""


def export(name: str, file: Path, *, progress: Progress = lambda _: None) -> Stored:
    """Write the built image ``name`` to ``file``, which appears whole or not at all. Raise
    :class:`ImageError` when it is not built, or the file can't be written."""
    stored = find(name, recipe_of(name).key)
    if stored is None:
        raise ImageError(f"image {name} is not built: run `ovs-harness image build {name}`")
    with hold(stored):
        progress(f"{name}: writing {file}")
        try:
            _write_whole(stored, file)
        except OSError as error:
            raise ImageError(f"{file} can't be written: {error.strerror}") from None
    return stored


def _write_whole(stored: Stored, file: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            _write(stored, sink)
            sink.flush()
            os.fsync(sink.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).rename(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(stored: Stored, sink: BinaryIO) -> None:
    # No name and no time in the gzip header: the same image gives the same file.
    with (
        gzip.GzipFile("", "wb", _COMPRESSION, sink, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        text = msgspec.json.encode(stored.meta)
        header = tarfile.TarInfo("meta.json")
        header.size = len(text)
        archive.addfile(header, BytesIO(text))
        for part in _PARTS:
            if (stored.path / part).is_dir():
                archive.add(stored.path / part, part, filter=_plain_owner)


def _plain_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Numbers, not names, own files; what an ordinary user built belongs to root again."""
    if os.geteuid() != 0:
        member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def import_(file: Path, *, progress: Progress = lambda _: None) -> Stored:
    """Put the image of an exported file into the cache, and return it; one that is there already
    stays. The file is not trusted to be well formed, but what is in it will be run in a sandbox.
    Raise :class:`ImageError`, and :class:`OSError` when the file can't be read."""
    try:
        # Not tarfile's own "r|gz", which never looks at the checksum.
        with gzip.open(file) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            members = _all(archive, plain)
            meta = _read_meta(archive, next(members, None), file)
            return _import(archive, members, meta, file, progress)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ImageError(f"{file}: no exported image, or a damaged one ({error})") from None
    except UnsafeArchiveError as error:
        raise ImageError(f"{file} is refused: {error}") from None


def _all(archive: tarfile.TarFile, plain: gzip.GzipFile) -> Iterator[tarfile.TarInfo]:
    """The members, and then the rest of the file: the checksum comes last."""
    yield from archive
    while plain.read(1 << 20):
        pass


def _import(
    archive: tarfile.TarFile,
    members: Iterator[tarfile.TarInfo],
    meta: Meta,
    file: Path,
    progress: Progress,
) -> Stored:
    with building(meta.name, meta.key, progress) as staging:
        if staging is not None:
            progress(f"{meta.name}: unpacking {file}")
            unpacker = Unpacker(staging, owners=may_chown(staging))
            unpacker.unpack(archive, _of_parts(members))
            root = staging / "rootfs"
            recipe = recipe_of(meta.name)
            if (recipe.kernel and recipe.key == meta.key) or (staging / kernel.DIRECTORY).exists():
                kernel.require(staging / kernel.DIRECTORY, meta.name)
            _, version = rootfs.require_ovs(root, meta.name)
            # What can be known is not believed.
            found = {
                "version": version,
                "packages": rootfs.packages(root),
                "size": rootfs.size(staging),
            }
            return publish(staging, msgspec.structs.replace(meta, **found))
    stored = find(meta.name, meta.key)
    assert stored is not None
    return stored


def _read_meta(archive: tarfile.TarFile, first: tarfile.TarInfo | None, file: Path) -> Meta:
    if first is None or first.name != "meta.json" or not first.isreg() or first.size > _META_LIMIT:
        raise ImageError(f"{file}: no exported image: it does not begin with meta.json")
    source = archive.extractfile(first)
    assert source is not None
    try:
        meta = msgspec.json.decode(source.read(), type=Meta)
    except msgspec.DecodeError as error:
        raise ImageError(f"{file}: meta.json: {error}") from None
    recipe_of(meta.name)
    if len(meta.key) != KEY_LENGTH or set(meta.key) - set("0123456789abcdef"):
        raise ImageError(f"{file}: meta.json: the key {meta.key!r} is none")
    if meta.architecture != platform.machine():
        raise ImageError(
            f"{file} is an image for {meta.architecture}; this machine is {platform.machine()}"
        )
    return meta


def _of_parts(members: Iterator[tarfile.TarInfo]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Members with their paths, which are below one of the parts, and so are hard links' goals."""
    for member in members:
        parts = safe_parts(member.name)
        if not parts or parts[0] not in _PARTS:
            raise UnsafeArchiveError(f"{member.name!r} is not below {' or '.join(_PARTS)}")
        if len(parts) == 1 and not member.isdir():
            raise UnsafeArchiveError(f"{member.name!r} is no directory")
        if member.islnk() and safe_parts(member.linkname)[:1] != parts[:1]:
            raise UnsafeArchiveError(f"{member.name!r} is a hard link to {member.linkname!r}")
        yield member.name, member
