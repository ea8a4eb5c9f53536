"""What images there are: the recipes of ``containers/catalogue.toml``, and the key of each."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

import msgspec

from harness.images.errors import ImageError

_LAYOUT = 2
"""Raised when the way a root file system is unpacked changes, so that old ones are built anew."""

KEY_LENGTH = 16


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one image is made. ``name`` is the image's; the rest is what mmdebstrap is told."""

    name: str
    suite: str
    description: str
    packages: tuple[str, ...]
    apt_options: tuple[str, ...] = ()
    dpkg_options: tuple[str, ...] = ()
    architecture: str = ""
    kernel: str = ""
    """The package of the kernel for VMs; empty: there is none for this architecture."""
    default: bool = False

    @property
    def key(self) -> str:
        """Digest over all that makes the image what it is: 16 hexadecimal digits."""
        parts = (
            _LAYOUT,
            self.suite,
            self.architecture,
            sorted(self.packages),
            self.apt_options,
            self.dpkg_options,
            self.kernel,
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:KEY_LENGTH]


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    packages: tuple[str, ...]
    dpkg_options: tuple[str, ...] = ()
    kernels: dict[str, str] = {}


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    suite: str
    description: str
    packages: tuple[str, ...] = ()
    apt_options: tuple[str, ...] = ()
    kernels: dict[str, str] = {}
    default: bool = False


class _File(msgspec.Struct, forbid_unknown_fields=True):
    common: _Common
    images: dict[str, _Entry]


def parse(text: str, where: str = "catalogue.toml") -> dict[str, Recipe]:
    """The recipes in the text of a catalogue, by name. Raise :class:`ImageError` with ``where`` and
    the place in the text that is wrong."""
    try:
        data = msgspec.toml.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise ImageError(f"{where}: {error}") from None
    recipes = {
        name: Recipe(
            name=name,
            suite=entry.suite,
            description=entry.description,
            packages=(*data.common.packages, *entry.packages),
            apt_options=entry.apt_options,
            dpkg_options=data.common.dpkg_options,
            architecture=platform.machine(),
            kernel=(data.common.kernels | entry.kernels).get(platform.machine(), ""),
            default=entry.default,
        )
        for name, entry in data.images.items()
    }
    defaults = [name for name, recipe in recipes.items() if recipe.default]
    if len(defaults) != 1:
        raise ImageError(f"{where}: exactly one image must have default = true, not {defaults}")
    return recipes


@cache
def catalogue() -> dict[str, Recipe]:
    """The recipes of the catalogue that came with the harness, by name."""
    here = Path(__file__).resolve()
    # In a wheel the file lies beside this module, in a checkout under containers/.
    for path in (here.with_name("catalogue.toml"), here.parents[2] / "containers/catalogue.toml"):
        if path.is_file():
            return parse(path.read_text(encoding="utf-8"), str(path))
    raise ImageError("the image catalogue (containers/catalogue.toml) is missing: install again")


def default_name() -> str:
    """The image that is meant when none is named."""
    return next(name for name, recipe in catalogue().items() if recipe.default)


def recipe_of(name: str) -> Recipe:
    """The recipe called ``name``. Raise :class:`ImageError` naming those that there are."""
    recipes = catalogue()
    if name not in recipes:
        raise ImageError(
            f"there is no image {name!r} in the catalogue, only {', '.join(recipes)}; "
            "host and prefix:/path[@image] are run as they are, and never built"
        )
    return recipes[name]
