"""The QEMU of this machine: which one it is, whether it is new enough, what it can run under."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness.images.errors import ImageError
from harness.nodes import qemu

EMULATED = "tcg"
_NEEDED = (7, 2)
"""The first version that has ``-netdev dgram``."""
_ELF = b"\x7fELF"
"""What a program begins with that is no script (elf(5))."""


def accelerators() -> Iterator[str]:
    """What to try, the fastest first. That it is there does not say that it works."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield "kvm"
    yield EMULATED


def identity() -> str:
    """Which QEMU there is. It takes a twentieth of a second to say its version: only what runs
    another program, perhaps of another version the next time, is asked for that. Raise
    :class:`ImageError` when there is none."""
    path = shutil.which(qemu.PROGRAM)
    if path is None or not _is_binary(Path(path)):
        return version()
    real = Path(path).resolve()
    found = real.stat()
    return f"{real} {found.st_size} {found.st_mtime_ns}"


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def version() -> str:
    """What QEMU says of itself. Raise :class:`ImageError` when there is none, or it is too old."""
    try:
        done = subprocess.run(
            [qemu.PROGRAM, "--version"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ImageError(
            f"VMs need {qemu.PROGRAM}: run `sudo apt-get install --no-install-recommends "
            "qemu-system-x86`"
        ) from None
    said = done.stdout.partition("\n")[0]
    found = re.search(r"version (\d+)\.(\d+)", said)
    if found is None:
        raise ImageError(f"`{qemu.PROGRAM} --version` says {said or done.stderr.strip()!r}")
    if (int(found[1]), int(found[2])) < _NEEDED:
        raise ImageError(
            f"VMs need QEMU {'.'.join(map(str, _NEEDED))} or later, which can pass frames on "
            f"over datagram sockets (Debian 12 has it): {qemu.PROGRAM} is {found[1]}.{found[2]}"
        )
    return said
