"""Another root for a virtual machine that runs: that of another image, from a disk."""

from __future__ import annotations

from collections.abc import Sequence

from harness.nodes.base import Node, NodeError
from harness.nodes.vm import VmNode
from harness.polling import NeverHappenedError, eventually

FOUND = 10.0
"""Seconds within which a kernel has found a disk that was attached."""
KERNEL_MODULES = "/lib/modules"
"""These go with the kernel that runs."""
DRIVERS = ("virtio_scsi", "sd_mod")
_DISKS = "ls /sys/bus/scsi/devices/*:0:$0:0/block"
_PUT_TOGETHER = """\
disk=$1 stage=$(mktemp -d /.root-XXXXXX)
undo() { umount -R "$stage/root" "$stage/layer" "$stage/image"; rm -r "$stage"; }
trap 'undo 2>/dev/null' EXIT
mkdir "$stage/image" "$stage/layer" "$stage/root"
mount -t ext4 -o ro,noload "$disk" "$stage/image"
mount -t tmpfs -o nosuid,nodev,mode=755 throw-away "$stage/layer"
mkdir "$stage/layer/upper" "$stage/layer/work"
layers="lowerdir=$stage/image,upperdir=$stage/layer/upper,workdir=$stage/layer/work"
mount -t overlay -o "$layers" root "$stage/root"
shift
for path; do
    mkdir -p "$stage/root$path"
    mount --rbind "$path" "$stage/root$path"
done
trap - EXIT
echo "$stage/root"
"""
"""Gets the disk and the directories that stay; prints where the new root is mounted."""
_STAY = ("/proc", "/sys", "/dev", "/run", "/tmp", KERNEL_MODULES)


def change(node: VmNode, disk: int, keep: Sequence[str]) -> None:
    """Give a machine what is on a disk (a file descriptor: an ext4 file system) as its root, with a
    throw-away layer on it. The directories ``keep`` (absolute paths) are as they were, and so is
    what a system needs to find, and its kernel's modules.

    Processes that run stay in the root before; all that the harness runs from now on is in the new
    one. Raise :class:`NodeError`; the root is then what it was.
    """
    number = node.attach(disk)
    node.run(["modprobe", "-a", *DRIVERS])
    device = _found(node, number)
    real = node.run(["realpath", *keep]).stdout.split("\n")[:-1] if keep else []
    argv = ["sh", "-e", "-c", _PUT_TOGETHER, "sh", device, *_STAY, *real]
    root = node.run(argv, timeout=60).stdout.strip()
    node.channel.ask("change_root", {"root": root}, what="change its root").result()


def _found(node: Node, number: int) -> str:
    """The device that a disk is, once the kernel has found it."""
    look = ["sh", "-c", _DISKS, str(number)]
    try:
        name = eventually(
            lambda: node.run(look, check=False).stdout,
            within=FOUND * node.patience,
            what=f"{node.name}: its kernel finds disk {number}",
        )
    except NeverHappenedError as error:
        raise NodeError(str(error)) from None
    return f"/dev/{name.strip()}"
