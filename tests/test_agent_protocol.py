"""The agent itself, served through a socket pair by a thread or a process of this machine: no
namespace, no privilege."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.agent import carried
from harness.agent.sending import Stream
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import Channel
from harness.nodes.remote import RemoteNode


class Process:
    """An agent as a program of its own, as it is carried into a node."""

    def __init__(self, program: Path) -> None:
        self.stream, theirs = socket.socketpair()
        with theirs:
            # -I: nothing but the standard library is found, and not the harness either.
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(program)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.stream.settimeout(10)

    def send(self, head: bytes, blob: bytes = b"") -> None:
        self.stream.sendall(struct.pack("!II", len(head) + len(blob), len(head)) + head + blob)

    def ask(self, **request: object) -> None:
        self.send(json.dumps(request).encode())

    def answer(self) -> tuple[dict[str, Any], bytes]:
        length, split = struct.unpack("!II", self._exactly(8))
        body = self._exactly(length)
        message: dict[str, Any] = json.loads(body[:split])
        return message, body[split:]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.stream.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def ended(self) -> tuple[int, str]:
        """Its exit status, and what it printed to its standard error."""
        _out, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def close(self) -> None:
        self.stream.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def process(agent_program: Path) -> Iterator[Process]:
    made = Process(agent_program)
    yield made
    made.close()


@pytest.fixture
def node(process: Process) -> Iterator[RemoteNode]:
    """The same, driven as every node is."""
    channel = Channel("here", process.stream.dup())
    made = RemoteNode("here", channel, process.process.pid)
    yield made
    made.close()


@pytest.mark.parametrize("name", carried.modules())
def test_a_module_needs_nothing_but_the_standard_library(name: str) -> None:
    """And its neighbours; and it is written as Python 3.9 reads it."""
    tree = ast.parse(carried.modules()[name], feature_version=(3, 9))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    assert names <= sys.stdlib_module_names


def test_it_greets(process: Process) -> None:
    process.ask(id=1, op="hello")
    message, blob = process.answer()
    assert message["id"] == 1
    assert message["ok"]["pid"] == process.process.pid
    assert tuple(message["ok"]["python"]) == sys.version_info[:3]
    assert blob == b""


def test_it_ends_when_its_stream_ends(process: Process) -> None:
    process.ask(id=1, op="hello")
    process.answer()
    process.stream.close()
    assert process.ended() == (0, "")


def test_it_ends_in_the_middle_of_a_message(process: Process) -> None:
    process.stream.sendall(struct.pack("!II", 1000, 10) + b"{")
    process.stream.close()
    assert process.ended() == (0, "")


def test_it_answers_in_the_order_that_things_are_done(process: Process) -> None:
    slow = {"argv": ["sh", "-c", "sleep 0.2; echo slow"], "timeout": 10, "netns": None}
    process.ask(id=1, op="run", **slow)
    process.ask(id=2, op="hello")
    assert [process.answer()[0]["id"] for _ in range(2)] == [2, 1]


def test_what_it_does_not_know_is_an_error(process: Process) -> None:
    process.ask(id=7, op="fly")
    assert process.answer()[0] == {
        "id": 7,
        "error": "the agent knows no operation 'fly'",
        "errno": 0,
    }


def test_a_defect_of_its_own_is_told_and_it_lives_on(process: Process) -> None:
    process.ask(id=7, op="read")
    message, _blob = process.answer()
    words = r"the agent failed: KeyError: 'paths' \(.*files\.py:\d+ > requests\.py:\d+\)"
    assert re.fullmatch(words, message["error"])
    process.ask(id=8, op="hello")
    assert "ok" in process.answer()[0]


@pytest.mark.parametrize("head", [struct.pack("!II", 1 << 31, 1), struct.pack("!II", 1, 2)])
def test_a_stream_out_of_step_ends_it(process: Process, head: bytes) -> None:
    process.stream.sendall(head + b"{}")
    assert process.ended()[0] == 0


def test_many_messages_in_one_piece_and_one_in_many(process: Process) -> None:
    head = json.dumps({"id": 1, "op": "hello"}).encode()
    message = struct.pack("!II", len(head), len(head)) + head
    process.stream.sendall(message * 3)
    for byte in message:
        process.stream.sendall(bytes([byte]))
    assert ["ok" in process.answer()[0] for _ in range(4)] == [True] * 4


def test_100_megabytes_there_and_back(node: RemoteNode, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 100
    node.write_file(str(tmp_path / "f"), data)
    assert node.read_file(str(tmp_path / "f")) == data


def test_a_harness_that_does_not_listen_does_not_hold_up_the_agent(process: Process) -> None:
    """Answers wait; commands go on being started and ended meanwhile."""
    big = {"argv": ["head", "-c", "4000000", "/dev/zero"], "timeout": 30, "netns": None}
    for number in range(1, 6):
        process.ask(id=number, op="run", **big)
    done = {}
    for _ in range(5):
        message, blob = process.answer()
        done[message["id"]] = (message["ok"]["status"], len(blob))
    assert done == dict.fromkeys(range(1, 6), (0, 4000000))


def test_it_does_not_wait_for_a_pipe(node: RemoteNode, tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    with pytest.raises(NodeError, match=f"cannot read {pipe}: not a regular file"):
        node.read_file(pipe)
    with pytest.raises(NodeError, match=f"cannot write {pipe}: .*No such device or address"):
        node.write_file(pipe, "x")
    assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_both_sides_sending_much_at_once_do_not_lock_up(node: RemoteNode) -> None:
    data = b"x" * (8 << 20)
    waiting = [node.run_soon(["cat"], stdin=data) for _ in range(6)]
    assert all(len(pending.result().stdout) == len(data) for pending in waiting)


def test_commands_under_way_do_not_outlive_a_stream_for_long(process: Process) -> None:
    """In a node the kernel ends them with the agent; here only that the agent does not wait."""
    began = time.monotonic()
    process.ask(id=1, op="run", argv=["sleep", "3"], timeout=60, netns=None)
    process.ask(id=2, op="hello")
    process.answer()
    process.stream.close()
    assert process.ended()[0] == 0
    assert time.monotonic() - began < 30


def test_a_killed_agent_is_a_lost_node(node: RemoteNode, process: Process) -> None:
    ends: list[bool] = []
    node.on_end(lambda: ends.append(True))
    waiting = node.run_soon(["sleep", "2"])
    process.stream.close()
    process.process.send_signal(signal.SIGKILL)
    with pytest.raises(NodeLost, match=r"here: the node has ended, asked to run `sleep 2`"):
        waiting.result()
    assert ends == [True]


def test_it_works_where_it_may_do_nothing(node: RemoteNode) -> None:
    """Without the right to make namespaces or sockets each operation says so."""
    if os.geteuid() == 0:
        pytest.skip("this user may do everything")
    with pytest.raises(NodeError, match="Operation not permitted"):
        node.add_spaces(["a"]).result()
    with pytest.raises(NodeError, match="Operation not permitted"):
        node.open_ports([(None, "lo")]).result()


class TestStreamTiming:
    """How many frames of a stream are due, by the clock that is passed in."""

    @pytest.fixture
    def port(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            yield made

    def stream(self, port: socket.socket, **more: object) -> Stream:
        spec = {"sequence_offset": 16, "digest_seed": 1, "fixed_sum": 2, **more}
        made = Stream(port, bytes(64), spec)
        made.started = 100.0
        return made

    @pytest.mark.parametrize(
        ("rate", "count", "sent", "now", "due"),
        [
            (1000, None, 0, 100.0, 1),
            (1000, None, 1, 100.0, 0),
            (1000, None, 1, 100.001, 1),
            (1000, None, 1, 100.0099, 9),
            (1000, None, 0, 200.0, 256),
            (1000, 5, 3, 200.0, 2),
            (1000, 5, 5, 200.0, 0),
            (None, None, 0, 100.0, 256),
            (None, 10, 4, 100.0, 6),
            (0.5, None, 1, 101.9, 0),
            (0.5, None, 1, 102.1, 1),
        ],
    )
    def test_due(
        self,
        port: socket.socket,
        rate: float | None,
        count: int | None,
        sent: int,
        now: float,
        due: int,
    ) -> None:
        stream = self.stream(port, rate=rate, count=count)
        stream.sent = sent
        assert stream.due(now) == due

    def test_the_next_frame_is_due_when_it_says(self, port: socket.socket) -> None:
        stream = self.stream(port, rate=3)
        for sent in range(1, 100):
            stream.sent = sent
            when = stream.next_time()
            assert stream.due(when - 1e-6) == 0
            assert stream.due(when + 1e-6) == 1
