"""Frames that were lost without the switch's doing, told from counters that the kernel keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

RECEIVE_DROPS, SEND_DROPS = 3, 11
"""Columns of /proc/net/dev, behind the interface's name."""

Socket = tuple[int, int, int, int | None]
"""Inode, interface index, bytes that wait, frames dropped (None: not known)."""


class SocketDrops:
    """How many frames some packet sockets had no room for, over all that there ever were: what a
    socket had dropped when it was last seen counts also when it is gone."""

    def __init__(self) -> None:
        self.total = 0
        self._last: dict[int, int] = {}

    def see(self, sockets: Iterable[Socket]) -> int:
        """Take note of those that there are now; return the new total."""
        now = {inode: drops or 0 for inode, _index, _waiting, drops in sockets}
        for inode, drops in now.items():
            known = self._last.get(inode, 0)
            # With fewer than before it is another socket, which got the number of one that ended.
            self.total += drops - known if drops >= known else drops
        self._last = now
        return self.total

    def forget(self) -> None:
        """Take note that there are none any more, and that others will get their numbers."""
        self._last = {}


def interface_drops(before: bytes, after: bytes) -> dict[str, int]:
    """How many frames the interfaces dropped, sending and receiving, between two readings of
    /proc/net/dev that both have them; without those that dropped none."""
    old = dict(interface_lines(before))
    fresh = {
        name: _dropped(line) - _dropped(old[name])
        for name, line in interface_lines(after)
        if name in old
    }
    return {name: frames for name, frames in fresh.items() if frames > 0}


def interface_lines(text: bytes) -> Iterator[tuple[str, str]]:
    """The interfaces of /proc/net/dev, each with its counters."""
    for line in text.decode().splitlines()[2:]:
        name, _, rest = line.partition(":")
        yield name.strip(), rest


def _dropped(line: str) -> int:
    counters = line.split()
    return int(counters[RECEIVE_DROPS]) + int(counters[SEND_DROPS])
