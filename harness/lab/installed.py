"""What a node says of the Open vSwitch that it came with, where no image of ours is under it."""

from __future__ import annotations

from harness.images import Image
from harness.images.rootfs import version_in
from harness.nodes.base import Node
from harness.ovs.layout import Layout

TUN = "/dev/net/tun"


def image_of(node: Node, installed: Layout, name: str) -> Image:
    """An image of that name, with what is ``installed`` in a node of it."""
    library = node.read_file(f"{installed.datadir}/scripts/ovs-lib").decode(errors="replace")
    return Image(
        name=name,
        version=version_in(library) or "unknown",
        suite=None,
        key=None,
        lower=(),
        ovs_prefix=installed.datadir.removesuffix("/share/openvswitch"),
    )
