"""What daemons log, line by line (ovs-appctl(8), "vlog/set": the pattern of log files)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from harness.traffic.operations import Operation

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z\|\d+\|(?P<module>[^|]+)\|"
    r"(?P<level>EMER|ERR|WARN|INFO|DBG)\|(?P<text>.*)"
)
_MS = 1_000_000


class Line(NamedTuple):
    """``time_ns`` is that of the node's real-time clock, in whole milliseconds; ``module`` may hold
    the name of a thread too."""

    time_ns: int
    module: str
    level: str
    text: str

    def during(self, operation: Operation) -> bool:
        """Whether it was logged while an operation was under way, as far as ms tell."""
        return operation.overlaps(self.time_ns, self.time_ns + _MS)


def lines(log: str) -> Iterator[Line]:
    """The lines of a log that are whole; messages of several lines are their first."""
    for match in map(_LINE.match, log.splitlines()):
        if match is not None:
            yield Line(_time_ns(match["time"]), match["module"], match["level"], match["text"])


def _time_ns(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 * _MS + moment.microsecond * 1000
