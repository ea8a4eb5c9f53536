"""Images for containers: had by the engine, and found fit for a node."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from harness.images import Image, catalogue
from harness.lab.environment import TargetUnavailable
from harness.lab.installed import TUN, image_of
from harness.lab.target import Target
from harness.nodes.base import NodeError
from harness.nodes.containers.client import Broker, DockerNode
from harness.ovs import layout
from harness.ovs.errors import OvsError


def provide(broker: Broker, image: Image, progress: Callable[[str], None]) -> str:
    """Have the engine have an image of the cache; return what it is called there. Raise
    :class:`NodeError` and :class:`~harness.images.ImageError`."""
    from harness.images.engine_names import reference

    called = reference(image)
    if broker.image(called) is None:
        from harness.images.engines import load

        load(image, progress=progress)
    return called


def examine(broker: Broker, reference: str, target: Target) -> Image:
    """Start a container of an image, and see whether it can be a node of a target; return what it
    says of itself. Raise :class:`TargetUnavailable`."""
    if broker.image(reference) is None:
        raise TargetUnavailable(
            f"the engine at {broker.engine.url} has no image {reference}: `docker pull` or `docker "
            f"build` it; images that the harness makes itself are {', '.join(catalogue())}"
        )
    lab = f"trial-{secrets.token_hex(4)}"
    try:
        tun = target.datapath == "netdev"
        starting = broker.start_node_soon(lab, "trial", reference, tun=tun)
        try:
            node = starting.result()
        except NodeError as error:
            raise TargetUnavailable(_explained(str(error), reference)) from None
        try:
            return _examine(node, reference, target)
        finally:
            node.close()
    finally:
        broker.end_lab(lab)


def _examine(node: DockerNode, reference: str, target: Target) -> Image:
    try:
        installed = layout.find(node)
    except OvsError as error:
        raise TargetUnavailable(f"image {reference} is none for a switch: {error}") from None
    if target.datapath == "kernel" and not node.exists("/sys/module/openvswitch"):
        raise TargetUnavailable(
            "the kernel datapath needs the module openvswitch in the engine's kernel: `sudo "
            "modprobe openvswitch` on the engine's machine"
        )
    said = node.try_open(TUN) if target.datapath == "netdev" else None
    if said is not None:
        raise TargetUnavailable(f"{TUN} can't be opened in a container: {said}")
    return image_of(node, installed, reference)


def _explained(said: str, reference: str) -> str:
    """Why a container did not start, and the way out."""
    if "python3" in said and "not found" in said:
        return f"image {reference} has no python3 (3.9 or later), which the agent needs: add it"
    if TUN in said:
        return (
            f"the netdev datapath makes its internal ports with {TUN}, which the engine's machine "
            f"lacks: `sudo modprobe tun` there ({said})"
        )
    return said
