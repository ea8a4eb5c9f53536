"""The root file system of a node that is made of namespaces: put together, and changed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Callable

from harness.agent.files import write_anew
from harness.agent.libc import check, libc
from harness.nodes import machine
from harness.nodes.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    attach,
    clone,
    mount,
    overlay,
)

MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")
STAGE = "/tmp"
"""Any directory that every machine has: in the node's own mount namespace it is covered by the
node's throw-away layer while its root is put together."""
FILLED = ("/proc", "/sys", "/dev", "/run", "/tmp")
"""What :func:`fill_root` mounts; a change of the root takes it along."""


def enter_root(lower: list[str], size: str, files: dict[str, str]) -> None:
    """Make ``lower`` (top first) with a throw-away layer of at most ``size`` on it our root.

    Where the last one is the machine's own root, the layers above it say what of it the node has
    for itself (:mod:`harness.nodes.machine`). ``files`` maps a path to its text, written with mode
    0755 before anything runs.
    """
    if lower[-1] == "/":
        own: list[str] = []
        links: dict[str, str] = {}
        for layer in lower[:-1]:
            directories, more = machine.own_places(layer)
            own += directories
            links.update(more)
        enter_machine(own, links, size, files)
        return
    # By descriptor: a path may lie under STAGE.
    layers = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in lower]

    def lay(root: str) -> None:
        below = [f"/proc/self/fd/{fd}" for fd in layers]
        overlay(below, f"{STAGE}/upper", f"{STAGE}/work", root)
        for fd in layers:
            os.close(fd)

    _enter(lay, size, files)


def enter_machine(own: list[str], links: dict[str, str], size: str, files: dict[str, str]) -> None:
    """Make the machine's own system our root, with the directories ``own`` of our own, empty at
    first, and these symbolic links; ``size`` and ``files`` are as those of :func:`enter_root`."""
    writable = [os.path.dirname(path).lstrip("/") for path in files]
    _enter(
        lambda root: machine.Root(root, f"{STAGE}/upper", own, writable).make(links), size, files
    )


def _enter(fill: Callable[[str], None], size: str, files: dict[str, str]) -> None:
    """Have ``fill`` put a root together at the path that it is given, and make it ours."""
    os.umask(0o022)
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    devices = open_devices()
    mount("throw-away", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={size}")
    root = STAGE + "/root"
    for name in ("upper", "work", "root"):
        os.mkdir(f"{STAGE}/{name}")
    fill(root)
    fill_root(root, devices)
    pivot(root)
    write_files(files)


def change_root(namespaces: list[str], request: dict[str, Any]) -> None:
    """Give the node of these namespaces (files of ``/proc/PID/ns``) the directories ``lower`` (top
    first) as its root, with a throw-away layer on them. To be called in a process of its own.

    What is mounted in the node stays, and the directories ``keep`` are those of the root before,
    with their files. All processes of the node have the new root from then on (pivot_root(2)); what
    they have open, and the programs that they run, are still the old ones. ``size`` and ``files``
    are as those of :func:`enter_root`.
    """
    os.umask(0o022)
    # Taken here, as the node does not see them.
    trees = [clone(path) for path in request["lower"]]
    for fd in [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in namespaces]:
        check(libc.setns(fd, 0), "setns")
    # Not by tempfile, which takes long to load: labs wait for the launcher to come up.
    stage = f"/.root-{os.getpid()}"
    os.mkdir(stage, 0o700)
    mount("throw-away", stage, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={request['size']}")
    try:
        root = _put_together(stage, trees)
        for path in (*FILLED, *map(os.path.realpath, request["keep"])):
            os.makedirs(root + path, exist_ok=True)
            mount(path, root + path, "", MS_BIND | MS_REC)
        pivot(root)
    except BaseException:
        check(libc.umount2(stage.encode(), MNT_DETACH), f"umount {stage}")
        os.rmdir(stage)
        raise
    write_files(request["files"])


def _put_together(stage: str, trees: list[int]) -> str:
    """Lay a throw-away layer over ``trees``; return where that is mounted. This process is not in
    the node's PID namespace, so that /proc/self is of no use here."""
    layers = []
    for number, tree in enumerate(trees):
        layers.append(f"{stage}/{number}")
        os.mkdir(layers[-1])
        attach(tree, layers[-1])
    for name in ("upper", "work", "root"):
        os.mkdir(f"{stage}/{name}")
    overlay(layers, f"{stage}/upper", f"{stage}/work", f"{stage}/root")
    return f"{stage}/root"


def pivot(root: str) -> None:
    """Make what is mounted at ``root`` the root of this mount namespace and of all processes in it,
    and let go of the one before."""
    os.chdir(root)
    call = SYS_PIVOT_ROOT[os.uname().machine]
    check(libc.syscall(call, b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount the root before")
    os.chdir("/")


def write_files(files: dict[str, str]) -> None:
    """Write each path's text, executable."""
    for path, content in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_anew(path, content, 0o755)


def open_devices() -> dict[str, int]:
    """Descriptors of the machine's devices that a node has too."""
    found = {}
    for name in DEVICES:
        with suppress(OSError):
            found[name] = os.open("/dev/" + name, os.O_PATH)
    return found


def fill_root(root: str, devices: dict[str, int]) -> None:
    """Mount what a system needs to find: /proc, /sys, /dev, /run, /tmp."""
    for name in ("proc", "sys", "dev", "run", "tmp"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("run", f"{root}/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmp", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("dev", f"{root}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755")
    for name in ("net", "pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    mount("devpts", f"{root}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666")
    mount("shm", f"{root}/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    for name, fd in devices.items():
        target = f"{root}/dev/{name}"
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        mount(f"/proc/self/fd/{fd}", target, "", MS_BIND)
