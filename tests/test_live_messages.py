"""What goes over a control socket, and what is refused."""

from __future__ import annotations

import pytest

from harness.live import messages


@pytest.mark.parametrize(
    "request_",
    [
        messages.Await(),
        messages.Look(),
        messages.Exec("s1", ["printf", "%s", 'a b\n"ü', ""]),
        messages.Shell("h1", "xterm"),
        messages.Probe("h1", "h2"),
        messages.ProbeAll(),
        messages.Capture(["h1", "wire"]),
        messages.ReadState("s1"),
        messages.Down(),
    ],
    ids=lambda request_: type(request_).__name__,
)
def test_requests_come_back_as_they_were(request_: messages.Request) -> None:
    line = messages.line(request_)
    assert line.count(b"\n") == 1
    assert messages.parse_request(line) == request_


@pytest.mark.parametrize(
    "answer",
    [
        messages.done({"a": [1, None]}),
        messages.Failed("why\nnot"),
        messages.Output(2, bytes(range(256))),
        messages.Places([("wire", "s1:eth1"), ("h1", None)]),
        messages.Frames(3, b"\n\0"),
        messages.Missed(7),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_answers_come_back_as_they_were(answer: messages.Answer) -> None:
    line = messages.line(answer)
    assert line.count(b"\n") == 1
    assert messages.parse_answer(line) == answer


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\0\xff\xfe",
        b"GET / HTTP/1.1",
        b"null",
        b"[]",
        b"{}",
        b'{"ask": "nonsense"}',
        b'{"ask": 5}',
        b'{"ask": "exec"}',
        b'{"ask": "exec", "place": "s1", "argv": "ls"}',
        b'{"ask": "exec", "place": "s1", "argv": [1]}',
        b'{"ask": "exec", "place": null, "argv": []}',
        b'{"ask": "look", "more": 1}',
        b'{"ask": "shell", "terminal": "x", "place": "\\udc80"}',
        b'{"ask": "shell", "terminal": "x", "place": "\xff"}',
        b"[" * 100_000,
        b'{"ask":' * 100_000,
    ],
)
def test_what_is_no_request_is_refused_with_words(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"^the request is not understood: "):
        messages.parse_request(line)


def test_text_that_is_none_is_not_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        messages.line(messages.Exec("s1", ["\udc80"]))
