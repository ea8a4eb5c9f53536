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
stage=$(mktemp -d /.root-XXXXXX) lower='' count=$1
shift
undo() { umount -R "$stage/root" "$stage/layer" "$stage"/[0-9]*; rm -r "$stage"; }
trap 'undo 2>/dev/null' EXIT
while [ "$count" -gt 0 ]; do
    mkdir "$stage/$count"
    mount -t ext4 -o ro,noload "$1" "$stage/$count"
    lower=$lower${lower:+:}$stage/$count count=$((count - 1))
    shift
done
mkdir "$stage/layer" "$stage/root"
mount -t tmpfs -o nosuid,nodev,mode=755 throw-away "$stage/layer"
mkdir "$stage/layer/upper" "$stage/layer/work"
layers="lowerdir=$lower,upperdir=$stage/layer/upper,workdir=$stage/layer/work"
mount -t overlay -o "$layers" root "$stage/root"
for path; do
    mkdir -p "$stage/root$path"
    mount --rbind "$path" "$stage/root$path"
done
trap - EXIT
echo "$stage/root"
"""
"""Gets the number of disks, these, and the directories that stay; prints where the new root is
mounted."""
_STAY = ("/proc", "/sys", "/dev", "/run", "/tmp", KERNEL_MODULES)


def change(node: VmNode, disks: Sequence[int], keep: Sequence[str]) -> None:
    """Give a machine what is on disks (file descriptors: ext4 file systems, the first on top of the
    others) as its root, with a throw-away layer on it. The directories ``keep`` (absolute paths)
    are as they were, and so is what a system needs to find, and its kernel's modules.

    Processes that run stay in the root before; all that the harness runs from now on is in the new
    one. Raise :class:`NodeError`; the root is then what it was.
    """
    numbers = [node.attach(disk) for disk in disks]
    node.run(["modprobe", "-a", *DRIVERS])
    devices = [_found(node, number) for number in numbers]
    real = node.run(["realpath", *keep]).stdout.split("\n")[:-1] if keep else []
    argv = ["sh", "-e", "-c", _PUT_TOGETHER, "sh", str(len(devices)), *devices, *_STAY, *real]
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
