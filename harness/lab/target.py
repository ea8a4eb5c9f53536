"""What a lab runs on: ``image/backend/datapath``, or ``ssh://machine/datapath``."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

BACKENDS = ("namespace", "docker", "vm", "ssh")
DATAPATHS = ("netdev", "kernel", "dummy")
DEFAULT_TARGET = "trixie/namespace/netdev"
ALL = "all"
"""As an image: each of the catalogue."""
SSH = "ssh://"
"""How a target begins whose nodes are on machines that ssh leads to, with what they run."""
_MACHINE = re.compile(
    r"(?P<user>[^@:/,\s\[\]-][^@:/,\s\[\]]*@)?"
    r"(?P<host>[^@:/,\s\[\]-][^@:/,\s\[\]]*|\[[0-9A-Fa-f:.]+(%\w+)?\])"
    r"(:(?P<port>[0-9]{1,5}))?"
)


class TargetError(ValueError):
    """A target that is not written as ``image/backend/datapath``, or names what there is not."""


def split(text: str) -> tuple[str, str, str] | None:
    """The image, the backend and the datapath of a target, whatever they are; None where it does
    not have the three. The image may itself hold slashes (``prefix:/path``). That of remote
    machines is where they are, and their backend is not written a second time."""
    image, slash, datapath = text.rpartition("/")
    backend = "ssh"
    if not image.startswith(SSH):
        image, slash, backend = image.rpartition("/")
    return (image, backend, datapath) if slash and image and backend and datapath else None


class Target(NamedTuple):
    """``trixie/namespace/netdev``: which Open vSwitch, what kind of node, which datapath."""

    image: str
    backend: str
    datapath: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``image/backend/datapath`` or ``ssh://machine,machine/datapath``. Raise
        :class:`TargetError`."""
        if text.startswith(SSH) and text.count("/") != 3:
            raise TargetError(
                f"target {text!r} is not of the form {SSH}[USER@]MACHINE[:PORT],…/DATAPATH, as "
                f"{SSH}root@hv1,root@hv2/netdev"
            )
        parts = split(text)
        if parts is None:
            raise TargetError(
                f"target {text!r} is not of the form IMAGE/BACKEND/DATAPATH, as {DEFAULT_TARGET}"
            )
        target = cls(*parts)
        for what, value, known in (
            ("backend", target.backend, BACKENDS),
            ("datapath", target.datapath, DATAPATHS),
        ):
            if value not in known:
                raise TargetError(
                    f"target {text!r}: no {what} {value!r}; there is {', '.join(known)}"
                )
        target._check_machines()
        return target

    def _check_machines(self) -> None:
        if self.backend != "ssh":
            return
        if not self.image.startswith(SSH):
            raise TargetError(
                f"target {str(self)!r}: remote machines are written {SSH}[USER@]MACHINE/DATAPATH"
            )
        for machine in self.machines:
            found = _MACHINE.fullmatch(machine)
            if found is None or not 0 < int(found["port"] or 22) < 1 << 16:
                raise TargetError(
                    f"target {str(self)!r}: {machine!r} is not of the form [USER@]MACHINE[:PORT]"
                )
        if len(set(self.machines)) < len(self.machines):
            raise TargetError(f"target {str(self)!r} names a machine twice")

    @property
    def machines(self) -> tuple[str, ...]:
        """Where the nodes are, as ssh is told: ``root@hv1``, ``hv2:2222``; empty for a backend
        whose nodes are on this machine."""
        return tuple(self.image[len(SSH) :].split(",")) if self.image.startswith(SSH) else ()

    @property
    def ovs_datapath(self) -> str:
        """The datapath as Open vSwitch names it in Bridge ``datapath_type``."""
        return "system" if self.datapath == "kernel" else self.datapath

    def __str__(self) -> str:
        if self.image.startswith(SSH):
            return f"{self.image}/{self.datapath}"
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
