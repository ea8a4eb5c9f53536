"""Which process of this machine is the first one of a node."""

from __future__ import annotations

import os

import pytest

from harness.nodes import processes
from harness.nodes.processes import Process

# This process 100 has spawned the launcher 200, whose first process is 201; nodes are its children.
FOUND = {
    1: Process(0, (1,)),
    100: Process(1, (100,)),
    200: Process(100, (200,)),
    201: Process(200, (201, 1)),
    300: Process(201, (300, 7, 1)),
    301: Process(300, (301, 8, 2)),
    310: Process(201, (310, 9, 1)),
    # A command of the launcher's, and somebody else's node of the same number.
    320: Process(201, (320, 10)),
    401: Process(400, (401, 1)),
    400: Process(100, (400,)),
    410: Process(401, (410, 7, 1)),
}


@pytest.mark.parametrize(
    ("node", "launcher", "pid"),
    [(7, 200, 300), (9, 200, 310), (7, 400, 410), (8, 200, None), (10, 200, None), (9, 400, None)],
)
def test_the_first_process_of_a_node(node: int, launcher: int, pid: int | None) -> None:
    assert processes.first_of(node, launcher, FOUND) == pid


@pytest.mark.parametrize(
    ("text", "process"),
    [
        ("Name:\ta:b\nPid:\t5\nPPid:\t4\nNSpid:\t5\t3\t1\n", Process(4, (5, 3, 1))),
        ("Name:\tx\nPPid:\t4\n", None),
        ("", None),
    ],
)
def test_status(text: str, process: Process | None) -> None:
    assert processes.parse_status(text) == process


def test_this_very_process_is_seen() -> None:
    found = processes.look()[os.getpid()]
    assert found.parent == os.getppid()
    assert found.ids[0] == os.getpid()
