"""What a lab notes while it is used, and the history that it makes of that in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from harness.lab.errors import LabError
from harness.nodes.base import NodeError
from harness.ovs.errors import OvsError
from harness.ovs.state import State
from harness.ovs.switch import Switch
from harness.topology import dump
from harness.traffic.batch import Batch
from harness.traffic.gaps import Gap
from harness.traffic.history import About, History, StatePair, frames_out, places_of, segment_of
from harness.traffic.operations import Argument, Begun, Ended

if TYPE_CHECKING:
    from harness.lab.lab import Lab

Reading = tuple[int, dict[str, Any] | None, str]
"""When a state was read (ns, real-time clock), the state as plain data, or why there is none."""


class Recorder:
    """The operations of a lab, and the states that were read around them."""

    def __init__(self) -> None:
        self.events: list[Begun | Ended] = []
        self.states: list[StatePair] = []
        self._operations = 0

    @contextmanager
    def operation(
        self,
        name: str,
        *,
        switch: str = "",
        changes: Sequence[str] = (),
        **arguments: Argument,
    ) -> Iterator[None]:
        """A context in which something is done, to a switch for the most part: its beginning, end
        and outcome go into the history. A switch marks its own ``start``, ``stop`` and ``restart``.

        ``changes`` names what it is meant to change, so that it is not taken for lost: who hears
        whom (``reach``), or what :meth:`harness.ovs.state.State.without` takes. ``arguments`` are
        whatever else is worth to know of it. Raise :class:`LabError` for any other change.
        """
        for change in changes:
            _check_change(change)
        self._operations += 1
        number = self._operations
        self.events.append(
            Begun(time.time_ns(), number, name, switch, dict(arguments), tuple(changes))
        )
        try:
            yield
        except BaseException as error:
            said = str(error).partition("\n")[0]
            outcome = f"{type(error).__name__}: {said}" if said else type(error).__name__
            self.events.append(Ended(time.time_ns(), number, outcome))
            raise
        self.events.append(Ended(time.time_ns(), number))

    def keep(self, before: Mapping[str, Reading], after: Mapping[str, Reading]) -> None:
        """Note the states of switches before and after something was done."""
        for switch, (before_ns, old, why_not) in before.items():
            after_ns, new, why_not_after = after[switch]
            reasons = [
                f"the state {when} could not be read: {why}"
                for when, why in (("before", why_not), ("after", why_not_after))
                if why
            ]
            pair = StatePair(switch, before_ns, after_ns, old, new, "; ".join(reasons))
            self.states.append(pair)

    def forget(self) -> None:
        """Let go of everything."""
        self.events.clear()
        self.states.clear()


def _check_change(name: str) -> None:
    if name == "reach":
        return
    try:
        State(switch="").without(name)
    except ValueError as error:
        raise LabError(f"not what an operation can change: {error}, or `reach`") from None


def read_states(switches: Mapping[str, Switch]) -> dict[str, Reading]:
    """The states of all switches, read at the same time; of one that can't be read, why not."""
    begun = time.time_ns()
    tasks = {}
    found: dict[str, Reading] = {}
    for name, switch in switches.items():
        try:
            tasks[name] = switch.state_soon()
        except (NodeError, OvsError) as error:
            found[name] = (begun, None, str(error))
    for name, task in tasks.items():
        try:
            found[name] = (begun, _plain(task.result()), "")
        except (NodeError, OvsError) as error:
            found[name] = (begun, None, str(error))
    return found


def history_of(lab: Lab) -> History:
    """Everything that was done and seen so far. What can no longer be read, for a daemon or a node
    has died, is left out, and the history says why."""
    kernels, unseen = _beside_batches(lab)
    seen: list[Batch | Gap] = [*lab.engine.gaps.found, *lab.batches]
    # A gap stands before the batch behind it, which has the first flow that the gap can't have.
    seen.sort(key=lambda one: one.ledger.first_flow)
    places = places_of((one.ledger for one in seen), lab.engine.places)
    numbers = {place: number for number, place in enumerate(places)}
    parts = [segment_of(one, numbers) for one in seen]
    events = [event for one in seen for flow in one.ledger.flows for event in frames_out(flow)]
    logs, unread = _logs(lab.switches)
    about = About(
        run=lab.engine.run,
        seed=lab.seed,
        target=str(lab.target),
        points=tuple(lab.engine.points),
        places=tuple(places),
        segments=tuple(segment for segment, _flows, _packets in parts),
        expected=tuple(sorted(lab.expected)),
        expected_logs=tuple(sorted(lab.expected_logs)),
        kernels=kernels,
        unseen=unseen,
        unread=unread,
        measurements=_plain(lab.measurements),
    )
    return History(
        about=about,
        topology=dump(lab.spec),
        events=tuple(sorted([*lab.recorder.events, *events], key=lambda event: event.time_ns)),
        flows=tuple(flow for _segment, flows, _packets in parts for flow in flows),
        packets=tuple(packet for _segment, _flows, packets in parts for packet in packets),
        states=tuple(lab.recorder.states),
        logs=logs,
    )


def _beside_batches(lab: Lab) -> tuple[tuple[str, ...], str]:
    """Look at what arrived since the last batch; whose kernels may have spoken there, and why that
    can't be known."""
    try:
        lab.engine.look_through_gap()
        return tuple(sorted(mac.hex(":") for mac in lab.kernels())), ""
    except NodeError as error:
        return (), str(error)


def _logs(switches: Mapping[str, Switch]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    logs, unread = {}, {}
    for name, switch in switches.items():
        try:
            logs[name] = switch.logs()
        except (NodeError, OvsError) as error:
            unread[name] = str(error)
    return logs, unread


def _plain(value: object) -> Any:
    """As JSON has it, so that it is the same when it is read back."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=repr))
