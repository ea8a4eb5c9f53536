"""What a command and a keeper say to each other: one JSON object a line, bytes in base64.

A connection carries one request, and then lines of answer up to :class:`Done` or :class:`Failed`.
A client that hangs up before that ends what it asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST_REQUEST = 1 << 20
"""Bytes of a request's line."""


class _Request(msgspec.Struct, frozen=True, tag_field="ask", forbid_unknown_fields=True):
    pass


class Await(_Request, frozen=True, tag="await"):
    """Answer with :class:`Info` once the lab is up. Hung up before that, the lab is given up."""


class Look(_Request, frozen=True, tag="look"):
    """Answer with :class:`Info` now."""


class Exec(_Request, frozen=True, tag="exec"):
    """Run a command in a switch's node, or in a host. Answers: :class:`Output`, then the exit
    status (negative: the signal that ended it)."""

    place: str
    argv: list[str]


class Shell(_Request, frozen=True, tag="shell"):
    """Answer with the command that opens a shell there, on a ``terminal`` of that kind."""

    place: str
    terminal: str


class Probe(_Request, frozen=True, tag="probe"):
    """Answer with :class:`Probed`."""

    source: str
    to: str


class ProbeAll(_Request, frozen=True, tag="probe-all"):
    """Answer with :class:`Matrix`."""


class Capture(_Request, frozen=True, tag="capture"):
    """Answer with :class:`Places`, then :class:`Frames` until the client hangs up. Without points,
    at all of them."""

    points: list[str]


class ReadState(_Request, frozen=True, tag="state"):
    """Answer with the switch's :class:`~harness.ovs.state.State`."""

    switch: str


class Down(_Request, frozen=True, tag="down"):
    """End the lab and its keeper; answer when nothing of it is left."""


Request = Await | Look | Exec | Shell | Probe | ProbeAll | Capture | ReadState | Down


class _Answer(msgspec.Struct, frozen=True, tag_field="is"):
    pass


class Done(_Answer, frozen=True, tag="done"):
    """The end, and what was asked for."""

    value: msgspec.Raw = msgspec.Raw(b"null")


class Failed(_Answer, frozen=True, tag="failed"):
    """The end, and why it was not done."""

    reason: str


class Output(_Answer, frozen=True, tag="output"):
    """What a command wrote on descriptor 1 or 2."""

    descriptor: int
    data: bytes


class Places(_Answer, frozen=True, tag="places"):
    """Where is captured: attachment point, and on a wire the port (``switch:interface``)."""

    places: list[tuple[str, str | None]]


class Frames(_Answer, frozen=True, tag="frames"):
    """A block of a capture ring (:mod:`harness.traffic.ring`), from the place of that index."""

    place: int
    block: bytes


class Missed(_Answer, frozen=True, tag="missed"):
    """So many frames were left out, for the client did not read fast enough."""

    frames: int


Answer = Done | Failed | Output | Places | Frames | Missed


class SwitchInfo(msgspec.Struct, frozen=True):
    """A switch with its bridges; ``lost`` when its node has ended."""

    name: str
    bridges: list[str]
    lost: bool = False


class HostInfo(msgspec.Struct, frozen=True):
    """A host, and where it is attached."""

    name: str
    switch: str
    bridge: str
    mac: str
    addresses: list[str]


class Info(msgspec.Struct, frozen=True):
    """A lab. ``since`` is in seconds since 1970; ``up`` is False while it is being built."""

    name: str
    target: str
    pid: int
    since: float
    up: bool
    version: str
    """Open vSwitch's; empty while it is not known."""
    switches: list[SwitchInfo]
    hosts: list[HostInfo]
    underlays: list[str]


class Crossing(msgspec.Struct, frozen=True):
    """A probe as it crossed a wire. Tags are in words, outermost first; ``outer`` are the headers
    that a tunnel put before it, and ``inner_tags`` those of the probe behind them."""

    wire: str
    port: str
    tags: list[str]
    outer: bytes = b""
    inner_tags: list[str] = []


class Probed(msgspec.Struct, frozen=True):
    """What became of one probe. ``latency`` is in ns, to the first arrival anywhere."""

    source: str
    to: str
    heard: list[str]
    latency: int | None
    crossings: list[Crossing]
    surprises: list[str]
    """Frames that were changed or doubled, or that nobody sent, one line each."""


class Row(msgspec.Struct, frozen=True):
    """Who heard one host. ``overheard``: (for whom it was, who heard it) of unicast frames."""

    source: str
    unicast: list[str]
    broadcast: list[str]
    overheard: list[tuple[str, str]]


class Matrix(msgspec.Struct, frozen=True):
    """What became of a unicast for every ordered pair of hosts, and of each one's broadcast."""

    rows: list[Row]
    surprises: list[str]


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def line(message: Request | Answer) -> bytes:
    """A message as it goes over the socket. Raise ``UnicodeEncodeError`` for a text that is none
    (bytes of a command line that are not UTF-8)."""
    return msgspec.json.encode(message) + b"\n"


def done(value: Any = None) -> Done:
    """The end, with anything that can be written as JSON."""
    return Done(msgspec.Raw(msgspec.json.encode(value)))


def parse_request(data: bytes) -> Request:
    """A line from a client. Raise ``ValueError`` saying what is wrong with it."""
    try:
        return _requests.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the request is not understood: {error}") from None


def parse_answer(data: bytes) -> Answer:
    """A line from a keeper."""
    return _answers.decode(data)
