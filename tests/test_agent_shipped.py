"""The agent as it comes over two pipes, to where there is nothing but Python."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harness.agent import carried

HEADER = struct.Struct("!II")


class Shipped:
    """An agent begun with :data:`carried.BOOT`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", carried.BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, blob: bytes = b"", **request: object) -> None:
        head = json.dumps(request).encode()
        self.send(HEADER.pack(len(head) + len(blob), len(head)) + head + blob)

    def answer(self) -> tuple[dict[str, Any], bytes]:
        assert self.process.stdout is not None
        length, split = HEADER.unpack(self.process.stdout.read(HEADER.size))
        body = self.process.stdout.read(length)
        message: dict[str, Any] = json.loads(body[:split])
        return message, body[split:]

    def ended(self) -> tuple[int, str]:
        """Its exit status, and what it printed to its standard error."""
        _out, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def shipped() -> Iterator[Shipped]:
    made = Shipped()
    yield made
    made.close()


def test_it_becomes_the_agent(shipped: Shipped) -> None:
    """The same process: in a container that is the first one."""
    shipped.send(carried.shipped(carried.program()))
    shipped.ask(id=1, op="hello")
    assert shipped.answer()[0]["ok"]["pid"] == shipped.process.pid


def test_more_than_a_pipe_holds_goes_both_ways(shipped: Shipped) -> None:
    much = os.urandom(1 << 22)
    shipped.send(carried.shipped(carried.program()))
    shipped.ask(much, id=1, op="run", argv=["cat"], timeout=30, netns=None)
    message, blob = shipped.answer()
    assert message["ok"]["status"] == 0
    assert blob == much


def test_what_it_starts_does_not_write_into_its_stream(shipped: Shipped) -> None:
    shipped.send(carried.shipped(carried.program()))
    argv = ["sh", "-c", "echo said; setsid sh -c 'echo later' >/proc/self/fd/1"]
    shipped.ask(id=1, op="run", argv=argv, timeout=30, netns=None)
    shipped.ask(id=2, op="hello")
    assert {shipped.answer()[0]["id"] for _ in range(2)} == {1, 2}


def test_it_ends_with_its_stream(shipped: Shipped) -> None:
    shipped.send(carried.shipped(carried.program()))
    shipped.ask(id=1, op="hello")
    shipped.answer()
    assert shipped.ended() == (0, "")


def test_a_stream_that_ends_before_the_agent_has_come(shipped: Shipped) -> None:
    shipped.send(carried.shipped(carried.program())[:1000])
    status, said = shipped.ended()
    assert status == 1
    assert said == "the stream ended before the agent had come\n"


def test_a_python_that_is_too_old() -> None:
    older = "import sys; sys.version_info = (3, 7, 3, 'final', 0)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", older + carried.BOOT],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 1
    assert done.stderr == b"its python3 is 3.7, and the agent needs 3.9 or later\n"
