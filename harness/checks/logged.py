"""Logged: what the daemons complained about."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from harness.checks.logs import Line, lines
from harness.checks.verdict import Verdict, verdict
from harness.traffic.history import History

COMPLAINTS = ("EMER", "ERR", "WARN")


class Expected(NamedTuple):
    """What daemons log without anything being wrong: a regular expression for module, level and
    text, joined by ``|``; whether only while something is done to the switch."""

    pattern: re.Pattern[str]
    during_operations: bool = False


EXPECTED = (
    # There is no kernel module, and whoever asks for all datapaths asks for those of the kernel.
    Expected(
        re.compile(r"^dpif(\(\S+\))?\|WARN\|failed to enumerate system datapaths: No such file")
    ),
    # Why a frame was not forwarded. Whether it should have been is judged from the frames.
    Expected(re.compile(r"^ofproto_dpif_xlate(\(\w+\))?\|WARN\|dropping ")),
    Expected(re.compile(r"^tunnel(\(\w+\))?\|WARN\|receive tunnel port not found ")),
    # ovs-ctl stops ovsdb-server before ovs-vswitchd, which is connected to it.
    Expected(re.compile(r"^(jsonrpc|reconnect)\|WARN\|unix:\S+/db\.sock: "), True),
    # Whoever is connected to ovsdb-server may end before it has read all that it was sent.
    Expected(
        re.compile(r"^(jsonrpc|reconnect)\|WARN\|unix#\d+: .*(Connection reset by|Broken pipe)"),
    ),
    # How long the daemon or one of its threads took, and what of: no more than a measurement, on a
    # busy machine. That a thread hangs for more than 100 s is more.
    Expected(
        re.compile(
            r"^timeval(\(\S+\))?\|WARN\|(Unreasonably long |faults: |disk: |context switches: )"
        )
    ),
    Expected(
        re.compile(r"^ovs_rcu(\(\S+\))?\|WARN\|blocked \d{4,5} ms waiting for \S+ to quiesce")
    ),
    Expected(
        re.compile(
            r"^ofproto_dpif_upcall(\(\S+\))?\|WARN\|"
            r"Spent an unreasonably long \d{4,5}ms dumping flows"
        )
    ),
    # An interface that somebody sets down while ovs-vswitchd sends to it or reads from it.
    Expected(re.compile(r"\|error (sending|receiving) .*: Network is down"), True),
)


def check(history: History) -> Verdict:
    """Fail for every warning and error that is neither usual nor expected by the scenario."""
    failures = []
    unknowns = [f"{name}: its logs could not be read: {why}" for name, why in _unread(history)]
    wanted = [re.compile(pattern) for pattern in history.about.expected_logs]
    expected = 0
    for switch, logs in history.logs.items():
        for daemon, text in logs.items():
            complaints = [line for line in lines(text) if line.level in COMPLAINTS]
            odd = [line for line in complaints if not _usual(history, switch, line, wanted)]
            expected += len(complaints) - len(odd)
            for said, times in Counter(_words(line) for line in odd).items():
                again = f" ({times} times)" if times > 1 else ""
                failures.append(f"{switch}: {daemon}: {said}{again}")
    if not history.logs:
        unknowns.append("no log of any daemon is there")
    return verdict(failures, unknowns, {"expected_complaints": expected})


def _unread(history: History) -> list[tuple[str, str]]:
    return sorted(history.about.unread.items())


def _words(line: Line) -> str:
    return f"{line.module}|{line.level}|{line.text}"


def _usual(history: History, switch: str, line: Line, wanted: list[re.Pattern[str]]) -> bool:
    words = _words(line)
    if any(pattern.search(words) for pattern in wanted):
        return True
    busy = any(line.during(one) for one in history.operations if one.subject in ("", switch))
    return any(
        one.pattern.search(words) and (busy or not one.during_operations) for one in EXPECTED
    )
