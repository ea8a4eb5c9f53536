"""What labs of one process share: the launcher, images, what a target was found to lack."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.lab.target import Target
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric

if TYPE_CHECKING:
    from harness.images import Hold

Progress = Callable[[str], None]


class TargetUnavailable(RuntimeError):
    """A target cannot run here; the message says what is missing and how to get it."""


@cache
def fabric() -> Fabric:
    """This process's launcher; it ends with the process."""
    made = Fabric()
    atexit.register(made.close)
    return made


class Environment(NamedTuple):
    """A target that can run here: where its nodes' files come from."""

    target: Target
    version: str
    """Open vSwitch's."""
    lower: tuple[Path, ...]
    hold: Hold
    """Keeps the image from being removed."""


_found: dict[Target, Environment | TargetUnavailable] = {}


def environment(target: Target, progress: Progress = lambda _line: None) -> Environment:
    """Make a target ready, its image built if need be. Raise :class:`TargetUnavailable`."""
    if target not in _found:
        # The launcher takes as long to come up as all that a lab needs takes to load: side by side.
        fabric()
        from harness.images import ImageError

        try:
            _found[target] = _prepare(target, progress)
        except (ImageError, NodeError, TargetUnavailable) as error:
            _found[target] = TargetUnavailable(f"{target}: {error}")
    found = _found[target]
    if isinstance(found, TargetUnavailable):
        raise found
    return found


def _prepare(target: Target, progress: Progress) -> Environment:
    from harness.images import resolve

    image = resolve(target.image, progress=progress)
    hold = image.hold()
    starting = fabric().start_node_soon("probe", image.lower)
    import harness.lab.lab  # noqa: F401 - whoever asks for a target wants a lab on it

    node = starting.result()
    try:
        if target.datapath == "netdev":
            said = node.try_open("/dev/net/tun")
            if said is not None:
                raise TargetUnavailable(
                    f"the netdev datapath makes its internal ports with /dev/net/tun, which can't "
                    f"be opened here ({said}): `sudo chmod 0666 /dev/net/tun`, or take the target "
                    f"{target.image}/{target.backend}/dummy, which has no internal ports and no "
                    "tunnels"
                )
        if target.datapath == "kernel" and not node.exists("/sys/module/openvswitch"):
            raise TargetUnavailable(
                "the kernel datapath needs the module openvswitch in this machine's kernel: "
                "`sudo modprobe openvswitch`"
            )
    finally:
        node.close()
    return Environment(target, image.version, image.lower, hold)
