"""What the kernel's counters say of frames that no switch ever saw."""

from __future__ import annotations

import pytest

from harness.lab.losses import Socket, SocketDrops, interface_drops


def sockets(**drops: int | None) -> list[Socket]:
    """Sockets by inode, ``i7`` being that with number 7, and what each has dropped so far."""
    return [(int(inode[1:]), 1, 0, number) for inode, number in drops.items()]


@pytest.mark.parametrize(
    ("looks", "totals"),
    [
        ([{"i1": 0, "i2": 3}, {"i1": 4, "i2": 3}], [3, 7]),
        # One that is gone counts as it was seen last, and does not hide what another dropped.
        ([{"i1": 5, "i2": 0}, {"i2": 5}, {"i2": 6}], [5, 10, 11]),
        # Its port was made anew.
        ([{"i1": 5}, {"i2": 2}], [5, 7]),
        # The kernel gave its number to another one.
        ([{"i1": 5}, {}, {"i1": 2}], [5, 5, 7]),
        ([{"i1": 5}, {"i1": 2}], [5, 7]),
        # A kernel that does not tell.
        ([{"i1": None}, {"i1": None}], [0, 0]),
    ],
)
def test_drops_are_counted_for_each_socket(
    looks: list[dict[str, int | None]], totals: list[int]
) -> None:
    drops = SocketDrops()
    assert [drops.see(sockets(**look)) for look in looks] == totals


HEAD = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
"""


def reading(**drops: tuple[int, int]) -> bytes:
    """/proc/net/dev with what each interface dropped while receiving and while sending."""
    lines = (
        f"  {name}: 90 1 0 {received} 0 0 0 0 1200 9 0 {sent} 0 0 0 0\n"
        for name, (received, sent) in drops.items()
    )
    return (HEAD + "".join(lines)).encode()


@pytest.mark.parametrize(
    ("before", "after", "dropped"),
    [
        ({"a": (1, 2)}, {"a": (1, 2)}, {}),
        ({"a": (1, 2), "b": (0, 0)}, {"a": (4, 3), "b": (0, 0)}, {"a": 4}),
        # Interfaces that came, went, or were made anew meanwhile.
        ({"a": (1, 1)}, {"b": (9, 9)}, {}),
        ({"a": (5, 0)}, {"a": (1, 0)}, {}),
    ],
)
def test_what_interfaces_dropped(
    before: dict[str, tuple[int, int]],
    after: dict[str, tuple[int, int]],
    dropped: dict[str, int],
) -> None:
    assert interface_drops(reading(**before), reading(**after)) == dropped
