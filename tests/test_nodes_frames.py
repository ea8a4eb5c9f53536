"""Frames through real interfaces: sent, streamed, captured with tags and times, counted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.nodes.base import NodeError
from harness.nodes.namespace import NamespaceNode
from harness.polling import eventually
from harness.traffic import ring
from harness.traffic.frames import Tag, probe_frame, tags_of
from harness.traffic.identity import Template, read, stamp

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
RING = {"blocks": 16, "block_size": 1 << 14, "retire": 2}


class Heard:
    """The frames of one capture, as they come in."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def __call__(self, block: bytes) -> None:
        self.blocks.append(block)

    @property
    def raw(self) -> list[tuple[ring.RingFrame, bytes]]:
        return [(one, block) for block in self.blocks for one in ring.walk(block)]

    @property
    def frames(self) -> list[bytes]:
        return [ring.restore(block, one) for one, block in self.raw]


class Pair:
    """Two hosts joined by one veth pair: what ``a`` sends, ``b`` hears."""

    def __init__(self, node: NamespaceNode) -> None:
        self.node = node
        node.add_spaces(["a", "b"]).result()
        veth = {"do": "veth", "name": "eth0", "space": "b", "mtu": 9000, "mac": B}
        veth |= {"peer": "eth0", "peer_space": "a", "peer_mac": A}
        fabric_side = [{"do": "set", "name": "eth0", "up": True}]
        node.change_links([veth]).result()
        node.change_links(fabric_side, "b").result()
        self.a, self.b = node.open_ports([("a", "eth0"), ("b", "eth0")]).result()
        self._witnesses = {self.a: self.capture("b", "in")[0], self.b: self.capture("a", "in")[0]}
        """At the other end of each port."""
        self._sent = dict.fromkeys(self._witnesses, 0)

    def capture(self, at: str = "b", direction: str = "both", **other: int) -> tuple[int, Heard]:
        heard = Heard()
        where = [(at, "eth0", direction)]
        opened = self.node.open_captures(where, [heard], **{**RING, **other})
        (number,) = opened.result()
        return number, heard

    def send(self, *frames: bytes, port: int | None = None) -> list[list[Any]]:
        batch = [(port or self.a, [len(frame) for frame in frames])]
        answer: list[list[Any]] = self.node.send_frames(batch, b"".join(frames)).result()
        for (through, _lengths), (sent, _began, _error) in zip(batch, answer, strict=True):
            self._arrived(through, sent)
        return answer

    def _arrived(self, port: int, sent: int) -> None:
        """Wait until the kernel has handed on what was sent, which it does later when it is busy.
        The witness is told last of all captures: it was there first."""
        self._sent[port] += sent
        eventually(
            lambda: self.sync(self._witnesses[port])[0][0],
            lambda counted: counted >= self._sent[port],
            within=60,
            what=f"{sent} frames arrived",
        )

    def sync(self, *captures: int) -> list[list[int]]:
        counts: list[list[int]] = self.node.sync_captures(captures).result()
        return counts


@pytest.fixture
def pair(node: NamespaceNode) -> Pair:
    return Pair(node)


def frame(size: int = 64, *tags: Tag) -> bytes:
    return probe_frame(A, B, size=size, vlan=tags)


@pytest.mark.parametrize("size", [60, 64, 1514, 9014])
def test_a_frame_arrives_as_it_was_sent(pair: Pair, size: int) -> None:
    number, heard = pair.capture()
    before = time.time_ns()
    ((sent, began, error),) = pair.send(frame(size))
    assert (sent, error) == (1, None)
    assert pair.sync(number) == [[1, 0]]
    assert heard.frames == [frame(size)]
    ((shape, _block),) = heard.raw
    assert before <= int(str(began)) <= shape[4] <= time.time_ns()


@pytest.mark.parametrize(
    "tags",
    [
        [Tag.of(0)],
        [Tag.of(1)],
        [Tag.of(4095, pcp=7, dei=1)],
        [Tag.of(5, tpid=0x88A8)],
        [Tag.of(0, tpid=0x88A8, pcp=3)],
        [Tag.of(5, tpid=0x88A8), Tag.of(6)],
        [Tag.of(5), Tag.of(6)],
        [Tag.of(1), Tag.of(2), Tag.of(3)],
    ],
    ids=lambda tags: "+".join(str(tag) for tag in tags),
)
@pytest.mark.parametrize("direction", ["in", "both"])
def test_every_tag_is_put_back(pair: Pair, tags: list[Tag], direction: str) -> None:
    number, heard = pair.capture(direction=direction)
    pair.send(frame(80, *tags))
    pair.sync(number)
    (got,) = heard.frames
    assert got == frame(80, *tags)
    assert list(tags_of(got)) == tags


def test_directions(pair: Pair) -> None:
    captures = [pair.capture("a", way) for way in ("in", "out", "both")]
    pair.send(frame())
    pair.send(frame(70), port=pair.b)
    counts = pair.sync(*(number for number, _heard in captures))
    assert [packets for packets, _drops in counts] == [1, 1, 2]
    lengths = [[len(one) for one in heard.frames] for _number, heard in captures]
    assert lengths == [[70], [64], [64, 70]]


def test_thousands_arrive_in_order_and_none_twice(pair: Pair) -> None:
    number, heard = pair.capture(blocks=256)
    template = Template.make(frame(), 1, 2)
    for first in range(0, 20_000, 4000):
        pair.send(*(stamp(template, seq) for seq in range(first, first + 4000)))
    assert pair.sync(number) == [[20_000, 0]]
    found = [read(one, len(one)) for one in heard.frames]
    assert [one.seq for one in found if one is not None] == list(range(20_000))


def test_what_a_full_ring_loses_is_counted(pair: Pair) -> None:
    """While it sends, the agent does not read: a small ring must overflow."""
    number, heard = pair.capture(blocks=2, block_size=1 << 12)
    pair.send(*[frame(1514)] * 1000)
    ((packets, drops),) = pair.sync(number)
    assert packets == 1000
    assert drops > 900
    assert len(heard.frames) == packets - drops
    # The counters are of all time, and go on.
    pair.send(frame())
    ((packets, after),) = pair.sync(number)
    assert (packets, after) == (1001, drops)


def test_counts_wait_for_what_was_captured(pair: Pair) -> None:
    number, heard = pair.capture(retire=200)
    pair.send(frame())
    began = time.monotonic()
    assert pair.sync(number) == [[1, 0]]
    assert len(heard.frames) == 1
    assert time.monotonic() - began < 30


def test_a_closed_capture_says_nothing_more(pair: Pair) -> None:
    number, heard = pair.capture()
    other, still = pair.capture()
    pair.node.close_captures([number]).result()
    pair.send(frame())
    pair.sync(other)
    assert (heard.frames, still.frames) == ([], [frame()])


def test_100_captures_at_once(pair: Pair) -> None:
    heard = [Heard() for _ in range(100)]
    at = [("b", "eth0", "in")] * 100
    numbers = pair.node.open_captures(at, heard, blocks=2, block_size=1 << 12, retire=5).result()
    assert len(set(numbers)) == 100
    pair.send(frame())
    assert pair.sync(*numbers) == [[1, 0]] * 100
    assert all(one.frames == [frame()] for one in heard)
    pair.node.close_captures(numbers).result()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("b", "eth7", "in"), "eth7: No such device"),
        (("nowhere", "eth0", "in"), "no network namespace 'nowhere'"),
    ],
)
def test_where_nothing_can_be_captured_or_sent(
    pair: Pair, where: tuple[str, str, str], said: str
) -> None:
    with pytest.raises(NodeError, match=f"n1: cannot open captures: .*{said}"):
        pair.node.open_captures([where], [Heard()], **RING).result()
    with pytest.raises(NodeError, match=f"n1: cannot open ports: .*{said}"):
        pair.node.open_ports([where[:2]]).result()
    assert pair.node.run(["true"]).status == 0


def test_where_one_of_many_cannot_be_opened_none_is(pair: Pair) -> None:
    def open_sockets() -> int:
        return len(pair.node.run(["ls", "/proc/1/fd"]).stdout.split())

    before = open_sockets()
    at = [("b", "eth0", "in")] * 3 + [("b", "eth7", "in")]
    with pytest.raises(NodeError, match="eth7"):
        pair.node.open_captures(at, [Heard()] * 4, **RING).result()
    with pytest.raises(NodeError, match="eth7"):
        pair.node.open_ports([("b", "eth0"), ("b", "eth7")]).result()
    assert open_sockets() == before


def test_no_captures_are_opened_and_closed(pair: Pair) -> None:
    assert pair.node.open_captures([], [], **RING).result() == []
    pair.node.close_captures([]).result()


def test_a_capture_that_is_closed_while_it_is_read_to_its_end(pair: Pair) -> None:
    number, _heard = pair.capture(retire=60_000)
    pair.send(frame())
    reading = pair.node.sync_captures([number])
    pair.node.close_captures([number]).result()
    with pytest.raises(NodeError, match="n1: cannot read captures to their end: a capture was end"):
        reading.result()
    assert pair.node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_frame_that_is_refused_is_told_and_the_others_are_sent(pair: Pair) -> None:
    number, heard = pair.capture()
    ((sent, _began, error),) = pair.send(frame(), frame(9100), frame(70))
    assert (sent, error) == (1, "Message too long")
    ((sent, _began, error),) = pair.send(frame(9100))
    assert (sent, error) == (0, "Message too long")
    assert pair.sync(number) == [[1, 0]]
    assert heard.frames == [frame()]


def test_sending_where_the_link_is_down(pair: Pair) -> None:
    pair.node.change_links([{"do": "set", "name": "eth0", "up": False}], "a").result()
    ((sent, _began, error),) = pair.send(frame())
    assert (sent, error) == (0, "Network is down")


# What a veth device drops it refuses (Linux 6.8 and later): here what the other end won't take.
REFUSED = "No buffer space available"


def set_mtu(pair: Pair, mtu: int) -> None:
    pair.node.change_links([{"do": "set", "name": "eth0", "mtu": mtu}], "b").result()


def test_what_a_device_does_not_take_is_sent_as_soon_as_it_does(pair: Pair) -> None:
    number, heard = pair.capture()
    set_mtu(pair, 1500)
    frames = [frame(64), frame(9000), frame(70)]
    batch = [(pair.a, [len(one) for one in frames]), (pair.b, [64])]
    answer = pair.node.send_frames(batch, b"".join([*frames, frame(64)]))
    assert pair.node.run(["echo", "alive"]).stdout == "alive\n"
    assert not answer.done
    set_mtu(pair, 9000)
    assert [(sent, error) for sent, _began, error in answer.result()] == [(3, None), (1, None)]
    pair.sync(number)
    assert sorted(map(len, heard.frames)) == [64, 64, 70, 9000]


def test_what_a_device_never_takes_is_told(pair: Pair) -> None:
    set_mtu(pair, 1500)
    large = Template.make(frame(9000), 7, 1)
    stream = pair.node.start_stream(pair.a, spec(large, rate=100, count=5), large.frame).result()
    batch = [(pair.a, [64, 9000])]
    answer = pair.node.send_frames(batch, frame(64) + frame(9000))
    ((sent, _began, error),) = answer.result()
    assert (sent, error) == (1, REFUSED)
    said, _marks = ended(pair, stream, wait=True)
    assert said == {"sent": 0, "error": f"after 0 frames: {REFUSED}"}


# -- streams


def spec(template: Template, **more: object) -> dict[str, object]:
    return {**template.stream_spec(), **more}


@pytest.fixture
def template() -> Template:
    return Template.make(frame(), 7, 1)


def ended(pair: Pair, stream: int, *, wait: bool) -> tuple[dict[str, object], list[int]]:
    answer = pair.node.stop_stream(stream, wait=wait)
    return answer.result(), list(memoryview(answer.blob()).cast("Q"))


@pytest.mark.parametrize(("rate", "count"), [(500, 100), (20_000, 4000), (None, 5000)])
def test_a_stream_sends_each_frame_once_at_its_rate(
    pair: Pair, template: Template, rate: int | None, count: int
) -> None:
    number, heard = pair.capture(blocks=512)
    began = time.monotonic()
    asked = spec(template, rate=rate, count=count)
    stream = pair.node.start_stream(pair.a, asked, template.frame).result()
    said, marks = ended(pair, stream, wait=True)
    took = time.monotonic() - began
    assert said == {"sent": count, "error": None}
    pair.sync(number)
    # The identities, digests and sums are what the harness itself would have written.
    assert heard.frames == [stamp(template, seq) for seq in range(count)]
    assert marks[0] == 0
    assert marks[::2] == sorted(marks[::2])
    if rate is not None:
        # Never faster than asked for; slower only as a busy machine makes it.
        assert took >= (count - 1) / rate
        times = [shape[4] for shape, _block in heard.raw]
        assert times[-1] - times[0] >= 0.9 * (count - 1) / rate * 1e9


def test_a_stream_goes_on_until_it_is_stopped(pair: Pair, template: Template) -> None:
    number, heard = pair.capture(blocks=256)
    asked = spec(template, rate=2000, count=None)
    stream = pair.node.start_stream(pair.a, asked, template.frame).result()

    def so_far() -> int:
        pair.sync(number)
        return len(heard.frames)

    eventually(so_far, lambda seen: seen > 200, within=60, what="200 frames")
    # Commands are served meanwhile.
    assert pair.node.run(["echo", "x"]).stdout == "x\n"
    said, _marks = ended(pair, stream, wait=False)
    sent = so_far()
    assert said == {"sent": sent, "error": None}
    assert heard.frames == [stamp(template, seq) for seq in range(sent)]
    assert so_far() == sent


def test_a_stream_that_two_wait_for_ends_once(pair: Pair, template: Template) -> None:
    asked = spec(template, rate=100, count=20)
    stream = pair.node.start_stream(pair.a, asked, template.frame).result()
    sent, refused = [], []
    for waiting in [pair.node.stop_stream(stream, wait=True) for _ in range(2)]:
        # Which of them looks first once it has ended is by chance.
        try:
            sent.append(waiting.result()["sent"])
        except NodeError as error:
            refused.append(str(error))
    assert sent == [20]
    assert ["cannot stop a stream: the agent failed" in said for said in refused] == [True]
    assert pair.node.run(["echo", "alive"]).stdout == "alive\n"


def test_many_streams_at_once(pair: Pair) -> None:
    number, heard = pair.capture(blocks=512)
    templates = [Template.make(frame(), 7, flow) for flow in range(20)]
    asked = [(one, spec(one, rate=500, count=50)) for one in templates]
    streams = [pair.node.start_stream(pair.a, how, one.frame).result() for one, how in asked]
    for stream in streams:
        assert ended(pair, stream, wait=True)[0] == {"sent": 50, "error": None}
    pair.sync(number)
    found = [read(one, len(one)) for one in heard.frames]
    by_flow = {flow: [one.seq for one in found if one and one.flow == flow] for flow in range(20)}
    assert by_flow == {flow: list(range(50)) for flow in range(20)}


def test_a_stream_that_cannot_go_on_says_after_how_many(pair: Pair, template: Template) -> None:
    asked = spec(template, rate=1000, count=None)
    stream = pair.node.start_stream(pair.a, asked, template.frame).result()
    pair.node.change_links([{"do": "set", "name": "eth0", "up": False}], "a").result()
    said, _marks = ended(pair, stream, wait=True)
    assert said["error"] == f"after {said['sent']} frames: Network is down"


def test_a_stream_can_start_in_the_middle(pair: Pair, template: Template) -> None:
    number, heard = pair.capture()
    asked = spec(template, rate=None, count=3, first=0xFFFF_FFF0)
    stream = pair.node.start_stream(pair.a, asked, template.frame).result()
    ended(pair, stream, wait=True)
    pair.sync(number)
    assert heard.frames == [stamp(template, 0xFFFF_FFF0 + number) for number in range(3)]


# -- queues of others


def test_the_harness_s_own_sockets_are_not_counted(pair: Pair) -> None:
    pair.node.change_links([{"do": "veth", "name": "x", "peer": "y", "peer_space": "a"}]).result()
    opened = pair.node.open_captures([(None, "x", "both")], [Heard()], **RING)
    opened.result()
    pair.node.open_ports([(None, "x")]).result()
    answer = pair.node.queues()
    assert answer.result()["sockets"] == []
    assert b"x:" in answer.blob()
