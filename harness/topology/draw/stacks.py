"""Which bridges of a switch are drawn below each other: ``br-pif`` below ``br-int``."""

from __future__ import annotations

from harness.topology.model import (
    BondPort,
    Bridge,
    HostPort,
    PatchPort,
    Switch,
    TunnelPort,
    UplinkPort,
)

Column = list[tuple[int, set[str]]]
"""From the top: the index of a bridge, and its patch ports that lead to the one above."""


def stacks(switch: Switch) -> list[Column]:
    """The bridges in columns. One stands below another when the other's lines downwards all lead
    to it, and it has none upwards itself: then no line has to cross a bridge."""
    owner = {port.name: n for n, bridge in enumerate(switch.bridges) for port in bridge.ports}
    below: dict[int, int] = {}
    above: dict[int, int] = {}
    changed = True
    while changed:
        changed = False
        for number in range(len(switch.bridges)):
            found = None if number in below else _only_way_down(number, switch, owner, above)
            if found is not None and found not in above and not _leads_to(found, number, below):
                below[number], above[found] = found, number
                changed = True
    columns = []
    for number in range(len(switch.bridges)):
        if number not in above:
            column = [number]
            while column[-1] in below:
                column.append(below[column[-1]])
            columns.append([(n, _patches_to(above.get(n), n, switch, owner)) for n in column])
    return columns


def _only_way_down(
    number: int, switch: Switch, owner: dict[str, int], above: dict[int, int]
) -> int | None:
    bridge = switch.bridges[number]
    if any(isinstance(port, UplinkPort | BondPort) for port in bridge.ports):
        return None
    patches = [port for port in bridge.ports if isinstance(port, PatchPort)]
    targets = {owner.get(port.peer) for port in patches} - {above.get(number, -1), number}
    if len(targets) != 1:
        return None
    target = targets.pop()
    if target is None or _has_tops(switch.bridges[target]):
        return None
    return target


def _has_tops(bridge: Bridge) -> bool:
    return any(isinstance(port, HostPort | TunnelPort) for port in bridge.ports)


def _leads_to(start: int, goal: int, below: dict[int, int]) -> bool:
    while start in below:
        start = below[start]
        if start == goal:
            return True
    return start == goal


def _patches_to(other: int | None, number: int, switch: Switch, owner: dict[str, int]) -> set[str]:
    return {
        port.name
        for port in switch.bridges[number].ports
        if isinstance(port, PatchPort) and other is not None and owner.get(port.peer) == other
    }
