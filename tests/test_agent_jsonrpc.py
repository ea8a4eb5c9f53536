"""The agent as a client of JSON-RPC servers that behave badly: no namespace, no privilege."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from harness.agent import json_objects, jsonrpc
from harness.agent.json_objects import JsonObjects
from harness.agent.jsonrpc import JsonRpc
from harness.nodes.base import NodeError, Pending, Question
from harness.nodes.channel import Channel
from harness.nodes.remote import RemoteNode

BIG = ["x" * (8 << 20)]
"""More than a socket takes while nobody reads."""


# -- where an object ends


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "objects",
    [
        [{}],
        [{}, {}, {"a": {}}],
        [{"a": [1, [], {"b": [{}]}], "c": None}],
        [{"a": "}"}, {"{": "]["}],
        [{"a": '"'}, {"b": '\\"{'}, {"c": "\\"}, {"d": "\\\\\\"}],
        [{"a": "grüße €\n😀"}],
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("between", ["", " ", "\n\t \r\n"])
def test_objects_are_cut_where_they_end(
    objects: list[dict[str, Any]], between: str, size: int
) -> None:
    texts = [json.dumps(item, ensure_ascii=False) for item in objects]
    stream = JsonObjects()
    said = (between + between.join(texts) + between).encode()
    assert [found for piece in pieces(said, size) for found in stream.feed(piece)] == objects
    assert stream.pieces == []


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "said", ["7", "hello", '"x"', "[1]", "}", "{}x", "{} [", "{hello}", "{]", '{"a" 1}', '{"a":]}']
)
def test_what_is_no_object_is_refused_at_once(said: str, size: int) -> None:
    stream = JsonObjects()
    with pytest.raises(ConnectionError, match="does not speak JSON-RPC"):
        list(chain.from_iterable(map(stream.feed, pieces(said.encode(), size))))


def test_objects_before_the_rubbish_are_handed_over() -> None:
    found = JsonObjects().feed(b'{"a": 1}{"b": 2} rubbish')
    assert next(found) == {"a": 1}
    with pytest.raises(ConnectionError):
        list(found)


def test_deep_nesting_is_refused_before_it_is_complete() -> None:
    deep = b'{"a": ' + b"[" * (json_objects.DEPTH_LIMIT - 1)
    assert list(JsonObjects().feed(deep)) == []
    with pytest.raises(ConnectionError, match="nested too deeply"):
        list(JsonObjects().feed(deep + b"["))


def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_objects, "ANSWER_LIMIT", 10_000)
    stream = JsonObjects()
    assert list(stream.feed(b'{"a": "' + b"x" * 9000)) == []
    with pytest.raises(ConnectionError, match="too long"):
        list(stream.feed(b"x" * 1000))


class Counting:
    """A pattern that counts the characters it looks at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self.looked_at = 0

    def sub(self, by: str, text: str) -> str:
        self.looked_at += len(text)
        return self._pattern.sub(by, text)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param('flow \\ "x"\n' * 300_000, id="one text"),
        pytest.param([["uuid", "0-0-0"], {"set": []}] * 130_000, id="many values"),
    ],
)
def test_the_work_does_not_depend_on_the_number_of_pieces(
    result: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.dumps({"id": 1, "result": result}).encode()
    assert len(data) > 4_000_000
    scanned = Counting(json_objects.ESCAPED)
    monkeypatch.setattr(json_objects, "ESCAPED", scanned)
    stream = JsonObjects()
    parsed: list[int] = []
    decoder = stream.decoder

    class Decoder:
        def raw_decode(self, text: str, position: int) -> tuple[Any, int]:
            parsed.append(len(text) - position)
            return decoder.raw_decode(text, position)

    monkeypatch.setattr(stream, "decoder", Decoder())
    count = 0
    found = []
    for piece in pieces(data, 1000):
        count += 1
        found += list(stream.feed(piece))
    assert found == [{"id": 1, "result": result}]
    assert parsed == [len(data)]
    # A piece is looked at with what is carried over from the one before: two characters at most.
    assert len(data) <= scanned.looked_at <= len(data) + 2 * count


# -- servers that behave badly


class Server:
    """A listening socket, played by the test."""

    def __init__(self, path: Path, backlog: int = 5) -> None:
        self.path = str(path)
        self._all = ExitStack()
        self._listener = self._all.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(self.path)
        self._listener.listen(backlog)
        self._listener.settimeout(10)

    def accept(self) -> socket.socket:
        peer = self._all.enter_context(self._listener.accept()[0])
        peer.settimeout(10)
        return peer

    def fill(self) -> int:
        """Connect until nobody else can; return how often."""
        for count in range(100):
            other = self._all.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)
            try:
                other.connect(self.path)
            except BlockingIOError:
                return count
        raise AssertionError("the queue of connections is never full")

    def close(self) -> None:
        self._all.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with closing(Server(tmp_path / "sock")) as made:
        yield made


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Server]:
    """A server that takes no more connections."""
    with closing(Server(tmp_path / "busy", backlog=0)) as made:
        yield made


@pytest.fixture
def node(agent_program: Path) -> Iterator[RemoteNode]:
    """An agent of this machine, driven as every node is."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", str(agent_program)], stdin=theirs.fileno()
        )
    with closing(RemoteNode("here", Channel("here", ours), process.pid)) as made:
        yield made
    assert process.wait(timeout=60) == 0


def heard(peer: socket.socket, count: int = 1) -> list[dict[str, Any]]:
    """The next questions, which may be long. They end with a list, and hold no ``]}`` elsewhere."""
    text = b""
    while text.count(b"]}") < count:
        more = peer.recv(1 << 24)
        assert more, "the agent hung up"
        text += more
    return [json.loads(part + b"]}") for part in text.split(b"]}")[:-1]]


def answer(peer: socket.socket, question: dict[str, Any], result: object) -> None:
    message = {"id": question["id"], "result": result, "error": None}
    peer.sendall(json.dumps(message).encode())


def assert_others_are_served(node: RemoteNode) -> None:
    """Another command is answered while a question, asked before it, still waits."""
    assert node.run(["echo", "served"]).stdout == "served\n"
    assert node.channel.oldest_wait() > 0, "the question was answered first"


def fails(pending: Pending, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        pending.result()


def test_a_server_that_does_not_read_holds_nobody_up(node: RemoteNode, server: Server) -> None:
    pending = node.json_rpc_soon(server.path, "big", BIG)
    peer = server.accept()
    assert_others_are_served(node)
    (question,) = heard(peer)
    assert question["params"] == BIG
    answer(peer, question, "read after all")
    assert pending.result() == "read after all"


def test_a_server_that_never_reads_is_told_from_a_slow_one(
    node: RemoteNode, server: Server
) -> None:
    unread = node.json_rpc_soon(server.path, "big", BIG, timeout=0.2)
    fails(unread, f"cannot ask {server.path} for big: no answer in time: it does not read")
    peer = server.accept()
    heard(peer)
    slow = node.json_rpc_soon(server.path, "slow", [], timeout=0.2)
    fails(slow, "for slow: no answer in time$")


def test_a_question_given_up_before_it_went_out_is_never_asked(
    node: RemoteNode, server: Server
) -> None:
    """Or a change that was reported as failed would be made when the server wakes up."""
    first = node.json_rpc_soon(server.path, "first", BIG)
    peer = server.accept()
    second = node.json_rpc_soon(server.path, "second", [], timeout=0.1)
    fails(second, "it does not read")
    third = node.json_rpc_soon(server.path, "third", [])
    questions = heard(peer, 2)
    assert [question["method"] for question in questions] == ["first", "third"]
    for question in questions:
        answer(peer, question, question["method"])
    assert (first.result(), third.result()) == ("first", "third")


def test_a_server_that_accepts_nobody_holds_nobody_up(node: RemoteNode, busy: Server) -> None:
    others = busy.fill()
    pending = [node.json_rpc_soon(busy.path, f"m{n}", []) for n in range(2)]
    assert_others_are_served(node)
    for _ in range(others):
        busy.accept()
    peer = busy.accept()
    for n, question in enumerate(heard(peer, 2)):
        assert question["method"] == f"m{n}"
        answer(peer, question, n)
    assert [each.result() for each in pending] == [0, 1]


def test_a_server_that_never_accepts_is_given_up_and_tried_anew(
    node: RemoteNode, busy: Server
) -> None:
    others = busy.fill()
    unheard = node.json_rpc_soon(busy.path, "x", [], timeout=0.1)
    fails(unheard, f"cannot ask {busy.path} for x: no answer in time: it accepts no connection")
    later = node.json_rpc_soon(busy.path, "later", [])
    for _ in range(others):
        busy.accept()
    peer = busy.accept()
    (question,) = heard(peer)
    assert question["method"] == "later"
    answer(peer, question, "here")
    assert later.result() == "here"


def test_a_server_that_ends_before_it_accepts(node: RemoteNode, busy: Server) -> None:
    busy.fill()
    pending = node.json_rpc_soon(busy.path, "x", [])
    assert_others_are_served(node)
    busy.close()
    fails(pending, f"^here: cannot ask {busy.path} for x: Connection refused$")


def test_an_answer_that_trickles(node: RemoteNode, server: Server) -> None:
    pending = node.json_rpc_soon(server.path, "dump", [])
    peer = server.accept()
    (question,) = heard(peer)
    result = 'flow "x"\n' * 450_000
    said = json.dumps({"id": question["id"], "result": result, "error": None}).encode()
    assert len(said) > 4_000_000
    for number, piece in enumerate(pieces(said, 4000)):
        peer.sendall(piece)
        if number % 250 == 0:
            assert_others_are_served(node)
    assert pending.result() == result


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request", b'{"id" 1}', b"\0\0\0\1", b"[]"])
def test_rubbish_is_told_at_once(node: RemoteNode, server: Server, said: bytes) -> None:
    pending = node.json_rpc_soon(server.path, "x", [], timeout=60)
    peer = server.accept()
    heard(peer)
    peer.sendall(said)
    fails(pending, f"^here: cannot ask {server.path} for x: .*does not speak JSON-RPC$")
    assert node.run(["echo", "alive"]).stdout == "alive\n"
    again = node.json_rpc_soon(server.path, "again", [])
    peer = server.accept()
    (question,) = heard(peer)
    answer(peer, question, "better")
    assert again.result() == "better"


@pytest.mark.parametrize("read", [False, True])
def test_a_server_that_ends_in_the_middle(node: RemoteNode, server: Server, read: bool) -> None:
    pending = node.json_rpc_soon(server.path, "x", BIG, timeout=60)
    peer = server.accept()
    if read:
        (question,) = heard(peer)
        peer.sendall(b'{"id": %d, "result": [1, 2' % question["id"])
    peer.close()
    fails(pending, "closed by the other side|reset|Broken pipe")
    assert node.run(["echo", "alive"]).stdout == "alive\n"


# -- several questions in one message


def test_a_question_waits_for_those_that_it_comes_after(node: RemoteNode, server: Server) -> None:
    slow, first, second = Question("slow", line=1), Question("first"), Question("second", (1,))
    pending = node.json_rpc_all_soon(server.path, [slow, first, second, Question("last", (0, 2))])
    beside, peer = server.accept(), server.accept()
    (waits,) = heard(beside)
    for method in ("first", "second"):
        (question,) = heard(peer)
        assert question["method"] == method
        answer(peer, question, method)
    assert_others_are_served(node)
    answer(beside, waits, "slow")
    (question,) = heard(peer)
    assert question["method"] == "last"
    answer(peer, question, "last")
    assert pending.result() == ["slow", "first", "second", "last"]


def test_a_question_that_is_asked_several_times(node: RemoteNode, server: Server) -> None:
    questions = [Question("often", times=3), Question("next", (0,))]
    pending = node.json_rpc_all_soon(server.path, questions)
    peer = server.accept()
    asked = heard(peer, 3)
    assert [one["method"] for one in asked] == ["often"] * 3
    for number, question in enumerate(asked):
        answer(peer, question, number)
    (question,) = heard(peer)
    answer(peer, question, "next")
    assert pending.result() == [2, "next"]


def test_the_next_question_is_asked_in_the_middle_of_an_answer(
    node: RemoteNode, server: Server
) -> None:
    """That to the first one comes together with half of a long one."""
    long = "x" * (8 << 20)
    questions = [Question("short"), Question("long"), Question("next", (0,))]
    pending = node.json_rpc_all_soon(server.path, questions)
    peer = server.accept()
    asked = heard(peer, 2)
    said = [
        json.dumps({"id": one["id"], "result": result, "error": None})
        for one, result in zip(asked, ("short", long), strict=True)
    ]
    peer.sendall("".join(said).encode())
    (question,) = heard(peer)
    answer(peer, question, "next")
    assert pending.result() == ["short", long, "next"]


@pytest.mark.parametrize("may_fail", [False, True])
def test_an_error_among_answers(node: RemoteNode, server: Server, may_fail: bool) -> None:
    questions = [Question("bad", may_fail=may_fail), Question("good", (0,))]
    pending = node.json_rpc_all_soon(server.path, questions)
    peer = server.accept()
    (bad,) = heard(peer)
    peer.sendall(json.dumps({"id": bad["id"], "result": None, "error": "no such"}).encode())
    (good,) = heard(peer)
    answer(peer, good, "fine")
    if may_fail:
        assert pending.result() == [None, "fine"]
    else:
        fails(pending, f"here: cannot ask {server.path} for bad: no such$")


def test_a_server_that_ends_before_it_has_answered_all(node: RemoteNode, server: Server) -> None:
    questions = [Question("one"), Question("beside", line=1), Question("two", (0,))]
    pending = node.json_rpc_all_soon(server.path, questions)
    peers = [server.accept(), server.accept()]
    for peer in peers:
        heard(peer)
        peer.close()
    fails(pending, "cannot ask .* for one, beside, two: the socket was closed by the other side")
    assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_server_that_asks_but_does_not_read_is_hung_up_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonrpc, "UNSENT_LIMIT", 100_000)
    rpc = JsonRpc(server.path, 0)
    with rpc.socket:
        assert rpc.connect()
        peer = server.accept()
        echo = json.dumps({"id": "echo", "method": "echo", "params": ["x" * 50_000]}).encode()

        def until_refused() -> None:
            for _ in range(100):
                peer.sendall(echo)
                assert list(rpc.receive()) == []
                rpc.push()

        with pytest.raises(OSError, match="does not read what it is asked"):
            until_refused()
        assert rpc.unsent == sum(len(data) for _asked, data in rpc.outbox) < 200_000
