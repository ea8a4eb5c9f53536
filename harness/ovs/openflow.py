"""The OpenFlow part of a topology: TLV map, meters, groups and flows, through ovs-ofctl."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from harness.nodes.base import Completed, Node
from harness.ovs.errors import OpenFlowError
from harness.ovs.layout import Layout
from harness.ovs.tasks import Steps
from harness.topology.model import Bridge

TIMEOUT = 60
"""Seconds that ovs-ofctl may take for one bridge."""

ALL_VERSIONS = ",".join(f"OpenFlow1{minor}" for minor in range(6))
"""For ``-O``: let ovs-ofctl settle with the bridge on the highest version that both speak."""

_LINE = re.compile(r"^(?:\S+: )?-:(?P<number>\d+): (?P<said>.*)$", re.MULTILINE)
_LOGGED = re.compile(r"^\S+\|(?:WARN|ERR)\|(?P<said>.*)$", re.MULTILINE)
_REFUSED = re.compile(
    r"^(?:OFPT_ERROR[^:]*: (?P<code>\w+)\n\w+|Error (?P<bundled>\w+) for: \w+)"
    r"[^:\n]*:\s*(?P<what>ADD [^\n]*)?",
    re.MULTILINE,
)


class Order(msgspec.Struct, frozen=True):
    """One call of ovs-ofctl: words after the options, and what it reads from its standard input."""

    bridge: str
    what: str
    options: tuple[str, ...]
    words: tuple[str, ...]
    text: str


def write_version(protocols: Sequence[str]) -> str:
    """The OpenFlow version that flows are written in: the highest of a bridge's ``protocols``.

    A bridge that names none speaks 1.0 to 1.5, of which 1.5 can express the most.
    """
    return max(protocols, default="OpenFlow15")


def orders(bridge: Bridge) -> list[list[Order]]:
    """What must be said to a bridge, in stages: each stage needs those before it.

    Flows match on fields of the TLV map and use groups; groups and flows use meters.
    """
    stages = [
        list(_tlv_map(bridge)),
        list(_meters(bridge)),
        list(_text(bridge, "groups", "add-groups", bridge.groups)),
        list(_text(bridge, "flows", "add-flows", bridge.flows)),
    ]
    return [stage for stage in stages if stage]


def _lines(text: str) -> list[str]:
    """The lines that say something: without comments, as ovs-ofctl reads a file."""
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def _tlv_map(bridge: Bridge) -> Iterator[Order]:
    mappings = ",".join(line.rstrip(",") for line in _lines(bridge.tlv_map))
    if mappings:
        yield _order(bridge, "TLV map", ("add-tlv-map", bridge.name, mappings), "")


def _meters(bridge: Bridge) -> Iterator[Order]:
    # ovs-ofctl reads no file of meters in every version.
    for line in _lines(bridge.meters):
        yield _order(bridge, "meter", ("add-meter", bridge.name, line), "")


def _text(bridge: Bridge, what: str, command: str, text: str) -> Iterator[Order]:
    if _lines(text):
        yield _order(bridge, what, (command, bridge.name, "-"), text)


def _order(bridge: Bridge, what: str, words: tuple[str, ...], text: str) -> Order:
    version = write_version(bridge.protocols)
    options: tuple[str, ...] = ("-O", version)
    if words[0] == "add-flows" and version >= "OpenFlow14":
        # All flows or none. Bundles are OpenFlow 1.4's (ovs-ofctl(8), "--bundle").
        options += ("--bundle",)
    return Order(bridge.name, what, options, words, text)


def apply(node: Node, layout: Layout, switch: str, bridges: Sequence[Bridge]) -> Steps[None]:
    """Write TLV maps, meters, groups and flows of several bridges, stage by stage, all bridges
    at the same time. Raise :class:`OpenFlowError` with ovs-ofctl's words for what was refused."""
    waiting = [stages for stages in map(orders, bridges) if stages]
    while waiting:
        now = [order for stages in waiting for order in stages[0]]
        answers = yield [
            node.run_soon(_argv(layout, order), stdin=order.text, timeout=TIMEOUT + 5)
            for order in now
        ]
        refused = [
            complaint(switch, order, done)
            for order, done in zip(now, answers, strict=True)
            if done.status != 0
        ]
        if refused:
            raise OpenFlowError("\n".join(refused))
        waiting = [stages[1:] for stages in waiting if stages[1:]]


def _argv(layout: Layout, order: Order) -> list[str]:
    program = layout.program("ovs-ofctl")
    return [program, f"--timeout={TIMEOUT}", *order.options, "--", *order.words]


def complaint(switch: str, order: Order, done: Completed) -> str:
    """Why ovs-ofctl refused an order, in one line: with the line of the text that it could not
    read, or with the switch's error and what the error is about."""
    said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.status}"
    where = f"{switch}: bridge {order.bridge}: {order.what}"
    match = _LINE.search(said)
    if match is not None:
        number = int(match["number"])
        line = order.text.splitlines()[number - 1].strip()
        return f"{where}, line {number}: {match['said']}: `{line}`"
    if not order.text:
        where += f" `{order.words[-1]}`"
    return f"{where}: {_shortened(said)}"


def _shortened(said: str) -> str:
    """What ovs-ofctl printed about an OpenFlow error, without the message's bytes and without the
    further errors by which a bundle then fails."""
    words = [match["said"] for match in _LOGGED.finditer(said)]
    refused = _REFUSED.search(said)
    if refused is None:
        return "; ".join(said.splitlines())
    words.append(refused["code"] or refused["bundled"])
    if refused["what"]:
        words.append(refused["what"])
    return ": ".join(words)
