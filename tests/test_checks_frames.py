"""The checkers of frames, on histories made by hand: what each says, and what it must not say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec
import pytest

from harness.checks import CHECKERS, Verdict
from harness.checks.reordered import overtaken
from harness.traffic import Batch, Ledger, Point, probe_frame, ring, stamp
from harness.traffic.gaps import Gap
from harness.traffic.history import (
    About,
    History,
    StatePair,
    frames_out,
    places_of,
    segment_of,
)
from harness.traffic.operations import Begun, Ended, Event

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
POINTS = [Point("a", "host"), Point("b", "host"), Point("c", "host"), Point("wire", "wire")]
RUN = 77
MS = 1_000_000
START = 1_700_000_000_000 * MS
NORMAL = {"table": 0, "priority": 0, "match": "", "actions": "NORMAL"}


class Story:
    """Ten frames from a to b, one every 10 ms, which b hears by the states before and after; the
    broadcasts of a are heard by b and c. Times are in ms."""

    def __init__(
        self,
        *,
        before: Iterable[str] | None = "b",
        after: Iterable[str] | None = "b",
        count: int = 10,
    ) -> None:
        self.ledger = Ledger(RUN, POINTS)
        self.flow = self.ledger.flow("a", probe_frame(A, B), to=["b"])
        self.flow.count = count
        self.flow.times = [(seq, START + seq * 10 * MS) for seq in range(count)]
        self.flow.before = None if before is None else frozenset(before)
        self.flow.after = None if after is None else frozenset(after)
        self.flow.flooded = frozenset("bc")
        self.events: list[Event] = list(frames_out(self.flow))
        self.reason = ""
        self.drops: dict[str, int] = {}
        self.overflows: dict[str, int] = {}
        self.gap: Ledger | None = None
        self.gap_drops: dict[str, int] = {}
        self.unseen = ""
        self.expected: tuple[str, ...] = ()
        self.flows: list[dict[str, object]] = [{"table": 0, **NORMAL, "match": "in_port=1"}]

    def heard(self, host: str, seqs: Iterable[int], delay: float = 1, skip: int = 0) -> Story:
        """Frames arrive ``delay`` ms after they were sent, with a byte changed at ``skip``."""
        frames = []
        for seq in seqs:
            data = bytearray(stamp(self.flow.template, seq))
            if skip:
                data[skip] ^= 0xFF
            frames.append(ring.Unpacked(bytes(data), START + int((seq * 10 + delay) * MS)))
        self.ledger.take(host, ring.pack(frames))
        return self

    def stray(self, data: bytes = bytes(60), *, between: bool = False) -> Story:
        ledger = self.ledger
        if between:
            ledger = self.gap = Ledger(RUN, POINTS)
        ledger.take("c", ring.pack([ring.Unpacked(data, START)]))
        return self

    def did(
        self, began: int, ended: int | None, changes: Iterable[str] = (), outcome: str = ""
    ) -> Story:
        number = len(self.events)
        self.events.append(Begun(START + began * MS, number, "restart", "s1", {}, tuple(changes)))
        if ended is not None:
            self.events.append(Ended(START + ended * MS, number, outcome))
        return self

    def but(self, **settings: object) -> Story:
        for name, value in settings.items():
            assert hasattr(self, name)
            setattr(self, name, value)
        return self

    def history(self) -> History:
        batch = Batch(
            self.ledger,
            drained=not self.reason,
            reason=self.reason,
            drops=self.drops,
            overflows=self.overflows,
        )
        seen: list[Batch | Gap] = [batch]
        if self.gap is not None or self.gap_drops:
            ledger = self.gap or Ledger(RUN, POINTS)
            inner = Batch(ledger, drained=True, drops=self.gap_drops)
            seen.insert(0, Gap(inner, 0, 1, START))
        places = places_of((one.ledger for one in seen), [])
        parts = [segment_of(one, {place: n for n, place in enumerate(places)}) for one in seen]
        state = {"bridges": {"br0": {"flows": self.flows}}}
        return History(
            about=About(
                run=RUN,
                seed=1,
                target="trixie/namespace/netdev",
                points=tuple(POINTS),
                places=tuple(places),
                segments=tuple(part[0] for part in parts),
                expected=self.expected,
                unseen=self.unseen,
            ),
            events=tuple(sorted(self.events, key=lambda event: event.time_ns)),
            flows=tuple(flow for part in parts for flow in part[1]),
            packets=tuple(packet for part in parts for packet in part[2]),
            states=(StatePair("s1", START, START, state, state),),
        )


def good(**settings: Iterable[str] | None) -> Story:
    return Story(**settings).heard("b", range(10))  # type: ignore[arg-type]


Case = tuple[str, Callable[[], Story], str, str]
"""Checker, story, outcome, and a regular expression for the only finding (empty: none)."""

CASES: dict[str, Case] = {
    # -- delivered
    "delivered": ("delivered", good, "pass", ""),
    "nothing heard at all": (
        "delivered",
        Story,
        "fail",
        "of 10 frames of flow 1 from a to b none was heard at b",
    ),
    "heard no more afterwards": (
        "delivered",
        lambda: good(after=""),
        "fail",
        "flow 1 from a to b is no longer heard at b, where it was heard before",
    ),
    "meant to be heard no more": (
        "delivered",
        lambda: good(after="").did(50, 60, ["reach"]),
        "pass",
        "",
    ),
    "after was not found out": (
        "delivered",
        lambda: good(after=None),
        "unknown",
        "where flow 1 from a to b is heard afterwards was not found out",
    ),
    "a mirror's port that hears nothing any more": (
        "delivered",
        lambda: good(before="bc", after="bc"),
        "fail",
        "of 10 frames of flow 1 from a to b none was heard at c",
    ),
    "nothing says where it belongs": (
        "delivered",
        lambda: good(before=None),
        "unknown",
        "no flow of this history says where it belongs",
    ),
    "not drained, and nothing heard": (
        "delivered",
        lambda: Story().but(reason="frames still flow"),
        "unknown",
        "frames still flow",
    ),
    "not drained, and known to be heard no more": (
        "delivered",
        lambda: good(after="").but(drops={"b": 3}),
        "fail",
        "is no longer heard at b",
    ),
    # -- leaked
    "no leak": ("leaked", good, "pass", ""),
    "both forbid it": (
        "leaked",
        lambda: good().heard("c", [3, 4]),
        "fail",
        r"2 frames of flow 1 from a to b heard at c, which the state before and the state after "
        r"forbid; the first: in c #3",
    ),
    "at the host it is addressed to, which must not hear it": (
        "leaked",
        lambda: good(before="", after=""),
        "fail",
        "10 frames of flow 1 from a to b heard at b, which the state before and",
    ),
    "back at its source": (
        "leaked",
        lambda: good().heard("a", [3]),
        "fail",
        "1 frame of flow 1 from a to b heard at a, which the state before and the state after",
    ),
    "after was not found out, before forbids": (
        "leaked",
        lambda: good(after=None).heard("c", [3]),
        "fail",
        "heard at c, which the state before forbids; the first",
    ),
    "heard elsewhere afterwards": (
        "leaked",
        lambda: good(after="bc").did(20, 30),
        "fail",
        "flow 1 from a to b is heard at c afterwards, which the state before forbids",
    ),
    "the state after allows it, as it was meant to": (
        "leaked",
        lambda: good(after="bc").did(20, 30, ["reach"]).heard("c", range(3, 10)),
        "pass",
        "",
    ),
    "too early": (
        "leaked",
        lambda: good(after="bc").did(50, 60, ["reach"]).heard("c", [1]),
        "fail",
        "heard at c, which the state before forbids; the first: in c #1",
    ),
    "too late": (
        "leaked",
        lambda: good(before="bc").did(20, 30, ["reach"]).heard("c", [1, 2, 9]),
        "fail",
        "1 frame of flow 1 from a to b heard at c, which the state after forbids; the first: "
        "in c #9",
    ),
    "meanwhile, which either forbids": (
        "leaked",
        lambda: good().did(20, 60, ["reach"]).heard("c", [4]),
        "fail",
        "the state before and the state after forbid",
    ),
    "meanwhile, and after was not found out": (
        "leaked",
        lambda: good(after=None).did(20, 60, ["reach"]).heard("c", [4]),
        "unknown",
        "which the state after may forbid: where the flow is heard then was not found out",
    ),
    "a leak is one though the capture dropped frames": (
        "leaked",
        lambda: good().heard("c", [3]).but(drops={"c": 2}),
        "fail",
        "the state before and the state after forbid",
    ),
    "captures that dropped frames": (
        "leaked",
        lambda: good().but(drops={"c": 2}),
        "unknown",
        "the capture at c dropped 2 frames",
    ),
    "a learning switch that has forgotten floods": (
        "leaked",
        lambda: good().did(20, 60).heard("c", [4]).but(flows=[NORMAL]),
        "pass",
        "",
    ),
    "a learning switch to which nothing was done": (
        "leaked",
        lambda: good().heard("c", [4]).but(flows=[NORMAL]),
        "fail",
        "the state before and",
    ),
    "a learning switch that floods before it restarts": (
        "leaked",
        lambda: good().did(60, 70).heard("c", [4]).but(flows=[NORMAL]),
        "fail",
        "the state before and",
    ),
    "flows do not flood": (
        "leaked",
        lambda: good().did(20, 60).heard("c", [4]),
        "fail",
        "the state before and",
    ),
    "flooding is expected": (
        "leaked",
        lambda: good().did(20, 60).heard("c", [4]).but(expected=("flooding",)),
        "pass",
        "",
    ),
    # -- lost
    "nothing lost": ("lost", good, "pass", ""),
    "lost while nothing was done": (
        "lost",
        lambda: Story().heard("b", [0, 1, 2, 6, 7, 8, 9]).did(80, 90),
        "fail",
        "3 frames of flow 1 from a to b lost at b, from #3 on, while nothing was done: heard "
        "nothing for 40.0 ms",
    ),
    "lost while something was done": (
        "lost",
        lambda: Story().heard("b", [0, 1, 2, 6, 7, 8, 9]).did(30, 40),
        "pass",
        "",
    ),
    "lost since something was done that has not ended": (
        "lost",
        lambda: Story().heard("b", [0, 1, 2, 9]).did(30, None),
        "pass",
        "",
    ),
    "lost behind a full queue of a switch that began anew": (
        "lost",
        lambda: Story().heard("b", [0, 1, 2, 6, 7, 8, 9]).did(80, 90).but(overflows={"s1": 7}),
        "unknown",
        "3 frames of flow 1 .* heard nothing for 40.0 ms; 7 frames found no room in the receive "
        "queues of s1, which ended or began anew meanwhile: it may never have seen them",
    ),
    "lost, but who knows": (
        "lost",
        lambda: Story().heard("b", [0]).but(reason="a queue overflowed"),
        "unknown",
        "a queue overflowed",
    ),
    "lost at a host that no longer hears it": (
        "lost",
        lambda: Story(after="").heard("b", [0, 1, 2]).did(30, 31, ["reach"]),
        "pass",
        "",
    ),
    # -- single frames
    "no duplicates": ("duplicated", good, "pass", ""),
    "a duplicate": (
        "duplicated",
        lambda: good().heard("b", [2, 3], delay=2),
        "fail",
        "2 frames of flow 1 from a to b arrived at b that had arrived there before; the first: "
        "in b #2",
    ),
    "expected duplicates": (
        "duplicated",
        lambda: good().heard("b", [2], delay=2).but(expected=("duplicates",)),
        "pass",
        "",
    ),
    "a duplicate in a batch that did not end": (
        "duplicated",
        lambda: good().heard("b", [2], delay=2).but(reason="frames still flow"),
        "fail",
        "1 frame of flow 1",
    ),
    "in order": ("reordered", good, "pass", ""),
    "overtaken": (
        "reordered",
        lambda: Story().heard("b", [0, 1, 4, 5]).heard("b", [2, 3], delay=45),
        "fail",
        "2 frames of flow 1 from a to b arrived at b behind one that was sent later; the first: #2",
    ),
    "expected to overtake": (
        "reordered",
        lambda: Story().heard("b", [1]).heard("b", [0], delay=45).but(expected=("reordered",)),
        "pass",
        "",
    ),
    "in order, but not all was seen": (
        "reordered",
        lambda: good().but(drops={"b": 1}),
        "unknown",
        "the capture at b dropped 1 frames",
    ),
    "as sent": ("changed", good, "pass", ""),
    "a changed frame": (
        "changed",
        lambda: Story().heard("b", [0], skip=20),
        "fail",
        r"1 frame of flow 1 from a to b; the first: changed at b: .*\(bytes 20\)",
    ),
    "expected to change": (
        "changed",
        lambda: Story().heard("b", [0], skip=20).but(expected=("changed",)),
        "pass",
        "",
    ),
    # -- unaccounted
    "all accounted for": ("unaccounted", good, "pass", ""),
    "sent by nobody": (
        "unaccounted",
        lambda: good().stray(),
        "fail",
        "sent by nobody: in c: .*carries no identity",
    ),
    "expected strays": (
        "unaccounted",
        lambda: good().stray().but(expected=("strays",)),
        "pass",
        "",
    ),
    "sent by nobody between batches": (
        "unaccounted",
        lambda: good().stray(between=True),
        "fail",
        "sent by nobody: before the first batch, .* in c",
    ),
    "whose kernel it was is not known": (
        "unaccounted",
        lambda: good().stray(between=True).but(unseen="s1 has ended"),
        "unknown",
        "what arrived beside batches is not known: s1 has ended",
    ),
    "not all seen between batches": (
        "unaccounted",
        lambda: good().but(gap_drops={"c": 5}),
        "unknown",
        "before the first batch: the capture at c dropped 5 frames",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_checker_says(case: str) -> None:
    checker, story, outcome, said = CASES[case]
    history = story().history()
    verdict = CHECKERS[checker](history)
    assert verdict.outcome == outcome, verdict
    if said:
        finding, *rest = verdict.findings
        assert rest == [one.unknown for one in history.batches if outcome == "fail" and one.unknown]
        assert re.match(rf"(.*[ :])?{said}", finding), finding
    else:
        assert verdict.findings == ()


FRAME_CHECKERS = ["leaked", "lost", "delivered", "duplicated", "reordered", "changed"]


@pytest.mark.parametrize("checker", [*FRAME_CHECKERS, "unaccounted"])
@pytest.mark.parametrize("why", [{"reason": "the drain did not end"}, {"drops": {"wire": 1}}])
def test_what_was_not_wholly_seen_never_passes(checker: str, why: dict[str, object]) -> None:
    verdict = CHECKERS[checker](good().but(**why).history())
    assert verdict.outcome == "unknown"


@pytest.mark.parametrize("checker", CASES.values(), ids=lambda case: str(case[0]))
def test_a_checker_is_a_pure_function(checker: Case) -> None:
    history = checker[1]().history()
    before = msgspec.structs.asdict(history)
    first = CHECKERS[checker[0]](history)
    assert CHECKERS[checker[0]](history) == first
    assert CHECKERS[checker[0]](msgspec.structs.replace(history)) == first
    assert msgspec.structs.asdict(history) == before


def measured(checker: str, story: Story) -> dict[str, object]:
    verdict: Verdict = CHECKERS[checker](story.history())
    return verdict.measurements


def test_every_outage_is_measured() -> None:
    story = Story().heard("b", [0, 1, 2, 6, 7, 8]).did(30, 45)
    said = measured("lost", story)
    assert (said["lost"], said["longest_outage_ns"]) == (4, 40 * MS)
    common = {"flow": 1, "source": "a", "host": "b"}
    assert said["outages"] == [
        {
            **common,
            "began_ns": START + 21 * MS,
            "ended_ns": START + 61 * MS,
            "length_ns": 40 * MS,
            "lost": 3,
            "during": ["restart of s1"],
            "last": False,
        },
        {
            **common,
            "began_ns": START + 81 * MS,
            "ended_ns": START + 90 * MS,
            "length_ns": 9 * MS,
            "lost": 1,
            "during": [],
            "last": True,
        },
    ]


def in_log(ms: int) -> str:
    """ovs-vswitchd says that it has started; START is 2023-11-14T22:13:20Z."""
    return f"2023-11-14T22:13:20.{ms:03}Z|00047|bridge|INFO|ovs-vswitchd (Open vSwitch) 3.5.0\n"


@pytest.mark.parametrize(
    ("target", "log", "heard", "said"),
    [
        ("netdev", 40, (0, 1, 2, 6, 7, 8, 9), {"first_upcall_ns": 31, "flow_restore_ns": 21}),
        ("kernel", 40, (0, 1, 2, 6, 7, 8, 9), {"flow_restore_ns": 21}),
        ("netdev", 5, (0, 1, 2, 6, 7, 8, 9), {}),
        ("netdev", 40, (0, 1, 2), None),
        ("netdev", 5, range(10), None),
    ],
)
def test_how_long_until_frames_flowed_again(
    target: str, log: int, heard: Iterable[int], said: dict[str, int] | None
) -> None:
    history = Story().heard("b", heard).did(30, 45).history()
    about = msgspec.structs.replace(history.about, target=f"trixie/namespace/{target}")
    logs = {"s1": {"ovs-vswitchd": in_log(log)}}
    history = msgspec.structs.replace(history, about=about, logs=logs)
    verdict = CHECKERS["restored"](history)
    (times,) = verdict.measurements["operations"]
    wanted = {"operation": "restart of s1", "outcome": "done", "duration_ns": 15 * MS}
    if log == 40:
        wanted["started_ns"] = 10 * MS
    if heard != range(10):
        wanted["interrupted"] = 1
    if said is not None:
        wanted |= {"forwarding_ns": 31 * MS, "restored_ns": 31 * MS}
        wanted |= {name: ms * MS for name, ms in said.items()}
    assert (verdict.outcome, times) == ("pass", wanted)


def test_a_flood_is_counted() -> None:
    story = good().did(20, 60).heard("c", [4, 5]).but(flows=[NORMAL])
    assert measured("leaked", story) == {"leaked": 0, "flooded": 2}


@pytest.mark.parametrize(
    ("arrivals", "behind"),
    [
        ({}, []),
        ({0: 5, 1: 6, 2: 7}, []),
        ({0: 5, 1: 5, 2: 5}, []),
        ({2: 5, 0: 6, 1: 7, 3: 8}, [0, 1]),
        ({1: 5, 0: 6, 3: 7, 2: 8}, [0, 2]),
    ],
)
def test_which_frames_were_overtaken(arrivals: dict[int, int], behind: list[int]) -> None:
    assert overtaken(arrivals) == behind
