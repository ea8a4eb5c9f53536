"""The clocks of nodes on other machines: what they stamp is told in this machine's time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from harness.nodes import clock
from harness.nodes.remote import RemoteNode

GOOD_FOR = 10.0
"""Seconds after which a clock is asked again: two that are far apart part by some 100 µs in that
time (adjtimex(2), 10 parts in a million)."""


class Clocks:
    """Those of one lab's nodes."""

    def __init__(self, nodes: Mapping[str, RemoteNode]) -> None:
        self._nodes = nodes
        self._ahead: dict[str, int] = {}
        """By how many nanoseconds each clock is ahead of ours."""
        self._asked = float("-inf")

    def read(self) -> bool:
        """Ask those that have not been asked lately: one node of each, so that times of nodes with
        the same clock stay comparable. Return whether any was asked."""
        theirs = {node.clock: node for node in self._nodes.values() if node.clock is not None}
        if not theirs or time.monotonic() - self._asked < GOOD_FOR:
            return False
        self._ahead = {name: clock.ahead(node.channel) for name, node in theirs.items()}
        self._asked = time.monotonic()
        return True

    def ahead(self, switch: str) -> int:
        """By how many nanoseconds the time of a switch's node is ahead of ours."""
        name = self._nodes[switch].clock
        return 0 if name is None else self._ahead.get(name, 0)
