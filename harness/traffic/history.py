"""What was done in a lab, in order, as a failure's bundle carries it: one JSON object a line."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["operation begun", "operation ended", "frames out"]
Detail = dict[str, str | int | float | bool | None]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something done. ``time_ns`` is real-time clock, as a capture's time stamps are."""

    time_ns: int
    kind: Kind
    detail: Detail = {}


class History:
    """A list of events that only grows."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)

    def begun(self, operation: str, **detail: str | float | bool | None) -> None:
        """An operation (restart, link down …) begins now."""
        self._add("operation begun", {"operation": operation, **detail})

    def ended(self, operation: str, **detail: str | float | bool | None) -> None:
        """An operation has ended now."""
        self._add("operation ended", {"operation": operation, **detail})

    def frames_out(self, source: str, flow: int, first_seq: int, count: int, time_ns: int) -> None:
        """``count`` frames of a flow left the host ``source`` from ``time_ns`` on."""
        detail: Detail = {"source": source, "flow": flow, "first_seq": first_seq, "count": count}
        self.events.append(Event(time_ns, "frames out", detail))

    def save(self, path: Path) -> None:
        """Write all events, in order of time."""
        ordered = sorted(self.events, key=lambda event: event.time_ns)
        path.write_bytes(msgspec.json.Encoder().encode_lines(ordered))

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what :meth:`save` wrote. Raise ``ValueError`` naming the file when it is not."""
        try:
            return cls(msgspec.json.Decoder(Event).decode_lines(path.read_bytes()))
        except msgspec.DecodeError as error:
            raise ValueError(f"{path}: not a history: {error}") from None

    def _add(self, kind: Kind, detail: Detail) -> None:
        self.events.append(Event(time.time_ns(), kind, detail))
