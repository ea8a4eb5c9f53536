"""Whether the kernel module ``openvswitch`` was really reloaded, told from the kernel.

``ovs-ctl force-reload-kmod`` goes on when the module can't be removed, and exits 0 all the same.
What gives it away is the inode number of ``/sys/module/openvswitch``: that directory is made anew
when the module is inserted, and sysfs numbers what it makes in ascending order
(``__kernfs_new_node()`` in fs/kernfs/dir.c), so that the same number means the same module, still
there. Other signs do not prove it. Seen on Linux 6.12: with ``rmmod`` failing, the datapath had a
new interface index all the same, as ``ovs-dpctl del-dp`` removes the old one; and after a true
reload the module was at the same address as before. The kernel's log, which says when a module is
inserted, forgets.
"""

from __future__ import annotations

from harness.nodes.base import Completed, Node
from harness.ovs.errors import ModuleError
from harness.ovs.tasks import Steps

MODULE = "/sys/module/openvswitch"

_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO (linux/proc_ns.h): the number of the namespace that the kernel starts with."""


def inode(node: Node) -> Steps[int | None]:
    """What tells one loaded module from the next; None while none is loaded."""
    answers = yield [node.run_soon(["stat", "-c", "%i", MODULE])]
    done: Completed = answers[0]
    return int(done.stdout) if done.status == 0 else None


def reloadable(node: Node) -> Steps[int]:
    """The :func:`inode` of a module that is there and that this node alone may reload.

    Raise :class:`ModuleError` for a node that shares its kernel with the machine: it would take
    the datapath of everybody else on it.
    """
    answers = yield [node.run_soon(["readlink", "/proc/self/ns/pid"])]
    if answers[0].check().stdout.strip() != _FIRST_PID_NAMESPACE:
        raise ModuleError(
            f"{node.name}: the kernel is not this node's own, so its module openvswitch is not "
            "reloaded; take a target whose backend is vm"
        )
    found = yield from inode(node)
    if found is None:
        raise ModuleError(f"{node.name}: the kernel module openvswitch is not loaded")
    return found


def check_reloaded(node: Node, before: int, done: Completed) -> Steps[None]:
    """Raise :class:`ModuleError`, with what the command ``done`` printed, unless the module is
    another than the one with the :func:`inode` ``before``."""
    after = yield from inode(node)
    if after is None:
        problem = "was removed and not inserted again"
    elif after == before:
        problem = "was not reloaded: the same one is still there"
    else:
        return
    said = (done.stdout + done.stderr).strip()
    raise ModuleError(
        f"{node.name}: after `{' '.join(done.argv)}` the module openvswitch {problem}"
        f"\nit printed:\n{said}"
    )
