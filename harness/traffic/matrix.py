"""Every ordered pair of hosts, unicast and broadcast, in one batch, and who heard whom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

from harness.traffic.batch import Batch, Sent
from harness.traffic.frames import probe_frame
from harness.traffic.ledger import Flow, Ledger

_BROADCAST = "ff:ff:ff:ff:ff:ff"

Heard = Mapping[str, frozenset[str]]
Overhearing = tuple[str, str, str]
"""source, the host that it addressed, the host that heard it."""


class Reach:
    """Who heard whom.

    ``unicast`` maps each source to the hosts that heard what was addressed to them, ``broadcast``
    to those that heard its broadcasts. ``overheard`` are unicast frames at hosts they were not
    for, unless a switch that does not know their address may flood them there: the addressed host
    did not hear the frame, and the other one does hear the source's broadcasts (IEEE
    802.1Q-2022, 8.8.1). Equal when all three are.
    """

    def __init__(
        self, unicast: Heard, broadcast: Heard, overheard: frozenset[Overhearing] = frozenset()
    ) -> None:
        self.unicast = unicast
        self.broadcast = broadcast
        self.overheard = overheard

    @classmethod
    def groups(cls, *groups: Collection[str]) -> Reach:
        """Everybody in a group hears everybody else in it, and nobody else. A host alone in a
        group hears nobody; one in several groups belongs to each."""
        heard: dict[str, frozenset[str]] = {}
        for group in groups:
            for host in group:
                heard[host] = heard.get(host, frozenset()) | (frozenset(group) - {host})
        return cls(heard, heard)

    def __getitem__(self, source: str) -> frozenset[str]:
        """Every host that heard anything of ``source`` that was meant for it."""
        return self.unicast[source] | self.broadcast[source]

    def __iter__(self) -> Iterator[str]:
        return iter(self.unicast)

    def __len__(self) -> int:
        return len(self.unicast)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reach):
            return NotImplemented
        return (self.unicast, self.broadcast, self.overheard) == (
            other.unicast,
            other.broadcast,
            other.overheard,
        )

    def __hash__(self) -> int:
        return hash((frozenset(self.unicast.items()), frozenset(self.broadcast.items())))

    def __repr__(self) -> str:
        heard = "; ".join(f"{a} -> {', '.join(sorted(self[a])) or 'nobody'}" for a in sorted(self))
        extra = f"; {len(self.overheard)} overheard" if self.overheard else ""
        return f"<Reach {heard}{extra}>"

    def difference(self, expected: Reach) -> list[str]:
        """How self differs from what was expected, a line a fact; empty when it does not."""
        lines = _differences("unicast", self.unicast, expected.unicast)
        lines += _differences("broadcast", self.broadcast, expected.broadcast)
        lines += [
            f"unicast from {a} to {b} was overheard by {c}"
            for a, b, c in sorted(self.overheard - expected.overheard)
        ]
        lines += [
            f"unicast from {a} to {b} was not overheard by {c}"
            for a, b, c in sorted(expected.overheard - self.overheard)
        ]
        return lines


def _differences(kind: str, got: Heard, expected: Heard) -> list[str]:
    lines = []
    for source in sorted({*got, *expected}):
        if source not in got or source not in expected:
            where = "was not probed" if source not in got else "was probed, and is in no group"
            lines.append(f"{kind} from {source}: the host {where}")
            continue
        more, less = got[source] - expected[source], expected[source] - got[source]
        if more:
            lines.append(f"{kind} from {source} leaked to {', '.join(sorted(more))}")
        if less:
            lines.append(f"{kind} from {source} did not reach {', '.join(sorted(less))}")
    return lines


class MatrixPlan:
    """The frames of a matrix: one unicast for each ordered pair, one broadcast a host.

    Send the broadcasts first, and drain: they teach the switches where everybody is, without
    which a unicast is flooded.
    """

    def __init__(self, ledger: Ledger, macs: Mapping[str, str], *, size: int = 64) -> None:
        """Register the flows with ``ledger``; ``macs`` maps each host to its MAC address, ``size``
        is that of a frame in bytes. Raise ``ValueError`` as :meth:`Ledger.flow` does."""
        self.broadcast: dict[str, Flow] = {}
        self.unicast: dict[tuple[str, str], Flow] = {}
        for source, mac in macs.items():
            others = [host for host in macs if host != source]
            frame = probe_frame(mac, _BROADCAST, size=size)
            self.broadcast[source] = ledger.flow(source, frame, to=others)
        alone = {host: frozenset({host}) for host in macs}
        for source, mac in macs.items():
            for target, target_mac in macs.items():
                if target != source:
                    frame = probe_frame(mac, target_mac, size=size)
                    self.unicast[source, target] = ledger.flow(source, frame, to=alone[target])


class ProbeMatrix:
    """What became of a :class:`MatrixPlan`. ``batch`` is the one that its ledger ended in."""

    def __init__(self, plan: MatrixPlan, batch: Batch) -> None:
        self._plan, self.batch = plan, batch

    @cached_property
    def unicast(self) -> dict[tuple[str, str], Sent]:
        """By (source, target)."""
        return {pair: self.batch.result(flow) for pair, flow in self._plan.unicast.items()}

    @cached_property
    def broadcast(self) -> dict[str, Sent]:
        """By source."""
        return {host: self.batch.result(flow) for host, flow in self._plan.broadcast.items()}

    @cached_property
    def reach(self) -> Reach:
        """Who heard whom. Raise :class:`~harness.traffic.batch.Unknown`."""
        self.batch.check()
        hosts = {
            number: block.point.name
            for number, block in enumerate(self.batch.ledger.blocks)
            if block.point.kind == "host"
        }
        broadcast = {host: _heard(flow, hosts) for host, flow in self._plan.broadcast.items()}
        unicast: dict[str, set[str]] = {host: set() for host in broadcast}
        overheard: set[Overhearing] = set()
        for (source, target), flow in self._plan.unicast.items():
            heard = _heard(flow, hosts)
            if target in heard:
                unicast[source].add(target)
                others = heard - {target}
            else:
                others = heard - broadcast[source]
            overheard.update((source, target, host) for host in others)
        frozen = {host: frozenset(heard) for host, heard in unicast.items()}
        return Reach(frozen, broadcast, frozenset(overheard))


def _heard(flow: Flow, hosts: Mapping[int, str]) -> frozenset[str]:
    numbers = {hit >> 32 for hit in flow.hits}
    return frozenset(hosts[number] for number in numbers if number in hosts)
