"""What a root file system says of itself: its Open vSwitch and its packages. Only reads files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from harness.images.errors import ImageError

_VERSION = re.compile(r"^VERSION='?([^'\s]+)'?$", re.MULTILINE)


def ovs_prefix(root: Path) -> str | None:
    """``/usr`` or ``/usr/local``: where in ``root`` ovs-vswitchd is installed; None: nowhere. What
    was installed by hand comes first, as in the usual PATH."""
    for prefix in ("/usr/local", "/usr"):
        daemon = root / prefix[1:] / "sbin/ovs-vswitchd"
        # Debian's is a link to /etc/alternatives, which leads out of ``root``.
        if daemon.is_file() or daemon.is_symlink():
            return prefix
    return None


def ovs_version(root: Path, prefix: str) -> str | None:
    """Open vSwitch's version as its own ``ovs-lib`` states it (utilities/ovs-lib.in, ``VERSION``);
    None when that script is missing. Nothing is run: the tree may be for another C library."""
    script = root / prefix[1:] / "share/openvswitch/scripts/ovs-lib"
    try:
        return version_in(script.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def version_in(ovs_lib: str) -> str | None:
    """Open vSwitch's version in the text of its ``ovs-lib``; None where it says none."""
    found = _VERSION.search(ovs_lib)
    return found[1] if found else None


def require_ovs(root: Path, name: str) -> tuple[str, str]:
    """Prefix and version of the Open vSwitch in the whole root file system of image ``name``. Raise
    :class:`ImageError` when there is none."""
    prefix = ovs_prefix(root)
    if prefix is None:
        raise ImageError(f"image {name} holds no ovs-vswitchd: it is no image for a switch")
    version = ovs_version(root, prefix)
    if version is None:
        raise ImageError(f"image {name} holds no {prefix}/share/openvswitch/scripts/ovs-lib")
    return prefix, version


def lacking(root: Path, programs: Iterable[str]) -> list[str]:
    """Those of ``programs`` that are in none of the usual directories of ``root``."""
    places = [
        f"{prefix}{name}" for prefix in ("usr/local/", "usr/", "") for name in ("sbin", "bin")
    ]
    return [
        program
        for program in programs
        if not any(os.path.lexists(root / place / program) for place in places)
    ]


def size(root: Path) -> int:
    """Bytes of all files below ``root``; what has several names counts once."""
    found: dict[tuple[int, int], int] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            status = Path(directory, name).lstat()
            if stat.S_ISREG(status.st_mode):
                found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def packages(root: Path) -> tuple[str, ...]:
    """Installed Debian packages as ``name=version``, sorted; empty where dpkg has no status."""
    try:
        text = (root / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if line.startswith(("Package: ", "Version: ", "Status: "))
        )
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields['Package']}={fields['Version']}")
    return tuple(sorted(found))
