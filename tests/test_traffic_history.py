"""A history on disk: it is read back as the same data, or refused with one clear error."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import scapy.layers.l2  # noqa: F401 - teaches the reader Ethernet
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import PcapNgReader

from harness.traffic import Batch, HistoryError, Ledger, Point, Tag, probe_frame, ring, stamp
from harness.traffic.archive import FRAMES, HEADER, load, save
from harness.traffic.history import (
    About,
    History,
    Segment,
    SentFlow,
    Span,
    StatePair,
    frames_out,
    places_of,
    segment_of,
)
from harness.traffic.operations import Begun, Ended, FramesOut, Operation, operations
from harness.traffic.pcapng import Packet, Place

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
POINTS = (Point("a", "host"), Point("b", "host"), Point("wire", "wire"))
NOW = 1_700_000_000_123_456_789


def small() -> tuple[History, Batch]:
    """One flow from a to b over a wire, tagged there, twice at b and once changed."""
    ledger = Ledger(7, POINTS)
    flow = ledger.flow("a", probe_frame(A, B), to=["b"])
    flow.count, flow.times = 3, [(0, NOW), (2, NOW + 5)]
    flow.before = flow.after = frozenset("b")
    frames = [stamp(flow.template, seq) for seq in range(3)]
    changed = frames[2][:20] + b"\x99" + frames[2][21:]
    tag = Tag.of(900, pcp=3)
    ledger.take("wire", ring.pack([ring.Unpacked(f, NOW + 6, tag=tag) for f in frames]), "s1:wire")
    arrived = [*frames[:2], frames[1], changed]
    ledger.take("b", ring.pack([ring.Unpacked(f, NOW + 7) for f in arrived]))
    ledger.take("a", ring.pack([ring.Unpacked(frames[0], NOW, kind=ring.OUTGOING)]))
    batch = Batch(ledger, drained=True)
    places = places_of([ledger], [("a", None), ("b", None)])
    segment, flows, packets = segment_of(batch, {place: n for n, place in enumerate(places)})
    history = History(
        about=About(
            run=7,
            seed=5,
            target="trixie/namespace/netdev",
            points=POINTS,
            places=tuple(places),
            segments=(segment,),
            kernels=(A,),
            measurements={"outage": 1.5},
        ),
        topology="name: one\n",
        events=(Begun(NOW, 1, "restart", "s1", {"n": 1}), *frames_out(flow), Ended(NOW + 9, 1)),
        flows=tuple(flows),
        packets=tuple(packets),
        states=(StatePair("s1", NOW, NOW + 8, {"switch": "s1"}, None, "it died"),),
        logs={"s1": {"ovs-vswitchd": "grüße\r\n", "ovsdb-server": ""}},
    )
    return history, batch


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(small()[0], tmp_path)
    return tmp_path


def test_it_is_read_back(saved: Path) -> None:
    assert load(saved) == small()[0]


def test_its_batches_say_what_the_live_ones_said(saved: Path) -> None:
    _history, live = small()
    (batch,) = load(saved).batches
    (sent,), (was,) = batch.sent, live.sent
    assert sent.sightings == was.sightings
    assert [seen.vlan_ids for seen in sent.all_on("wire")] == [[900]] * 3
    assert [seen.seq for seen in sent.duplicates] == [1]
    assert (sent.duplicates, sent.changed) == (was.duplicates, was.changed)
    assert (sent.missing_at("b"), sent.outage) == (was.missing_at("b"), was.outage)
    assert sent.before == sent.after == frozenset("b")
    assert sent.flooded is None
    assert sent.latencies == was.latencies == [7, 7, 2]


def test_other_programs_read_its_frames(saved: Path) -> None:
    with PcapNgReader(str(saved / FRAMES)) as reader:
        frames = list(reader)
    assert [frame.sniffed_on for frame in frames] == [
        "a",
        *["wire at s1:wire"] * 3,
        *["b"] * 4,
    ]
    assert int(frames[-1].time * 10**9) == NOW + 7
    assert frames[1].vlan == 900


def test_events_are_lines_of_json(saved: Path) -> None:
    events = [json.loads(line) for line in (saved / "history.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events] == [
        "operation begun",
        "frames out",
        "frames out",
        "operation ended",
    ]
    assert (events[0]["subject"], events[0]["arguments"]) == ("s1", {"n": 1})


def test_what_else_a_directory_holds_is_left_alone(saved: Path) -> None:
    (saved / "failure.txt").write_text("why")
    save(small()[0], saved)
    assert load(saved) == small()[0]
    assert (saved / "failure.txt").read_text() == "why"


# -- any history

NAMES = st.sampled_from(["s1", "hv2", "ovs-vswitchd", "x.y"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE = st.integers(0, 2**40)
TIMES = st.integers(0, 2**32 * 10**9 - 1)
HOSTS = st.none() | st.lists(NAMES, max_size=2).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
DATA = st.dictionaries(TEXTS, JSON, max_size=3)
EVENTS = st.one_of(
    st.builds(
        Begun, TIMES, WHOLE, TEXTS, NAMES, st.dictionaries(TEXTS, TEXTS), st.just(("reach",))
    ),
    st.builds(Ended, TIMES, WHOLE, TEXTS),
    st.builds(FramesOut, TIMES, WHOLE, WHOLE, WHOLE),
)
FLOWS = st.builds(
    SentFlow,
    WHOLE,
    NAMES,
    st.lists(NAMES, max_size=2).map(tuple),
    st.binary(max_size=80),
    st.booleans(),
    WHOLE,
    HOSTS,
    HOSTS,
    HOSTS,
)


@st.composite
def packets(draw: st.DrawFn, places: int) -> Packet:
    data = draw(st.binary(max_size=70))
    longer = draw(st.integers(0, 9000))
    return Packet(
        draw(TIMES),
        draw(st.integers(0, places - 1)),
        data,
        len(data) + longer,
        draw(st.sampled_from(["in", "out"])),
        draw(TEXTS),
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    places = (Place("a"), Place("wire", "s1:p1"))
    frames = draw(st.lists(packets(len(places)), max_size=6))
    first = draw(st.integers(0, len(frames)))
    spans = st.none() | st.builds(Span, WHOLE, st.none() | WHOLE, TIMES)
    drops = st.dictionaries(NAMES, WHOLE, max_size=2)
    parts = [
        Segment(draw(WHOLE), draw(WHOLE), count, draw(TEXTS), draw(drops), draw(drops), draw(spans))
        for count in (first, len(frames) - first)
    ]
    return History(
        about=About(
            run=draw(WHOLE),
            seed=draw(WHOLE),
            target=draw(TEXTS),
            points=POINTS,
            places=places,
            segments=tuple(parts),
            expected=tuple(draw(st.lists(TEXTS, max_size=2))),
            unread=draw(st.dictionaries(NAMES, TEXTS, max_size=1)),
            measurements=draw(DATA),
        ),
        topology=draw(TEXTS),
        events=tuple(draw(st.lists(EVENTS, max_size=4))),
        flows=tuple(draw(st.lists(FLOWS, max_size=2))),
        packets=tuple(frames),
        states=tuple(
            draw(st.lists(st.builds(StatePair, NAMES, TIMES, TIMES, DATA, DATA), max_size=2))
        ),
        logs=draw(st.dictionaries(NAMES, st.dictionaries(NAMES, TEXTS, min_size=1, max_size=2))),
    )


@settings(deadline=None)
@given(histories())
def test_any_history_is_read_back(history: History) -> None:
    with tempfile.TemporaryDirectory() as directory:
        save(history, Path(directory))
        assert load(Path(directory)) == history


# -- damage

FILES = [
    HEADER,
    "history.jsonl",
    "flows.jsonl",
    FRAMES,
    "states.jsonl",
    "topology.yaml",
    "s1/ovs-vswitchd.log",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_refused(saved: Path, name: str) -> None:
    path = saved / name
    whole = path.read_bytes()
    for size in {0, 1, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(HistoryError, match=re.escape(str(path))):
            load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(HistoryError, match=rf"^{re.escape(str(saved))}: .*{name}$"):
        load(saved)


@settings(deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_any_byte_that_changed_is_noticed(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = small()[0]
        save(history, Path(directory))
        path = Path(directory) / name
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with pytest.raises(HistoryError, match=re.escape(str(path))):
            load(Path(directory))


def _envelope(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        envelope = json.loads((directory / HEADER).read_text())
        change(envelope)
        (directory / HEADER).write_text(json.dumps(envelope))

    return damage


def _gone(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.rmdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_gone, "there is no history here, or one that was never finished: no history.json"),
        (
            _envelope(lambda one: one.update(version=2)),
            "a history of version 2; only version 1 can be read",
        ),
        (_envelope(lambda one: one.update(format="diary")), "not the beginning of a history but"),
        (_envelope(lambda one: one.pop("body")), "not the beginning of a history: Object missing"),
        (_envelope(lambda one: one["body"].pop("files")), "damaged"),
        (lambda there: (there / HEADER).write_text("[]"), "not the beginning of a history"),
        (lambda there: (there / HEADER).write_bytes(b"\xff"), "not the beginning of a history"),
    ],
)
def test_what_is_no_history_is_refused(
    saved: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(saved)
    with pytest.raises(HistoryError, match=re.escape(said)) as refused:
        load(saved)
    assert str(refused.value).startswith(str(saved))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segments": ()}, "frames.pcapng has 8 frames of 3 places, not 0 of 3"),
        ({"places": (Place("a"), Place("b"))}, "a packet without its interface"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    history, _batch = small()
    about = msgspec.structs.replace(history.about, **change)
    save(msgspec.structs.replace(history, about=about), tmp_path)
    with pytest.raises(HistoryError, match=f"contradicts itself: .*{said}"):
        load(tmp_path)


def test_saving_that_was_interrupted_leaves_no_history(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the one that was there before."""

    def full(path: Path, _content: bytes) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save(small()[0], saved)
    monkeypatch.undo()
    with pytest.raises(HistoryError, match="never finished"):
        load(saved)


# -- operations


def test_operations_are_put_together_from_their_marks() -> None:
    events = (
        Begun(20, 2, "link down", "s2", {"port": "p1"}, ("reach",)),
        Begun(10, 1, "restart", "s1"),
        FramesOut(15, 1, 0, 5),
        Ended(30, 1, "DaemonError: it died"),
        Ended(31, 9),
    )
    first, second = operations(events)
    assert first == Operation("restart", "s1", 10, 30, outcome="DaemonError: it died")
    assert second == Operation("link down", "s2", 20, None, {"port": "p1"}, ("reach",))
    assert (str(first), str(Operation("pause", "", 1))) == ("restart of s1", "pause")


@pytest.mark.parametrize(
    ("began", "ended", "overlaps"),
    [(0, 9, False), (0, 10, True), (15, 16, True), (20, 30, True), (21, 30, False)],
)
def test_operations_overlap_times(began: int, ended: int, overlaps: bool) -> None:
    assert Operation("restart", "s1", 10, 20).overlaps(began, ended) == overlaps
    assert Operation("restart", "s1", 10).overlaps(began, ended) == (ended >= 10)
