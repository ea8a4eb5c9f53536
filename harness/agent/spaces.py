"""Network namespaces of a node: its own, and those of its hosts."""

from __future__ import annotations

import errno
import os

from .libc import CLONE_NEWNET, check, libc
from .quiet import quieten
from .requests import Operations, Request
from .rtnetlink import Netlink


class Inside:
    """Within this context the thread is in another network namespace."""

    def __init__(self, home: int, there: int | None) -> None:
        self.home, self.there = home, there

    def __enter__(self) -> None:
        if self.there is not None:
            check(libc.setns(self.there, CLONE_NEWNET), "setns")

    def __exit__(self, *_: object) -> None:
        if self.there is not None:
            check(libc.setns(self.home, CLONE_NEWNET), "setns back")


class Spaces:
    """The network namespaces that are known by a name, and the one that we are in."""

    def __init__(self) -> None:
        self.home = _open_own()
        self._named: dict[str, int] = {}
        self._spares: list[int] = []
        self._netlinks: dict[str | None, Netlink] = {}
        self.operations: Operations = {
            "spaces": self.tell,
            "space_add": self.make,
            "space_spare": self.make_spares,
            "space_remove": self.remove,
            "space_take": self.take_others,
        }

    def descriptor(self, name: str | None) -> int:
        """That of a namespace; None is the node's own. Raise OSError where there is none."""
        if name is None:
            return self.home
        if name not in self._named:
            raise OSError(errno.ENOENT, f"no network namespace {name!r} in this node")
        return self._named[name]

    def inside(self, name: str | None) -> Inside:
        """The context of a namespace; None is the node's own."""
        return Inside(self.home, None if name is None else self.descriptor(name))

    def netlink(self, name: str | None) -> Netlink:
        """The rtnetlink socket of a namespace."""
        if name not in self._netlinks:
            with self.inside(name):
                self._netlinks[name] = Netlink()
        return self._netlinks[name]

    def take(self, name: str, descriptor: int) -> None:
        """Know a namespace by a name from now on, and have its descriptor."""
        self._named[name] = descriptor

    def take_others(self, request: Request) -> None:
        """Know network namespaces that another process has: names, and files of /proc."""
        for name, path in request["spaces"].items():
            self.take(name, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        request.reply()

    def let_go(self, name: str) -> None:
        """Close all of ours that keeps a network namespace alive: a socket in it does, too."""
        netlink = self._netlinks.pop(name, None)
        if netlink is not None:
            netlink.socket.close()
        os.close(self._named.pop(name))

    def tell(self, request: Request) -> None:
        """This process's descriptors of the node's own network namespace and of those in it."""
        request.reply({"home": self.home, "spaces": self._named})

    def make(self, request: Request) -> None:
        """Make network namespaces, loopback up, without IPv6 until an address asks for it."""
        self.create(*request["names"])
        request.reply()

    def create(self, *names: str) -> None:
        """See :meth:`make`."""
        while len(self._spares) < len(names):
            self._spares.append(self._fresh())
        for name in names:
            self.take(name, self._spares.pop())

    def make_spares(self, request: Request) -> None:
        """Make ``count`` network namespaces that nobody has yet: what goes on from a copy of this
        process's memory is given those first."""
        self._spares += [self._fresh() for _ in range(request["count"])]
        request.reply()

    def _fresh(self) -> int:
        check(libc.unshare(CLONE_NEWNET), "unshare")
        try:
            quieten()
            return _open_own()
        finally:
            check(libc.setns(self.home, CLONE_NEWNET), "setns back")

    def remove(self, request: Request) -> None:
        """Let go of network namespaces."""
        for name in request["names"]:
            self.let_go(name)
        request.reply()


def _open_own() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
