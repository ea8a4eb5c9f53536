"""``ovs-harness judge``: what it prints, and with which exit status."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.cli import main
from harness.traffic import Batch, Ledger, Point, archive, probe_frame, ring, stamp
from harness.traffic.history import About, History, StatePair, frames_out, places_of, segment_of
from harness.traffic.operations import Begun, Ended

POINTS = (Point("a", "host"), Point("b", "host"), Point("c", "host"))
START = 1_700_000_000_000_000_000
MS = 1_000_000
STATE = {"bridges": {"br0": {"flows": [{"table": 0, "priority": 1, "match": "", "actions": "2"}]}}}


def history(heard: dict[str, range | list[int]], reason: str = "") -> History:
    """Ten frames from a to b, of which each host hears some, while s1 restarts."""
    ledger = Ledger(7, POINTS)
    flow = ledger.flow("a", probe_frame("02:00:00:00:00:01", "02:00:00:00:00:02"), to=["b"])
    flow.count, flow.times = 10, [(seq, START + seq * MS) for seq in range(10)]
    flow.before = flow.after = frozenset("b")
    for host, seqs in heard.items():
        frames = (ring.Unpacked(stamp(flow.template, n), START + n * MS + 5) for n in seqs)
        ledger.take(host, ring.pack(frames))
    places = places_of([ledger], [])
    segment, flows, packets = segment_of(
        Batch(ledger, drained=not reason, reason=reason), {p: n for n, p in enumerate(places)}
    )
    return History(
        about=About(
            run=7,
            seed=324600790,
            target="trixie/namespace/netdev",
            points=POINTS,
            places=tuple(places),
            segments=(segment,),
        ),
        events=(
            Begun(START + 2 * MS, 1, "restart", "s1", {"hard": True}),
            *frames_out(flow),
            Ended(START + 4 * MS, 1),
        ),
        flows=tuple(flows),
        packets=tuple(packets),
        states=(StatePair("s1", START, START + 9 * MS, STATE, STATE),),
        logs={"s1": {"ovs-vswitchd": ""}},
    )


@pytest.mark.parametrize(
    ("heard", "reason", "status", "said"),
    [
        ({"b": range(10)}, "", 0, ["verdict: pass", "pass leaked leaked 0, flooded 0"]),
        (
            {"b": [0, 1, 2, 5, 6, 7, 8, 9]},
            "",
            0,
            ["verdict: pass", "lost 2, longest outage 3.0 ms, outages 1", "during restart of s1"],
        ),
        (
            {"b": range(10), "c": [3, 4]},
            "",
            1,
            ["verdict: fail", "leaked: fail 2 frames of flow 1 from a to b heard at c, which"],
        ),
        ({"b": range(9)}, "", 1, ["verdict: fail", "lost: fail 1 frame of flow 1"]),
        ({"b": range(10)}, "frames still flow", 2, ["verdict: unknown", " frames still flow"]),
    ],
)
def test_the_verdict_is_printed_and_is_the_exit_status(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    heard: dict[str, range | list[int]],
    reason: str,
    status: int,
    said: list[str],
) -> None:
    archive.save(history(heard, reason), tmp_path)
    assert main(["judge", str(tmp_path)]) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    first, second, *_rest, last = printed.out.splitlines()
    assert first.startswith("target trixie/namespace/netdev, seed 324600790: 10 frames sent in 1 ")
    assert second == "  restart of s1 hard=True: 2.0 ms"
    assert last == said[0]
    for words in said[1:]:
        assert words in " ".join(printed.out.split())


def test_a_long_list_is_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = "".join(f"2026-11-21T12:00:00.000Z|1|x|ERR|error {n}\n" for n in range(50))
    one = history({"b": range(10)})
    archive.save(msgspec.structs.replace(one, logs={"s1": {"ovs-vswitchd": log}}), tmp_path)
    assert main(["judge", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "error 19\n  and 30 more\n" in printed
    assert "error 20" not in printed


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_can_not_be_judged_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    if damage == "cut":
        archive.save(history({}), tmp_path)
        path = tmp_path / archive.FRAMES
        path.write_bytes(path.read_bytes()[:-7])
    assert main(["judge", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"ovs-harness: {tmp_path}")
    assert printed.err.count("\n") == 1


def test_the_help_says_what_the_exit_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["judge", "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 pass, 1 fail, 2 unknown" in said
