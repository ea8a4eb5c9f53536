"""What remote machines have installed, found fit for nodes: by trying."""

from __future__ import annotations

from harness.images import Image
from harness.images.image import PROGRAMS
from harness.lab.environment import TargetUnavailable
from harness.lab.installed import TUN, image_of
from harness.lab.target import Target
from harness.nodes.ssh.client import Order, SshNode, Starting
from harness.ovs import layout
from harness.ovs.errors import OvsError


def examine(target: Target, order: Order) -> Image:
    """Start a node on each machine, and see whether it can be one of the target; return what they
    say of themselves. Raise :class:`TargetUnavailable`, and :class:`NodeError` where one can't be
    started."""
    starting = [Starting("trial", machine, order) for machine in target.machines]
    try:
        found = {
            machine: _examine(one.result(), target)
            for machine, one in zip(target.machines, starting, strict=True)
        }
    finally:
        for one in starting:
            one.close()
    if len({image.version for image in found.values()}) > 1:
        versions = ", ".join(f"{machine} has {image.version}" for machine, image in found.items())
        raise TargetUnavailable(f"the machines differ in their Open vSwitch: {versions}")
    return next(iter(found.values()))


def _examine(node: SshNode, target: Target) -> Image:
    machine = node.machine
    try:
        installed = layout.find(node)
    except OvsError:
        raise TargetUnavailable(
            f"{machine} has no Open vSwitch: `sudo apt-get install openvswitch-switch` there"
        ) from None
    lacking = [name for name in PROGRAMS if not _has(node, name)]
    if lacking:
        raise TargetUnavailable(
            f"{machine} has no {' and no '.join(lacking)}: "
            f"`sudo apt-get install {' '.join(PROGRAMS[name] for name in lacking)}` there"
        )
    if target.datapath == "kernel" and not node.exists("/sys/module/openvswitch"):
        raise TargetUnavailable(
            f"the kernel datapath needs the module openvswitch in the kernel of {machine}: `sudo "
            "modprobe openvswitch` there"
        )
    said = node.try_open(TUN) if target.datapath == "netdev" else None
    if said is not None:
        raise TargetUnavailable(
            f"the netdev datapath makes its internal ports with {TUN}, which can't be opened on "
            f"{machine} ({said}): `sudo modprobe tun` and `sudo chmod 0666 {TUN}` there"
        )
    return image_of(node, installed, target.image)


def _has(node: SshNode, program: str) -> bool:
    return node.run(["sh", "-c", f"command -v {program}"], check=False).status == 0
