"""(c) Frames a second sent, captured and matched, with tags and time stamps and without loss."""

from __future__ import annotations

import sys

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.processes import boxed, outcome
from harness.lab import DEFAULT_TARGET

FRAMES = 1_000_000
SCAPY_FRAMES = 5_000
ROUNDS = 3
TARGET = 200_000


def measure(say: Say) -> Section:
    """VLAN-tagged frames of 64 bytes over a veth pair, beside scapy on fewer."""
    ours, theirs, arrived = [], [], 0
    for number in range(1, ROUNDS + 1):
        say(f"{FRAMES:,} tagged frames over a veth pair, round {number} of {ROUNDS}")
        argv = [sys.executable, "-m", "benchmarks.programs.rate", DEFAULT_TARGET, str(FRAMES)]
        ours.append(FRAMES / outcome(argv)["matched"])
        say(f"{SCAPY_FRAMES:,} with scapy, round {number} of {ROUNDS}")
        argv = [sys.executable, "-m", "benchmarks.programs.scapy_rate", str(SCAPY_FRAMES)]
        found = outcome(boxed(argv))
        theirs.append(found["arrived"] / found["matched"])
        arrived += found["arrived"]
    mine, scapys = Figure.of(ours, "/s"), Figure.of(theirs, "/s")
    lost = ROUNDS * SCAPY_FRAMES - arrived
    words = (
        f"{mine.median / scapys.median:.0f} times scapy, which lost {lost} of "
        f"{ROUNDS * SCAPY_FRAMES:,} (aim: at least {TARGET:,})"
    )
    what = f"{FRAMES:,} tagged frames sent, captured and matched, none lost"
    return Section("frames a second", "scapy sendp, AsyncSniffer", [Row(what, mine, scapys, words)])
