"""Files of a real node, and the unix sockets in it that speak JSON-RPC."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from harness.lab.environment import Environment
from harness.nodes import namespace
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric, NamespaceNode

PATH = "/tmp/rpc.sock"


# -- files


@pytest.mark.parametrize("data", [b"", b"text\n", b"\0\xff" * 70_000])
def test_what_was_written_is_read(node: NamespaceNode, data: bytes) -> None:
    node.write_file("/tmp/f", data, mode=0o640)
    assert node.read_file("/tmp/f") == data
    assert node.run(["stat", "-c", "%a", "/tmp/f"]).stdout == "640\n"
    node.write_file("/tmp/f", "shorter")
    assert node.read_file("/tmp/f") == b"shorter"


def test_a_name_may_hold_anything(node: NamespaceNode) -> None:
    name = "/tmp/$(id) '\"\n ü"
    node.write_file(name, "x")
    assert node.read_file(name) == b"x"
    assert node.exists(name)


def test_several_files_in_one_message(node: NamespaceNode) -> None:
    node.write_file("/tmp/a", "a")
    node.write_file("/tmp/b", "")
    assert node.read_files(["/tmp/a", "/nowhere", "/tmp", "/tmp/b"]) == [b"a", None, None, b""]


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nowhere", "No such file or directory"), ("/tmp", "Is a directory"), ("/a\0b", "null byte")],
)
def test_a_file_that_cannot_be_read_is_named(node: NamespaceNode, path: str, reason: str) -> None:
    with pytest.raises(NodeError) as info:
        node.read_file(path)
    said = str(info.value)
    assert said.startswith(f"n1: cannot read {path}: ")
    assert reason in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere/f", "No such file"),
        ("/tmp", "Is a directory"),
        ("/a\0b", "null byte"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(
    node: NamespaceNode, path: str, reason: str
) -> None:
    with pytest.raises(NodeError) as info:
        node.write_file(path, "x")
    said = str(info.value)
    assert said.startswith(f"n1: cannot write {path}: ")
    assert reason in said
    assert "Traceback" not in said


def test_a_full_node_says_so_and_lives_on(
    fabric: Fabric, ready: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "LAYER_SIZE", "8m")
    with closing(fabric.start_node("small", ready.image.lower)) as node:
        done = node.run(["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=9"], check=False)
        assert "No space left" in done.stderr
        with pytest.raises(NodeError, match="cannot write /more: No space left on device"):
            node.write_file("/more", b"x" * 100_000)
        node.run(["rm", "/big"])
        node.write_file("/more", "x")


def test_files_of_a_host_are_its_network_stacks(node: NamespaceNode) -> None:
    node.add_spaces(["a"]).result()
    (content,) = node.read_files(["/proc/thread-self/net/dev"], host="a")
    assert content is not None
    assert b"lo:" in content


def test_opening_a_device_is_tried(node: NamespaceNode) -> None:
    assert node.try_open("/dev/null") is None
    assert node.try_open("/dev/nothing") == "No such file or directory"


# -- JSON-RPC


class Daemon:
    """The other end of a socket in the node, played by the test."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.settimeout(5)
        self.peer: socket.socket | None = None

    def accept(self) -> socket.socket:
        if self.peer is not None:
            self.peer.close()
        self.peer, _ = self._listener.accept()
        self.peer.settimeout(5)
        return self.peer

    def heard(self) -> dict[str, Any]:
        """The next request; requests of the tests are short, and come one at a time."""
        assert self.peer is not None
        request: dict[str, Any] = json.loads(self.peer.recv(1 << 16))
        return request

    def say(self, data: bytes) -> None:
        assert self.peer is not None
        self.peer.sendall(data)

    def answer(self, request: dict[str, Any], result: object, error: object = None) -> None:
        message = {"id": request["id"], "result": result, "error": error}
        self.say(json.dumps(message, ensure_ascii=False).encode())

    def close(self) -> None:
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


@pytest.fixture
def inside(node: NamespaceNode, fabric: Fabric, outside_pid: Callable[[Fabric, int], int]) -> str:
    """Where this process finds the node's socket."""
    return f"/proc/{outside_pid(fabric, node.pid)}/root{PATH}"


@pytest.fixture
def daemon(inside: str) -> Iterator[Daemon]:
    with closing(Daemon(inside)) as made:
        yield made


def test_a_question_and_its_answer(node: NamespaceNode, daemon: Daemon) -> None:
    pending = node.json_rpc_soon(PATH, "list", ["a", {"b": 1}])
    daemon.accept()
    request = daemon.heard()
    assert (request["method"], request["params"]) == ("list", ["a", {"b": 1}])
    daemon.answer(request, {"x": [1, None, "ü"]})
    assert pending.result() == {"x": [1, None, "ü"]}


def test_the_connection_is_kept_and_answers_find_their_questions(
    node: NamespaceNode, daemon: Daemon
) -> None:
    first = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    a = daemon.heard()
    second = node.json_rpc_soon(PATH, "b", [])
    b = daemon.heard()
    daemon.answer(b, "for b")
    daemon.answer(a, "for a")
    assert (first.result(), second.result()) == ("for a", "for b")


def test_an_error_is_told_with_node_socket_and_method(node: NamespaceNode, daemon: Daemon) -> None:
    pending = node.json_rpc_soon(PATH, "list", [])
    daemon.accept()
    daemon.answer(daemon.heard(), None, "unknown command")
    with pytest.raises(NodeError, match=rf"^n1: cannot ask {PATH} for list: unknown command$"):
        pending.result()


def test_nobody_listens(node: NamespaceNode, daemon: Daemon) -> None:
    with pytest.raises(NodeError, match="cannot ask /nowhere for x: No such file"):
        node.json_rpc("/nowhere", "x", [])
    daemon.close()
    with pytest.raises(NodeError, match=f"cannot ask {PATH} for x: Connection refused"):
        node.json_rpc(PATH, "x", [])


def test_a_daemon_that_hangs_up_fails_all_that_wait(node: NamespaceNode, daemon: Daemon) -> None:
    pending = [node.json_rpc_soon(PATH, f"m{n}", []) for n in range(3)]
    peer = daemon.accept()
    asked = b""
    while asked.count(b"method") < 3:
        asked += peer.recv(1 << 16)
    peer.close()
    for n, answer in enumerate(pending):
        with pytest.raises(NodeError, match=rf"cannot ask {PATH} for m{n}: .*(closed|reset)"):
            answer.result()


def test_what_a_dead_daemon_was_asked_is_answered_once(node: NamespaceNode, daemon: Daemon) -> None:
    """Neither the end of the connection nor the time that has passed answers a second time."""
    pending = node.json_rpc_soon(PATH, "a", [], timeout=0.2)
    daemon.accept().recv(1)
    daemon.close()
    with pytest.raises(NodeError, match="closed|reset"):
        pending.result()
    assert node.run(["sleep", "0.3"]).status == 0
    assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_daemon_that_was_restarted_is_reached_again(node: NamespaceNode, inside: str) -> None:
    for turn in range(5):
        with closing(Daemon(inside)) as daemon:
            pending = node.json_rpc_soon(PATH, "turn", [turn])
            daemon.accept()
            daemon.answer(daemon.heard(), turn)
            assert pending.result() == turn
        # Gone, its socket left behind, as after a kill.
        with pytest.raises(NodeError, match="refused|closed|reset"):
            node.json_rpc(PATH, "gone", [])
        node.run(["rm", PATH])


def test_a_daemon_that_dies_while_it_is_asked_ends_nothing_else(
    node: NamespaceNode, inside: str
) -> None:
    """The end of the old connection and the next question reach the agent in one turn."""
    for _ in range(20):
        with closing(Daemon(inside)) as daemon:
            first = node.json_rpc_soon(PATH, "first", [])
            daemon.accept()
            daemon.answer(daemon.heard(), 1)
            first.result()
        answers = [node.json_rpc_soon(PATH, "next", []) for _ in range(5)]
        for answer in answers:
            with pytest.raises(NodeError, match="refused|closed|reset|Broken pipe"):
                answer.result()
        node.run(["rm", PATH])
    assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_daemon_that_does_not_answer_is_told_within_the_bound(
    node: NamespaceNode, daemon: Daemon
) -> None:
    began = time.monotonic()
    pending = node.json_rpc_soon(PATH, "slow", [], timeout=0.3)
    daemon.accept()
    late = daemon.heard()
    with pytest.raises(NodeError, match=f"cannot ask {PATH} for slow: no answer in time$"):
        pending.result()
    assert 0.3 <= time.monotonic() - began < 30
    # The answer that comes after all is nobody's.
    daemon.answer(late, "late")
    pending = node.json_rpc_soon(PATH, "next", [])
    daemon.answer(daemon.heard(), "next")
    assert pending.result() == "next"


def test_an_answer_in_many_pieces_and_two_in_one(node: NamespaceNode, daemon: Daemon) -> None:
    pending = [node.json_rpc_soon(PATH, "a", [])]
    daemon.accept()
    first = daemon.heard()
    pending.append(node.json_rpc_soon(PATH, "b", []))
    second = daemon.heard()
    said = "".join(
        json.dumps({"id": request["id"], "result": "grüße €", "error": None}, ensure_ascii=False)
        for request in (first, second)
    )
    for byte in said.encode():
        daemon.say(bytes([byte]))
        # The agent takes a turn, so that no two pieces come together.
        node.exists("/")
    assert [answer.result() for answer in pending] == ["grüße €", "grüße €"]


def test_bytes_that_are_no_text_do_not_end_the_connection(
    node: NamespaceNode, daemon: Daemon
) -> None:
    pending = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    request = daemon.heard()
    daemon.say(b'{"id": %d, "result": "\xff", "error": null}' % request["id"])
    assert pending.result() == "\udcff"


def test_ten_megabytes_in_an_answer(node: NamespaceNode, daemon: Daemon) -> None:
    began = time.monotonic()
    pending = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    request = daemon.heard()
    daemon.answer(request, ["x" * 99] * 100_000)
    assert len(pending.result()) == 100_000
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("said", [b"[1]", b"7", b'"x"', b"[" * 200_000])
def test_a_daemon_that_speaks_something_else_is_hung_up_on(
    node: NamespaceNode, daemon: Daemon, said: bytes
) -> None:
    pending = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    daemon.heard()
    daemon.say(said)
    with pytest.raises(NodeError, match="does not speak JSON-RPC|nested too deeply"):
        pending.result()
    assert node.run(["echo", "alive"]).stdout == "alive\n"


@pytest.mark.parametrize("said", [b"{}", b'{"id": [1]}', b'{"id": 77, "result": 1}', b"\n \n"])
def test_what_answers_no_question_is_passed_over(
    node: NamespaceNode, daemon: Daemon, said: bytes
) -> None:
    pending = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    request = daemon.heard()
    daemon.say(said)
    daemon.answer(request, "here")
    assert pending.result() == "here"


def test_an_echo_request_is_answered(node: NamespaceNode, daemon: Daemon) -> None:
    pending = node.json_rpc_soon(PATH, "a", [])
    daemon.accept()
    request = daemon.heard()
    daemon.say(b'{"id": "echo", "method": "echo", "params": ["x"]}')
    assert daemon.heard() == {"id": "echo", "result": ["x"], "error": None}
    daemon.answer(request, 1)
    assert pending.result() == 1
