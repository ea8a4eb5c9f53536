"""From the name of an image to directories that a node can run on."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import msgspec

from harness.images import rootfs
from harness.images.cache import (
    Progress,
    Stored,
    find,
    full_disk_explained,
    hold,
    images_directory,
)
from harness.images.catalogue import catalogue, default_name, recipe_of
from harness.images.errors import ImageError
from harness.images.locks import Hold
from harness.images.mmdebstrap import build as build_image

_UNFIT = {":": "a colon", ",": "a comma", "\\": "a backslash", "\n": "a newline", '"': "a quote"}

PROGRAMS = {"ip": "iproute2", "ping": "iputils-ping"}
"""What labs run beside Open vSwitch, and the Debian package that it is in."""
OWN_DIRECTORIES = (
    "etc/openvswitch",
    "usr/local/etc/openvswitch",
    "usr/local/var",
    "root",
    *(f"var/{name}" for name in ("cache", "lib/openvswitch", "log/openvswitch", "spool", "tmp")),
)
"""What a node on the machine's own root has for itself: a database, logs and a state that are not
those of the machine's own Open vSwitch."""
OWN_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
"""Where a node on the machine's own root has links of its own, and where they lead."""


class Image(msgspec.Struct, frozen=True):
    """What a node runs. Of ``lower``, overlayfs(5) lower directories, the first is on top.

    Under ``host`` lies ``/``, and the layer over it holds what nodes don't share with the machine.
    """

    name: str
    """As it was asked for: ``trixie``, ``host``, ``prefix:/path@bookworm``."""
    version: str
    """Open vSwitch's, as its ``ovs-lib`` states it; ``unknown`` for a prefix that has none."""
    suite: str | None
    """The Debian suite; None for ``host``."""
    key: str | None
    """Digest of the recipe; None for ``host``."""
    lower: tuple[Path, ...]
    ovs_prefix: str
    """``/usr`` or ``/usr/local``: where in the image Open vSwitch is installed."""
    stored: Stored | None = None
    """Where it is in the cache; None for ``host``."""

    @property
    def over(self) -> tuple[Path, ...]:
        """What is laid over the whole system at the bottom, the first on top."""
        return self.lower[:-1]

    def hold(self) -> Hold:
        """Keep the image from being removed until the hold is closed (it is a context manager), or
        this process ends. Raise :class:`ImageError` when it has been removed meanwhile."""
        return Hold() if self.stored is None else hold(self.stored)


def resolve(name: str, *, build: bool = True, progress: Progress = lambda _: None) -> Image:
    """The image that ``name`` means: one of the catalogue, ``host``, or ``prefix:/path[@image]``.

    ``build``: make what the cache lacks; ``progress`` gets a line for each stage of that. Raise
    :class:`ImageError`.
    """
    if name == "host":
        return _host()
    if name.startswith("prefix:"):
        path, _, base = name.removeprefix("prefix:").partition("@")
        return _prefix(name, path, resolve_base(base or default_name(), build, progress))
    return resolve_base(name, build, progress)


def is_known(name: str) -> bool:
    """Whether ``name`` is one that :func:`resolve` knows; any other may be a container engine's."""
    return name == "host" or name.startswith("prefix:") or name in catalogue()


def resolve_base(name: str, build: bool, progress: Progress) -> Image:
    """The image called ``name`` in the catalogue. Raise :class:`ImageError`."""
    key = recipe_of(name).key
    stored = find(name, key)
    if stored is None and build:
        stored = build_image(name, progress=progress)
    if stored is None:
        raise ImageError(f"image {name} is not built: run `ovs-harness image build {name}`")
    _refuse_unfit(stored.rootfs, "set XDG_CACHE_HOME to another place")
    prefix, _ = rootfs.require_ovs(stored.rootfs, name)
    return Image(
        name=name,
        version=stored.meta.version,
        suite=stored.meta.suite,
        key=key,
        lower=(stored.rootfs,),
        ovs_prefix=prefix,
        stored=stored,
    )


def _host() -> Image:
    root = Path("/")
    prefix = rootfs.ovs_prefix(root)
    if prefix is None:
        raise ImageError(
            "image host: no ovs-vswitchd in /usr/local/sbin or /usr/sbin of this machine; run "
            "`sudo apt-get install openvswitch-switch`, or use an image of the catalogue"
        )
    _, version = rootfs.require_ovs(root, "host")
    lacking = rootfs.lacking(root, PROGRAMS)
    if lacking:
        raise ImageError(
            f"image host: this machine has no {' and no '.join(lacking)}; run "
            f"`sudo apt-get install {' '.join(PROGRAMS[name] for name in lacking)}`"
        )
    with full_disk_explained():
        own = _layer(OWN_LINKS, OWN_DIRECTORIES)
    return Image(
        name="host", version=version, suite=None, key=None, lower=(own, root), ovs_prefix=prefix
    )


def _prefix(name: str, text: str, base: Image) -> Image:
    path = Path(text)
    if not path.is_absolute():
        raise ImageError(f"image {name}: {text!r} is not an absolute path")
    _refuse_unfit(path, "link the tree to another place")
    if not path.is_dir():
        raise ImageError(f"image {name}: there is no directory {text}")
    prefix = rootfs.ovs_prefix(path)
    if prefix is None:
        raise ImageError(
            f"image {name}: neither usr/sbin/ovs-vswitchd nor usr/local/sbin/ovs-vswitchd is in "
            f"{text}; make it with `make install DESTDIR={text}`"
        )
    assert base.stored is not None  # bases come from the catalogue
    with full_disk_explained():
        links = _kept_links(path, base.stored.rootfs)
    return Image(
        name=name,
        version=rootfs.ovs_version(path, prefix) or "unknown",
        suite=base.suite,
        key=base.key,
        lower=(*links, path, *base.lower),
        ovs_prefix=prefix,
        stored=base.stored,
    )


def _refuse_unfit(path: Path, way_out: str) -> None:
    """Refuse a path that can't stand in a list of overlayfs lower directories."""
    for character, what in _UNFIT.items():
        if character in str(path):
            raise ImageError(f"overlayfs takes no path with {what} in it: {path}; {way_out}")


def _kept_links(tree: Path, base: Path) -> tuple[Path, ...]:
    """A directory for the top of the overlay with the base's links that ``tree`` would hide.

    ``make install`` makes an empty ``var/run/openvswitch``. Laid over an image, it would replace
    the link ``/var/run -> /run`` by a directory, and the daemons' sockets would be elsewhere.
    Raise :class:`ImageError` for such a directory with files in it: they would not be seen.
    """
    links = {}
    for directory, names, _ in os.walk(tree):
        for name in tuple(names):
            place = (Path(directory) / name).relative_to(tree)
            if (base / place).is_symlink() and not (tree / place).is_symlink():
                names.remove(name)
                _refuse_files(tree / place, place, base)
                links[str(place)] = str((base / place).readlink())
    return (_layer(links),) if links else ()


def _refuse_files(directory: Path, place: Path, base: Path) -> None:
    for parent, _, files in os.walk(directory):
        if files:
            goal = (base / place).readlink()
            raise ImageError(
                f"{parent}/{files[0]}: in the image /{place} is a link to {goal}; install there "
                "(`./configure --prefix=/usr --localstatedir=/var --sysconfdir=/etc`)"
            )


def _layer(links: dict[str, str], directories: tuple[str, ...] = ()) -> Path:
    """A directory that holds just these; the same content has the same directory."""
    content = f"{sorted(links.items())}{directories or ''}"
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    layer = images_directory().parent / "links" / key
    if layer.is_dir():
        return layer
    layer.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=layer.parent))
    staging.chmod(0o755)
    for place in directories:
        (staging / place).mkdir(parents=True)
    for place, goal in links.items():
        (staging / place).parent.mkdir(parents=True, exist_ok=True)
        (staging / place).symlink_to(goal)
    try:
        staging.rename(layer)
    except OSError:
        shutil.rmtree(staging)
        if not layer.is_dir():  # else another process was faster
            raise
    return layer
