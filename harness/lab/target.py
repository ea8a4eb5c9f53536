"""What a lab runs on: ``image/backend/datapath``."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

BACKENDS = ("namespace", "docker", "vm")
DATAPATHS = ("netdev", "kernel", "dummy")
DEFAULT_TARGET = "trixie/namespace/netdev"
ALL = "all"
"""As an image: each of the catalogue."""


class TargetError(ValueError):
    """A target that is not written as ``image/backend/datapath``, or names what there is not."""


class Target(NamedTuple):
    """``trixie/namespace/netdev``: which Open vSwitch, what kind of node, which datapath."""

    image: str
    backend: str
    datapath: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``image/backend/datapath``. The image may itself hold slashes (``prefix:/path``)."""
        parts = text.rsplit("/", 2)
        if len(parts) != 3 or not all(parts):
            raise TargetError(
                f"target {text!r} is not of the form IMAGE/BACKEND/DATAPATH, as {DEFAULT_TARGET}"
            )
        image, backend, datapath = parts
        for what, value, known in (
            ("backend", backend, BACKENDS),
            ("datapath", datapath, DATAPATHS),
        ):
            if value not in known:
                raise TargetError(
                    f"target {text!r}: no {what} {value!r}; there is {', '.join(known)}"
                )
        return cls(image, backend, datapath)

    @property
    def ovs_datapath(self) -> str:
        """The datapath as Open vSwitch names it in Bridge ``datapath_type``."""
        return "system" if self.datapath == "kernel" else self.datapath

    def __str__(self) -> str:
        return f"{self.image}/{self.backend}/{self.datapath}"


def expand(text: str) -> list[str]:
    """The targets that a text stands for: braces are expanded as a shell does it (bash(1), "Brace
    Expansion": ``{bullseye,trixie}/vm/kernel``, also within each other), and the image ``all`` is
    every image of the catalogue. Each is still to be parsed."""
    return [target for one in _without_braces(text) for target in _images(one)]


def _without_braces(text: str) -> list[str]:
    start, depth = 0, 0
    commas: list[int] = []
    for place, character in enumerate(text):
        if character == "{":
            if not depth:
                start, commas = place, []
            depth += 1
        elif character == "," and depth == 1:
            commas.append(place)
        elif character == "}" and depth:
            depth -= 1
            if not depth and commas:
                ends = [start, *commas, place]
                parts = [text[one + 1 : other] for one, other in pairwise(ends)]
                before, after = text[:start], text[place + 1 :]
                return [one for part in parts for one in _without_braces(before + part + after)]
    return [text]


def _images(text: str) -> list[str]:
    image, slash, rest = text.partition("/")
    if image != ALL:
        return [text]
    # Half of what a run takes to start, which others need not wait for.
    from harness.images.catalogue import catalogue

    return [f"{name}{slash}{rest}" for name in catalogue()]
