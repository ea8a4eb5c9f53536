"""What was done in a lab, and when: the events of a history, one JSON object a line on disk.

All times are ns of the real-time clock, as those of captured frames are.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

Argument = str | int | float | bool | None
Arguments = dict[str, Argument]


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="operation begun"):
    """Something begins to be done to ``subject``, a switch for the most part. ``number`` tells it
    from other operations of the history. See :class:`Operation`."""

    time_ns: int
    number: int
    name: str
    subject: str
    arguments: Arguments = {}
    changes: tuple[str, ...] = ()


class Ended(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="operation ended"):
    """The operation ``number`` has ended; ``outcome`` is empty when it did what it was to do, and
    else says what went wrong."""

    time_ns: int
    number: int
    outcome: str = ""


class FramesOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="frames out"):
    """``count`` frames of a flow, numbered from ``first_seq``, left their host from ``time_ns``
    on."""

    time_ns: int
    flow: int
    first_seq: int
    count: int


Event = Begun | Ended | FramesOut


class Operation(msgspec.Struct, frozen=True):
    """Something that was done to a switch (``subject``): ``restart``, ``link down`` …

    ``ended_ns`` is None while it has not ended. ``changes`` names what it is meant to change: who
    hears whom (``reach``), a field of bridges or interfaces (``flows``, ``meters``, ``carrier``),
    or a column of the database (``Bridge.fail_mode``).
    """

    name: str
    subject: str
    began_ns: int
    ended_ns: int | None = None
    arguments: Arguments = {}
    changes: tuple[str, ...] = ()
    outcome: str = ""

    def overlaps(self, began_ns: int, ended_ns: int) -> bool:
        """Whether it was under way at any time from ``began_ns`` to ``ended_ns``."""
        return self.began_ns <= ended_ns and (self.ended_ns is None or self.ended_ns >= began_ns)

    def __str__(self) -> str:
        return f"{self.name} of {self.subject}" if self.subject else self.name


def operations(events: Iterable[Event]) -> tuple[Operation, ...]:
    """The operations of a history, in the order in which they began."""
    found: dict[int, Operation] = {}
    for event in events:
        if isinstance(event, Begun):
            found[event.number] = Operation(
                event.name,
                event.subject,
                event.time_ns,
                arguments=event.arguments,
                changes=event.changes,
            )
        elif isinstance(event, Ended) and event.number in found:
            found[event.number] = msgspec.structs.replace(
                found[event.number], ended_ns=event.time_ns, outcome=event.outcome
            )
    return tuple(sorted(found.values(), key=lambda operation: operation.began_ns))
