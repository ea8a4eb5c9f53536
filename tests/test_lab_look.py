"""What one look says is under way, and when two looks say that nothing happens."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.lab.look import Look, take
from harness.lab.losses import SocketDrops
from harness.lab.sites import Carried


def counters(**interfaces: tuple[int, int]) -> bytes:
    """A /proc/net/dev with these interfaces: frames received and sent."""
    lines = ["Inter-|   Receive  | Transmit", " face |bytes    packets errs …"]
    for name, (received, sent) in interfaces.items():
        lines.append(f"{name:>6}: 111 {received} 0 0 0 0 0 0 222 {sent} 0 0 0 0 0 0")
    return "\n".join(lines).encode()


REST = Look(
    waiting=0,
    counters={"hv1": counters(eth0=(3, 5)), "hv2": counters(eth0=(5, 3))},
    handlers={"hv1": [("S", 4), ("S", 7)], "hv2": []},
    carried={("hv1", "eth0"): Carried(5, 3, 0, 0), ("hv2", "eth0"): Carried(3, 5, 0, 0)},
    drops={"hv1": 0},
    backlogs={"hv1": 0},
    listened={"hv1": {3}},
    idle={"hv2": 7},
)


def changed(**changes: Any) -> Look:
    return msgspec.structs.replace(REST, **changes)


def at_hv1(carried: Carried) -> dict[tuple[str, str], Carried]:
    return {**REST.carried, ("hv1", "eth0"): carried}


UNDER_WAY: dict[str, tuple[Look, str]] = {
    "nothing": (REST, ""),
    "no underlay is ours to carry": (changed(carried={}), ""),
    # A driver counts some of what it sent only when it is next used.
    "come out and not counted yet": (changed(carried=at_hv1(Carried(6, 3, 0, 0))), ""),
    "in a queue": (changed(waiting=7), "7 bytes still wait in receive queues"),
    "a handler runs": (
        changed(handlers={"hv1": [("S", 4), ("R", 7)]}),
        "hv1 still handles what its datapath sent up",
    ),
    "a handler waits for a disk": (
        changed(handlers={"hv1": [("S", 4)], "hv2": [("D", 1)]}),
        "hv2 still handles what its datapath sent up",
    ),
    "sent and not come out": (
        changed(carried=at_hv1(Carried(4, 3, 0, 0))),
        "4 of 5 frames that hv1 sent by eth0 came out",
    ),
    "given and not received": (
        changed(carried=at_hv1(Carried(5, 4, 0, 0))),
        "hv1 got 3 of the 4 frames for its eth0",
    ),
    "kept": (
        changed(carried=at_hv1(Carried(5, 3, 0, 2))),
        "hv1 got 3 of the 5 frames for its eth0",
    ),
    "kept and not received": (
        changed(carried=at_hv1(Carried(5, 4, 0, 2))),
        "hv1 got 3 of the 6 frames for its eth0",
    ),
    "both ways": (
        changed(carried=at_hv1(Carried(4, 4, 0, 0))),
        "4 of 5 frames that hv1 sent by eth0 came out; hv1 got 3 of the 4 frames for its eth0",
    ),
    "at two switches": (
        changed(counters={"hv1": counters(eth0=(3, 6)), "hv2": counters(eth0=(4, 3))}),
        "5 of 6 frames that hv1 sent by eth0 came out; hv2 got 4 of the 5 frames for its eth0",
    ),
    # What was dropped is lost, and told elsewhere: it is not under way.
    "dropped": (changed(carried=at_hv1(Carried(5, 3, 9, 0))), ""),
    # A faulty switch may have lost the interface; what is known of the others counts.
    "an interface is gone": (changed(counters={**REST.counters, "hv1": counters(lo=(1, 1))}), ""),
    "queues come first": (
        changed(waiting=7, carried=at_hv1(Carried(4, 3, 0, 0))),
        "7 bytes still wait in receive queues",
    ),
}


@pytest.mark.parametrize("name", UNDER_WAY)
def test_what_is_under_way(name: str) -> None:
    look, said = UNDER_WAY[name]
    assert look.under_way() == said


@pytest.mark.parametrize(
    ("later", "still"),
    [
        (changed(), True),
        # Losses are what they are; they don't say that anything goes on.
        (changed(drops={"hv1": 4}, backlogs={"hv1": 4}, listened={}), True),
        (changed(counters={**REST.counters, "hv2": counters(eth0=(5, 4))}), False),
        # It slept both times, and woke between.
        (changed(handlers={"hv1": [("S", 4), ("S", 8)], "hv2": []}), False),
        (changed(handlers={"hv1": [("S", 4)], "hv2": []}), False),
        (changed(carried=at_hv1(Carried(6, 3, 0, 0))), False),
        (changed(carried=at_hv1(Carried(5, 3, 1, 0))), False),
    ],
)
def test_nothing_has_happened_between_two_looks(later: Look, still: bool) -> None:
    assert later.still(REST) is still
    assert REST.still(later) is still


def test_whose_processor_had_something_to_do_all_the_time() -> None:
    assert changed(idle={"hv1": 3, "hv2": 7}).busy(changed(idle={"hv1": 2, "hv2": 7})) == ["hv2"]
    assert changed(idle={"hv2": 9}).busy(REST) == []
    # A node that counts no such thing says nothing, nor does one that is new.
    assert changed(idle={}).busy(REST) == []
    assert changed(idle={"hv3": 1}).busy(REST) == []


class Answered:
    """A node's answer, as :class:`harness.nodes.channel.Answer` gives it."""

    def __init__(self, value: Any, blob: bytes) -> None:
        self._value, self._blob = value, blob

    def result(self) -> Any:
        return self._value

    def blob(self) -> bytes:
        return self._blob


def test_a_look_is_made_of_the_answers_of_all_nodes() -> None:
    kernel = Answered(
        {"sockets": [], "backlog": 2, "unread": 40, "threads": [["S", 1], ["R", 2]], "idle": 5},
        b"hv1",
    )
    netdev = Answered({"sockets": [[11, 3, 100, 5], [12, 4, 0, None]], "backlog": 0}, b"hv2")
    drops = {"hv1": SocketDrops(), "hv2": SocketDrops()}
    carried = {("hv1", "eth0"): Carried(1, 2, 3, 4)}
    relay: Any = Answered(carried, b"")
    asked: Any = {"hv1": kernel, "hv2": netdev}
    assert take(asked, lambda: relay, drops) == Look(
        waiting=140,
        counters={"hv1": b"hv1", "hv2": b"hv2"},
        handlers={"hv1": [("S", 1), ("R", 2)]},
        carried=carried,
        drops={"hv1": 0, "hv2": 5},
        backlogs={"hv1": 2, "hv2": 0},
        listened={"hv1": set(), "hv2": {3, 4}},
        idle={"hv1": 5},
    )
    # What is dropped counts over all looks; where kernels carry everything nobody is asked for it.
    assert take(asked, lambda: None, drops).carried == {}


def test_what_was_carried_is_asked_for_when_all_nodes_have_answered() -> None:
    """Asked for before, it would be less than what a node has sent by the time it answers."""
    order: list[str] = []

    class Node(Answered):
        def result(self) -> Any:
            order.append("node")
            return super().result()

    def carried() -> None:
        order.append("carried")

    asked: Any = {name: Node({"sockets": [], "backlog": 0}, b"") for name in ("hv1", "hv2")}
    take(asked, carried, {"hv1": SocketDrops(), "hv2": SocketDrops()})
    assert order == ["node", "node", "carried"]
