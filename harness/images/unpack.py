"""Unpack the tar of a root file system as if an enemy had written it.

Python's own extraction filters are no help here: the strict one refuses the absolute symbolic
links that every root file system has, and Debian 12's Python has none. So nothing is ever
written through a link, over something that is there already, or outside of the target.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.images.errors import UnsafeArchiveError

MAX_BYTES = 16 << 30
"""More than any image has: an archive that grows beyond it is a bomb."""
MAX_MEMBERS = 2_000_000


@dataclass
class Unpacker:
    """Writes members of an archive below ``target``, an empty directory of our own.

    ``owners``: give each member its owner (for root); otherwise everything belongs to the caller.
    ``skip_devices``: leave device nodes out rather than refuse them; none is ever made.
    """

    target: Path
    owners: bool = False
    skip_devices: bool = False
    size: int = 0
    """Bytes of regular files that were written."""
    _kinds: dict[str, bytes] = field(default_factory=dict)
    _directories: list[tuple[Path, tarfile.TarInfo]] = field(default_factory=list)

    def unpack(
        self, archive: tarfile.TarFile, members: Iterable[tuple[str, tarfile.TarInfo]]
    ) -> None:
        """Write ``members``, pairs of a path below the target and what is there. Raise
        :class:`UnsafeArchiveError`, :class:`tarfile.TarError` or :class:`OSError`."""
        for name, member in members:
            self._add(archive, name, member)
        # Last, because writing into a directory changes its time, and a mode can forbid writing.
        for path, member in reversed(self._directories):
            self._dress(path, member)

    def _add(self, archive: tarfile.TarFile, name: str, member: tarfile.TarInfo) -> None:
        parts = safe_parts(name)
        where = "/".join(parts)
        if not parts:
            return
        if len(self._kinds) >= MAX_MEMBERS:
            raise UnsafeArchiveError(f"the archive has more than {MAX_MEMBERS} members")
        self._make_parents(parts, name)
        if where in self._kinds and not (member.isdir() and self._kinds[where] == tarfile.DIRTYPE):
            raise UnsafeArchiveError(f"{name!r} is in the archive twice")
        path = self.target / where
        if member.isdir():
            self._add_directory(where, path, member)
        elif member.isreg():
            self._add_file(archive, path, member)
            self._kinds[where] = tarfile.REGTYPE
        elif member.issym():
            path.symlink_to(member.linkname)
            self._dress(path, member)
            self._kinds[where] = tarfile.SYMTYPE
        elif member.islnk():
            self._add_hard_link(path, name, member)
            self._kinds[where] = tarfile.REGTYPE
        elif not (self.skip_devices and (member.ischr() or member.isblk())):
            raise UnsafeArchiveError(f"{name!r} is neither a file, a directory nor a link")

    def _make_parents(self, parts: tuple[str, ...], name: str) -> None:
        for length in range(1, len(parts)):
            parent = "/".join(parts[:length])
            kind = self._kinds.get(parent)
            if kind is None:
                (self.target / parent).mkdir(0o755)
                self._kinds[parent] = tarfile.DIRTYPE
            elif kind != tarfile.DIRTYPE:
                raise UnsafeArchiveError(f"{name!r} lies below {parent!r}, which is no directory")

    def _add_directory(self, where: str, path: Path, member: tarfile.TarInfo) -> None:
        if where not in self._kinds:
            path.mkdir(0o755)
            self._kinds[where] = tarfile.DIRTYPE
        self._directories.append((path, member))

    def _add_file(self, archive: tarfile.TarFile, path: Path, member: tarfile.TarInfo) -> None:
        self.size += member.size
        if self.size > MAX_BYTES:
            raise UnsafeArchiveError(f"the archive unpacks to more than {MAX_BYTES >> 30} GiB")
        source = archive.extractfile(member)
        assert source is not None  # only for members that are no file
        with source, path.open("xb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        self._dress(path, member)

    def _add_hard_link(self, path: Path, name: str, member: tarfile.TarInfo) -> None:
        """To a file that this archive has brought, never to a link: modes would go through it."""
        goal = "/".join(safe_parts(member.linkname))
        if self._kinds.get(goal) != tarfile.REGTYPE:
            raise UnsafeArchiveError(f"{name!r} is a hard link to {goal!r}, no file before it")
        os.link(self.target / goal, path)

    def _dress(self, path: Path, member: tarfile.TarInfo) -> None:
        if self.owners:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            path.chmod(safe_mode(member))
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def safe_parts(name: str) -> tuple[str, ...]:
    """The components of a member's path. Raise :class:`UnsafeArchiveError` when it leaves the
    archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UnsafeArchiveError(f"{name!r} is a path outside of the archive")
    return path.parts


def safe_mode(member: tarfile.TarInfo) -> int:
    """The member's mode without set-user-id and set-group-id (in a node everything is root), and so
    that its owner can always read it and remove it. Only a directory keeps the sticky bit."""
    mode = stat.S_IMODE(member.mode) & ~(stat.S_ISUID | stat.S_ISGID)
    return mode | 0o700 if member.isdir() else (mode & ~stat.S_ISVTX) | 0o400


def may_chown(directory: Path) -> bool:
    """Whether files made in ``directory`` can be given to other users. Tried, because root in a
    user namespace often can't. Raise :class:`OSError` when nothing can be written there."""
    if os.geteuid() != 0:
        return False
    probe = directory / ".owner"
    probe.touch()
    try:
        os.chown(probe, 65534, 65534)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True
