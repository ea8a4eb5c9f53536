"""What a lab runs on: ``image/backend/datapath``."""

from __future__ import annotations

from typing import NamedTuple

BACKENDS = ("namespace", "docker", "vm")
DATAPATHS = ("netdev", "kernel", "dummy")
DEFAULT_TARGET = "trixie/namespace/netdev"


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
