"""What daemons logged, how long operations took, and how verdicts are composed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from harness.checks import CHECKERS, Verdict, compose, judge
from harness.checks.logs import lines
from harness.traffic import Point
from harness.traffic.history import About, History, Segment, SentFlow
from harness.traffic.operations import Begun, Ended, Event

MS = 1_000_000
NOON = 1_795_262_400_000 * MS
"""2026-11-21T12:00:00Z"""
UPCALL = "ofproto_dpif_upcall(revalidator1)"


def at(ms: int, words: str) -> str:
    return f"2026-11-21T12:00:{ms // 1000:02}.{ms % 1000:03}Z|00042|{words}\n"


def history(
    *log: str, began: int = 1000, ended: int | None = 2000, expected: tuple[str, ...] = ()
) -> History:
    events: list[Event] = [Begun(NOON + began * MS, 1, "restart", "s1")]
    if ended is not None:
        events.append(Ended(NOON + ended * MS, 1))
    return History(
        about=About(
            run=1,
            seed=1,
            target="trixie/namespace/netdev",
            points=(Point("a", "host"),),
            places=(),
            segments=(),
            expected_logs=expected,
        ),
        events=tuple(events),
        logs={"s1": {"ovs-vswitchd": "".join(log), "ovsdb-server": ""}},
    )


@pytest.mark.parametrize(
    ("words", "ms", "expected", "said"),
    [
        ("bridge|INFO|bridge br0: added interface a", 1, (), ""),
        ("bridge|WARN|could not open network device x", 1, (), "bridge|WARN|could not open"),
        ("bridge|ERR|bad", 1500, (), "bridge|ERR|bad"),
        ("util(revalidator7)|EMER|assertion failed", 1, (), "util(revalidator7)|EMER|assertion"),
        ("bridge|WARN|could not open network device x", 1, ("could not open .* x",), ""),
        ("bridge|WARN|could not open network device y", 1, ("device x",), "bridge|WARN|could"),
        ("dpif|WARN|failed to enumerate system datapaths: No such file or directory", 1, (), ""),
        ("dpif(ovs-vswitchd)|WARN|failed to enumerate system datapaths: No such file", 1, (), ""),
        ("timeval|WARN|Unreasonably long 1739ms poll interval (5ms user, 4ms system)", 1, (), ""),
        ("timeval(urcu3)|WARN|faults: 210 minor, 0 major", 1, (), ""),
        ("timeval|WARN|adjusting time by 9 s", 1, (), "timeval|WARN|adjusting"),
        ("ovs_rcu(urcu3)|WARN|blocked 2018 ms waiting for handler1 to quiesce", 1, (), ""),
        ("ovs_rcu|WARN|blocked 128000 ms waiting for main to quiesce", 1, (), "ovs_rcu|WARN"),
        (f"{UPCALL}|WARN|Spent an unreasonably long 2394ms dumping flows", 1, (), ""),
        (f"{UPCALL}|WARN|Spent an unreasonably long 234567ms dumping flows", 1, (), UPCALL),
        ("jsonrpc|WARN|unix#2: receive error: Connection reset by peer", 1, (), ""),
        ("reconnect|WARN|unix#2: connection dropped (Connection reset by peer)", 1, (), ""),
        ("jsonrpc|WARN|unix#2: syntax error: line 1, column 1", 1, (), "jsonrpc|WARN"),
        ("dpif|WARN|failed to enumerate system datapaths: Not permitted", 1, (), "dpif|WARN"),
        ("reconnect|WARN|unix:/var/run/openvswitch/db.sock: connection dropped", 1500, (), ""),
        ("jsonrpc|WARN|unix#4: send error: Broken pipe", 1, (), ""),
        ("reconnect|WARN|unix#4: connection dropped (Broken pipe)", 1, (), ""),
        ("ofproto_dpif_xlate|WARN|dropping VLAN 9 tagged packet received on port a", 1, (), ""),
        ("ofproto_dpif_xlate(handler1)|WARN|dropping packet received on port t", 1, (), ""),
        ("ofproto_dpif_xlate|WARN|over max translation depth", 1, (), "ofproto_dpif_xlate|WARN"),
        ("tunnel|WARN|receive tunnel port not found (tun_id=1)", 1, (), ""),
        ("netdev_linux|WARN|error receiving Ethernet packet on w: Network is down", 1500, (), ""),
        ("dpif_netdev|ERR|error receiving data from w: Network is down", 1500, (), ""),
        ("dpif_netdev|ERR|error receiving data from w: Network is down", 1, (), "dpif_netdev|ERR"),
        ("jsonrpc|WARN|unix:/run/db.sock: send error: Broken pipe", 1000, (), ""),
        ("jsonrpc|WARN|unix:/run/db.sock: send error: Broken pipe", 2000, (), ""),
        ("jsonrpc|WARN|unix:/run/db.sock: send error: Broken pipe", 998, (), "jsonrpc|WARN"),
        ("jsonrpc|WARN|unix:/run/db.sock: send error: Broken pipe", 2001, (), "jsonrpc|WARN"),
    ],
)
def test_complaints(words: str, ms: int, expected: tuple[str, ...], said: str) -> None:
    verdict = CHECKERS["logged"](history(at(ms, words), expected=expected))
    assert verdict.outcome == ("fail" if said else "pass")
    assert len(verdict.findings) == bool(said)
    assert all(f"s1: ovs-vswitchd: {said}" in finding for finding in verdict.findings)


def test_the_same_complaint_is_told_once() -> None:
    verdict = CHECKERS["logged"](history(*[at(ms, "x|ERR|bad") for ms in range(3)]))
    assert verdict.findings == ("s1: ovs-vswitchd: x|ERR|bad (3 times)",)


def test_logs_that_could_not_be_read_are_unknown() -> None:
    known = history()
    dead = msgspec.structs.replace(known.about, unread={"s2": "the node has ended"})
    verdict = CHECKERS["logged"](msgspec.structs.replace(known, about=dead))
    assert verdict.outcome == "unknown"
    assert verdict.findings == ("s2: its logs could not be read: the node has ended",)
    assert CHECKERS["logged"](msgspec.structs.replace(known, logs={})).outcome == "unknown"


def test_lines_of_a_log() -> None:
    text = at(1, "a|INFO|first\nof two lines") + "rubbish\n" + at(2500, "b(x1)|WARN|with | in it")
    assert [tuple(line) for line in lines(text)] == [
        (NOON + 1 * MS, "a", "INFO", "first"),
        (NOON + 2500 * MS, "b(x1)", "WARN", "with | in it"),
    ]


def test_an_operation_is_measured() -> None:
    started = at(1700, "bridge|INFO|ovs-vswitchd (Open vSwitch) 3.5.0")
    earlier = at(200, "bridge|INFO|ovs-vswitchd (Open vSwitch) 3.5.0")
    verdict = CHECKERS["restored"](history(earlier, started))
    assert verdict.outcome == "pass"
    assert verdict.measurements["operations"] == [
        {
            "operation": "restart of s1",
            "outcome": "done",
            "duration_ns": 1000 * MS,
            "started_ns": 700 * MS,
        }
    ]


def test_an_operation_that_has_not_ended_is_unknown() -> None:
    verdict = CHECKERS["restored"](history(ended=None))
    assert verdict.outcome == "unknown"
    assert verdict.findings == ("restart of s1 had not ended when the history was written",)


PASS, FAIL, UNKNOWN = Verdict("pass"), Verdict("fail", ("lost",)), Verdict("unknown", ("drops",))


@pytest.mark.parametrize(
    ("parts", "outcome", "findings"),
    [
        ({}, "unknown", ("nothing was judged",)),
        ({"a": PASS}, "pass", ()),
        ({"a": PASS, "b": UNKNOWN}, "unknown", ("b: drops",)),
        ({"a": UNKNOWN, "b": FAIL, "c": PASS}, "fail", ("b: lost", "a: drops")),
        ({"a": FAIL, "b": FAIL}, "fail", ("a: lost", "b: lost")),
        ({"a": Verdict("fail"), "b": PASS}, "fail", ("a: fail",)),
    ],
)
def test_composing(parts: dict[str, Verdict], outcome: str, findings: tuple[str, ...]) -> None:
    composed = compose(parts)
    assert (composed.outcome, composed.findings) == (outcome, findings)
    assert composed.parts == parts


def _raises(_: History) -> Verdict:
    raise KeyError("br0")


@pytest.mark.parametrize(
    ("others", "outcome"),
    [({}, "unknown"), ({"b": lambda _: PASS}, "unknown"), ({"b": lambda _: FAIL}, "fail")],
)
def test_a_checker_that_raises_is_unknown(
    others: dict[str, Callable[[History], Verdict]], outcome: str
) -> None:
    verdict = judge(history(), {"a": _raises, **others})
    assert verdict.outcome == outcome
    (said,) = verdict.parts["a"].findings
    assert verdict.parts["a"].outcome == "unknown"
    assert "KeyError('br0')" in said
    assert "test_checks_logs.py:" in said
    assert 'raise KeyError("br0")' in said


def test_a_history_that_contradicts_itself_is_unknown() -> None:
    """It can't be matched, so whoever needs that can't judge; the others do."""
    known = history()
    about = msgspec.structs.replace(known.about, segments=(Segment(1, 1, 0),))
    flow = SentFlow(1, "nobody", (), bytes(60), stamped=True, count=1)
    verdict = judge(msgspec.structs.replace(known, about=about, flows=(flow,)))
    assert verdict.outcome == "unknown"
    assert verdict.parts["logged"].outcome == "pass"
    assert "no host is called 'nobody'" in verdict.parts["lost"].findings[0]
