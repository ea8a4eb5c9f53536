"""The catalogue of images: what it says, what changes a key, and what it refuses."""

from __future__ import annotations

import msgspec
import pytest

from harness.images import ImageError, catalogue, default_name
from harness.images.catalogue import parse, recipe_of

GOOD = """
[common]
packages = ["openvswitch-switch"]
[images.one]
suite = "one"
description = "the first"
default = true
"""


def test_the_catalogue_that_ships_has_the_four_suites() -> None:
    assert list(catalogue()) == ["bullseye", "bookworm", "trixie", "forky"]
    assert default_name() == "trixie"
    assert len({recipe.key for recipe in catalogue().values()}) == 4
    assert "openvswitch-switch" in catalogue()["trixie"].packages


def test_only_forky_may_be_past_its_date() -> None:
    lax = [name for name, recipe in catalogue().items() if recipe.apt_options]
    assert lax == ["forky"]


def test_an_image_may_have_another_kernel_than_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "m68k")
    common = 'packages = ["openvswitch-switch"]\nkernels = { m68k = "usual", z80 = "other" }'
    text = GOOD.replace('packages = ["openvswitch-switch"]', common)
    assert parse(text)["one"].kernel == "usual"
    assert parse(text + 'kernels = { z80 = "own" }')["one"].kernel == "usual"
    assert parse(text + 'kernels = { m68k = "own/suite" }')["one"].kernel == "own/suite"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"description": "other words"}, True),
        ({"default": False}, True),
        ({"packages": ("openvswitch-switch", "tcpdump")}, False),
        ({"suite": "two"}, False),
        ({"architecture": "riscv64"}, False),
        ({"apt_options": ("a",)}, False),
        ({"dpkg_options": ("path-exclude=/x",)}, False),
    ],
)
def test_key_changes_with_what_makes_the_image(change: dict[str, object], same: bool) -> None:
    recipe = parse(GOOD)["one"]
    changed = msgspec.structs.replace(recipe, **change)
    assert (changed.key == recipe.key) is same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[common", "c.toml: "),
        (GOOD.replace("suite =", "sweet ="), "c.toml: Object contains unknown field `sweet`"),
        (GOOD.replace('["openvswitch-switch"]', "3"), r"Expected `array`, got `int`.*\$.common"),
        (GOOD.replace("default = true", ""), "exactly one image must have default = true"),
    ],
)
def test_a_wrong_catalogue_is_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        parse(text, "c.toml")


def test_an_unknown_image_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ImageError, match=r"no image 'sid'.*bullseye.*host.*prefix:"):
        recipe_of("sid")
