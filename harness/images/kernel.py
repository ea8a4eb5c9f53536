"""The kernel of an image: what a VM boots, and the modules that go with it.

They lie beside the root file system, not in it: in a sandbox the machine's own kernel runs, and no
file of another one has any business there.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.images.errors import ImageError
from harness.images.unpack import Unpacker, safe_parts

DIRECTORY = "kernel"
"""Its place beside ``rootfs``."""
VMLINUZ = "vmlinuz"
MODULES = "lib/modules"
DEPMOD = "/sbin/depmod"


class Extractor:
    """Takes the kernel and its modules out of the tar of unpacked packages, into ``target``:
    ``vmlinuz`` and ``lib/modules/VERSION/``."""

    def __init__(self, target: Path) -> None:
        target.mkdir()
        self._unpacker = Unpacker(target, skip_devices=True)

    def unpack(
        self, archive: tarfile.TarFile, members: Iterable[tuple[str, tarfile.TarInfo]]
    ) -> None:
        """As :meth:`harness.images.unpack.Unpacker.unpack`."""
        wanted = ((place(name), member) for name, member in members)
        self._unpacker.unpack(archive, ((where, member) for where, member in wanted if where))


def place(name: str) -> str:
    """Where a member of the packages' tar goes; empty for what is not needed."""
    parts = safe_parts(name)
    if parts[:1] == ("usr",):
        parts = parts[1:]
    if len(parts) == 2 and parts[0] == "boot" and parts[1].startswith("vmlinuz-"):
        return VMLINUZ
    if parts[:2] == ("lib", "modules") and len(parts) > 2:
        # From Debian 14 on it lies with its modules, until it is installed.
        return VMLINUZ if parts[3:] == ("vmlinuz",) else "/".join(parts)
    return ""


def version(directory: Path) -> str:
    """The version of the kernel in ``directory``, as ``uname -r`` prints it. Raise
    :class:`ImageError` when there is none."""
    try:
        (found,) = (directory / MODULES).iterdir()
    except (OSError, ValueError):
        raise ImageError(f"{directory} does not hold a kernel's modules: build it anew") from None
    return found.name


def require(directory: Path, name: str) -> str:
    """:func:`version` of the kernel of the image called ``name``. Raise :class:`ImageError` when
    ``directory`` does not hold all of it."""
    try:
        release = version(directory)
    except ImageError:
        raise ImageError(f"image {name} holds no kernel") from None
    for file in (VMLINUZ, f"{MODULES}/{release}/modules.dep"):
        if not (directory / file).is_file():
            raise ImageError(f"image {name} holds no {DIRECTORY}/{file}")
    return release


def names(directory: Path) -> set[str]:
    """By which names modprobe(8) finds the modules of the kernel in ``directory``, built-in ones
    too, but for patterns: with underscores, which are the same as dashes to it."""
    place = directory / MODULES / version(directory)
    found = {
        Path(line.partition(":")[0]).name.partition(".ko")[0]
        for list_of in ("modules.dep", "modules.builtin")
        for line in _lines(place / list_of)
    }
    for line in _lines(place / "modules.alias"):
        kind, alias, *_module = line.split()
        if kind == "alias" and not set(alias) & set("*?[:/"):
            found.add(alias)
    return {name.replace("-", "_") for name in found}


def _lines(file: Path) -> Iterator[str]:
    if file.is_file():
        yield from file.read_text(encoding="utf-8").splitlines()


def index_modules(directory: Path) -> None:
    """Write what modprobe(8) looks modules up in (depmod(8)). Raise :class:`ImageError`."""
    release = version(directory)
    done = subprocess.run(
        [DEPMOD, "--basedir", directory, release], capture_output=True, text=True, check=False
    )
    if done.returncode or not (directory / MODULES / release / "modules.dep").is_file():
        raise ImageError(f"depmod could not index the modules of {release}: {done.stderr.strip()}")
