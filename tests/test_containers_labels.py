"""Whose containers are, and whether their maker lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.nodes.containers import labels


def test_this_process_lives() -> None:
    assert not labels.has_ended(labels.broker(os.getpid()))


def test_a_process_that_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        label = labels.broker(process.pid)
        assert not labels.has_ended(label)
    assert labels.has_ended(label)


def test_another_process_of_the_same_number() -> None:
    place, _, _ = labels.broker(os.getpid()).rpartition(":")
    assert labels.has_ended(f"{place}:1")


@pytest.mark.parametrize("part", [0, 1], ids=["machine", "PID namespace"])
def test_of_elsewhere_nothing_is_known(part: int) -> None:
    parts = labels.broker(os.getpid()).split(":")
    parts[part] = parts[part][:-1] + ("1" if parts[part][-1] == "0" else "0")
    parts[3] = "1"
    assert not labels.has_ended(":".join(parts))


@pytest.mark.parametrize("label", ["", "nonsense", "a:b:c:d", ":::"])
def test_what_is_no_label(label: str) -> None:
    assert not labels.has_ended(label)


def test_what_is_left_over() -> None:
    mine = labels.of_this_run()
    assert not labels.is_left_over(mine)
    ended = mine | {labels.BROKER: mine[labels.BROKER].rpartition(":")[0] + ":1"}
    assert labels.is_left_over(ended)
    assert not labels.is_left_over(None)
    assert not labels.is_left_over({"com.example": "somebody else's"})
