"""Templates of virtual machines: an image that has booted, ready to be cloned.

A template goes with an image, a QEMU and an accelerator; change any of them, or the agent, and it
is made anew. It lies in the cache beside the images, and appears there by one rename.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.agent import carried
from harness.agent.environment import PATH
from harness.images import emulator, initramfs, kernel
from harness.images.cache import Progress, Stored, full_disk_explained, images_directory
from harness.images.errors import ImageError
from harness.images.image import Image
from harness.images.layers import fingerprint
from harness.images.locks import Hold, describe_holders, lock, try_lock
from harness.nodes import disk, qemu, vm
from harness.nodes.base import NodeError
from harness.nodes.qemu import Machine, Plugs
from harness.nodes.vm import VmNode

CARDS = (4, 24)
"""Network cards of a machine: the first of these that is enough. More take longer to boot with."""
MEMORY = 1024
"""MiB of each machine, most of which none ever touches."""
NEEDED_DISK = MEMORY + 512
"""MiB: a machine's memory, should it use all of it, and its root file system."""
_OVER = "+"
"""In a template's name before what is laid over its image."""
_HALF_MADE = re.compile(r"\.new-(.+)-[^-]*")
INITRAMFS, META = "initramfs", "meta.json"
AGENT = ".harness/agent.pyz"
"""Where the agent lies in a machine."""
KNOWN = ".harness/modules"
"""A directory with an empty file for each name of a kernel module."""
LOADER = ".harness/load-module"
LOAD = f"""\
#!/bin/sh
# What the kernel runs to load a module: load-module -q -- NAME. When an interface is asked for that
# is not there, it asks for netdev-NAME and for NAME (dev_load() in net/core/dev_ioctl.c), and so
# before every port that ovs-vswitchd makes. modprobe(8) would say that there are none, but it
# takes an emulated processor a tenth of a second to load what it is made of.
case $3 in
netdev-*) name=netdev_${{3#netdev-}} ;;
*-*) exec /sbin/modprobe "$@" ;;
*) name=$3 ;;
esac
[ -e "/{KNOWN}/$name" ] && exec /sbin/modprobe "$@"
exit 1
"""
INIT = f"""\
#!/bin/sh
# The first process of a virtual machine: mount what a system has, then be the agent.
export PATH={PATH}
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,noexec dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 run /run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /tmp
# These two are built into later kernels than 6.1.
modprobe -a virtio_pci virtio_console virtio_blk
modprobe -a virtio_net tun veth openvswitch nfnetlink_cttimeout af_packet_diag
echo /{LOADER} >/proc/sys/kernel/modprobe
# A name that no host's interface has: the kernel looks for it here too when it makes a veth pair.
for card in /sys/class/net/eth*; do
    ip link set "${{card##*/}}" name "{qemu.CARD}${{card##*/eth}}"
done
for port in /sys/class/virtio-ports/*; do
    read -r name <"$port/name" && [ "$name" = agent ] && break
done
exec python3 -IB /{AGENT} "/dev/${{port##*/}}"
"""


class Stage(NamedTuple):
    """How far a template has come beyond having booted."""

    name: str
    key: str
    """Changes whenever something that goes into it does, beside the image."""
    prepare: Callable[[VmNode], str]
    """Does it, and says what is then to be known of it. May raise :class:`NodeError`."""


BOOTED = Stage("booted", "", lambda _: "")


class Template(NamedTuple):
    """A machine that has booted, and where it is kept."""

    machine: Machine
    path: Path
    known: str
    """What its stage said of it."""
    hold: Hold
    """Keeps it from being removed."""


class _Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``meta.json`` says of a template."""

    files: dict[str, tuple[int, int]]
    """Bytes, and time of change (ns)."""
    known: str
    over: tuple[str, ...]
    """Directories that are laid over its image: when one is gone nobody can want it any more."""


def template(
    image: Image,
    stage: Stage = BOOTED,
    *,
    cards: int = 0,
    progress: Progress = lambda _: None,
) -> Template:
    """The template of an image at a stage, with at least so many network cards, made now if there
    is none. Raise :class:`ImageError` with what is missing for it, or why the machine did not boot.
    """
    if image.stored is None:
        raise ImageError(f"image {image.name} has no kernel: those of the catalogue have one")
    enough = [number for number in CARDS if number >= cards]
    if not enough:
        raise ImageError(f"a virtual machine has {CARDS[-1]} network cards at most, not {cards}")
    program = emulator.identity()
    failures = []
    for accelerator in emulator.accelerators():
        key = _key(image, stage, program, accelerator, enough[0])
        name = f"{_label(image, image.stored)}-{stage.name}-{enough[0]}-{accelerator}-{key}"
        shelf = _Shelf(directory() / name, image, image.stored, progress)
        try:
            return shelf.take(stage, accelerator, enough[0])
        except NodeError as error:
            failures.append(f"under {accelerator}: {error}")
    raise ImageError(f"image {image.name} does not boot {'; '.join(failures)}")


def _label(image: Image, stored: Stored) -> str:
    """What the templates of an image are called: those of an installation laid over one of the
    catalogue have a name of their own, so that neither replaces the other's."""
    own = _OVER + hashlib.sha256(os.fsencode(image.name)).hexdigest()[:8] if image.over else ""
    return f"{stored.meta.name}{own}"


def directory() -> Path:
    """Where templates are kept."""
    return images_directory().parent / "templates"


class _Shelf:
    """The place of one template in the cache."""

    def __init__(self, path: Path, image: Image, stored: Stored, progress: Progress) -> None:
        self._path, self._image, self._progress = path, image, progress
        self._kernel = stored.path / kernel.DIRECTORY

    def take(self, stage: Stage, accelerator: str, cards: int) -> Template:
        """The template, made now if need be. Raise :class:`NodeError` when its machine does not
        boot, and also when it is known not to."""
        machine = Machine(
            kernel=self._kernel / kernel.VMLINUZ,
            initramfs=self._path / INITRAMFS,
            accelerator=accelerator,
            memory=MEMORY,
            cards=cards,
        )
        with full_disk_explained(), lock(self._beside("make"), self._waiting):
            meta = self._whole()
            if meta is None:
                self._sweep()
                meta = self._make(stage, machine)
            hold = try_lock(self._beside("use"), shared=True)
        # Only who makes templates takes it for himself, and that nobody does now.
        assert hold is not None
        return Template(machine, self._path, meta.known, hold)

    def _beside(self, what: str) -> Path:
        return _beside(self._path, what)

    def _waiting(self, by_whom: str) -> None:
        self._progress(f"{self._image.name}: waiting for {by_whom}, which boots it")

    def _whole(self) -> _Meta | None:
        """What is said of this one, if it is there and not damaged."""
        if not self._path.is_dir():
            return None
        with suppress(OSError, msgspec.DecodeError):
            meta = _read_meta(self._path)
            if meta.files == _describe(self._path):
                return meta
        self._progress(f"{self._image.name}: the template in {self._path} is damaged")
        return None

    def _sweep(self) -> None:
        """Remove this one if it is damaged, those that are out of date, those of installations that
        are gone, and half-made ones."""
        # Machines that came from it go on: they have its files, not their names.
        shutil.rmtree(self._path, ignore_errors=True)
        kind = self._path.name.rpartition("-")[0]
        for old in self._path.parent.glob(f"{kind}-*"):
            _discard(old)
        for orphan in self._path.parent.glob(f"*{_OVER}*-*"):
            with suppress(OSError, msgspec.DecodeError):
                if not all(map(os.path.exists, _read_meta(orphan).over)):
                    _discard(orphan)
        for half_made in self._path.parent.glob(".new-*"):
            whole = half_made.with_name(_HALF_MADE.sub(r"\1", half_made.name))
            if whole == self._path:
                shutil.rmtree(half_made, ignore_errors=True)
                continue
            maker = try_lock(_beside(whole, "make"))
            if maker is not None:
                with maker:
                    shutil.rmtree(half_made, ignore_errors=True)

    def _make(self, stage: Stage, machine: Machine) -> _Meta:
        release = kernel.require(self._kernel, self._image.name)
        refusal = self._beside("refused")
        if refusal.is_file():
            raise NodeError(refusal.read_text(encoding="utf-8"))
        # One that is too old would boot, and not take the cables of a clone.
        emulator.version()
        self._progress(
            f"{self._image.name}: booting Linux {release} once, under {machine.accelerator}"
        )
        try:
            return self._boot(stage, machine)
        except NodeError as error:
            if machine.accelerator != emulator.EMULATED:
                # It would be waited for again in every run.
                refusal.write_text(f"{error} (remembered in {refusal})", encoding="utf-8")
            raise

    def _boot(self, stage: Stage, machine: Machine) -> _Meta:
        prefix = f".new-{self._path.name}-"
        free = shutil.disk_usage(self._path.parent).free >> 20
        if free < NEEDED_DISK:
            # Later it would be a machine that ends while it boots, for no reason that it knows.
            raise ImageError(
                f"a template takes up to {NEEDED_DISK} MiB, and in {self._path.parent} are {free} "
                "free: make room there, or set XDG_CACHE_HOME to another place"
            )
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=self._path.parent))
        try:
            with (staging / INITRAMFS).open("wb") as sink:
                modules = self._kernel / kernel.MODULES
                names = {f"{KNOWN}/{name}": (0o644, b"") for name in kernel.names(self._kernel)}
                initramfs.write(sink, self._image.lower, modules, _files() | names)
            booting = machine._replace(initramfs=staging / INITRAMFS)
            known = vm.make_template(booting, staging, stage.prepare)
            meta = _Meta(_describe(staging), known, tuple(map(str, self._image.over)))
            (staging / META).write_bytes(msgspec.json.encode(meta))
            staging.rename(self._path)
            return meta
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _files() -> dict[str, tuple[int, bytes]]:
    """What a machine has beside its image: mode and content, by path."""
    return {
        "init": (0o755, INIT.encode()),
        LOADER: (0o755, LOAD.encode()),
        AGENT: (0o644, carried.program()),
    }


def _beside(path: Path, what: str) -> Path:
    """A file that goes with the template in ``path``, and stays when that one goes."""
    return path.parent / "locks" / f"{path.name}.{what}"


def _discard(path: Path) -> str:
    """Remove a template; or say who uses it, or is about to, and leave it."""
    with ExitStack() as locks:
        # Who is about to use it holds the first lock while he looks at it.
        for lock_file in (_beside(path, "make"), _beside(path, "use")):
            held = try_lock(lock_file)
            if held is None:
                return describe_holders(lock_file)
            locks.enter_context(held)
        shutil.rmtree(path, ignore_errors=True)
    return ""


def of(name: str) -> list[Path]:
    """The templates of the images called ``name``, also those that are out of date, and those of
    installations laid over one."""
    return [path for path in sorted(directory().glob(f"{name}*")) if _image_of(path) == name]


def _image_of(path: Path) -> str:
    return path.name.rsplit("-", 4)[0].partition(_OVER)[0]


def remove(name: str) -> list[Path]:
    """Remove the templates of the images called ``name``, and return their former paths. What is
    remembered about accelerators that do not work with it is forgotten. Raise :class:`ImageError`
    when one is in use: that one then stays whole."""
    for refusal in directory().glob(f"locks/{name}*.refused"):
        if _image_of(refusal) == name:
            refusal.unlink(missing_ok=True)
    removed = []
    for path in of(name):
        users = _discard(path)
        if users:
            raise ImageError(f"a template of image {name} is in use by {users}: end that first")
        removed.append(path)
    return removed


def disk_usage(path: Path) -> int:
    """Bytes that a template takes on the disk: most of its machine's memory was never written."""
    return sum(512 * file.stat().st_blocks for file in path.iterdir())


def _read_meta(path: Path) -> _Meta:
    return msgspec.json.decode((path / META).read_bytes(), type=_Meta)


def _describe(path: Path) -> dict[str, tuple[int, int]]:
    found = {name: (path / name).stat() for name in (INITRAMFS, vm.RAM, vm.STATE, vm.DISK)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def _key(image: Image, stage: Stage, program: str, accelerator: str, cards: int) -> str:
    machine = Machine(Path("kernel"), Path("initramfs"), accelerator, MEMORY, cards)
    plugs = Plugs(channel=3, monitor=4, console=5, disk=6)
    parts = (
        str(image.key),
        fingerprint(image.over),
        *stage[:2],
        program,
        *qemu.command_line(machine, Path("ram"), plugs, private=False, incoming=False),
        str(disk.SIZE),
        repr(_files()),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
