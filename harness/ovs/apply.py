"""Make a running switch what its topology says, and find out whether Open vSwitch could do it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.nodes.base import Node
from harness.ovs import daemons, openflow
from harness.ovs.configure import interfaces
from harness.ovs.errors import ConfigurationError, PortError, PortFailure
from harness.ovs.layout import Layout
from harness.ovs.options import OVS_VSWITCHD
from harness.ovs.ovsdb import NAME, Database, refusal
from harness.ovs.tasks import Steps
from harness.ovs.transaction import Transaction
from harness.topology.model import Bridge, PatchPort, Switch

TIMEOUT = 30.0
"""Seconds that ovs-vswitchd may take to carry out a configuration, in a node with the usual
patience."""

_COMPLAINT = re.compile(r"\|(?:WARN|ERR|EMER)\|(?P<said>.*)$")
_DETECTED = re.compile(
    r"Error detected while setting up '(?P<name>[^']+)'(?:: (?P<said>.*?))?(?:\.  See|$)",
    re.MULTILINE,
)


def apply(
    node: Node, layout: Layout, database: Database, switch: Switch, made: Transaction
) -> Steps[None]:
    """Configure ``switch`` in the transaction ``made`` of it
    (:func:`harness.ovs.configure.transaction`), look whether every port came to be, and write its
    OpenFlow part.

    Raise :class:`PortError` for ports and bridges that could not be made, :class:`OpenFlowError`
    for refused flows, groups, meters and TLV maps, :class:`ConfigurationError` for a transaction
    that was refused as a whole.
    """
    requested = (yield [database.transact_soon([*made.operations(), *_NEXT])])[0]
    refused = refusal(requested)
    if refused is not None:
        words = ": ".join(refused)
        raise ConfigurationError(f"{switch.name}: the configuration was refused: {words}")
    bound = TIMEOUT * node.patience
    carried_out = _carried_out(requested[-1]["rows"][0]["next_cfg"], bound)
    done = (yield [database.transact_soon([carried_out, *_MADE], TIMEOUT + 5)])[0]
    if refusal(done) is not None:
        what = f"ovs-vswitchd did not carry out its configuration within {bound:g} s"
        raise ConfigurationError(
            f"{switch.name}: {what}\n{daemons.log_tail(node, layout, OVS_VSWITCHD)}"
        )
    failures = _failed_ports(node, layout, switch.bridges, done[-2]["rows"], done[-1]["rows"])
    if failures:
        raise PortError(switch.name, failures)
    yield from openflow.apply(node, layout, switch.name, switch.bridges)


def _select(table: str, *columns: str) -> dict[str, Any]:
    return {"op": "select", "table": table, "columns": columns, "where": []}


_NEXT = (
    {"op": "mutate", "table": NAME, "where": [], "mutations": [["next_cfg", "+=", 1]]},
    _select(NAME, "next_cfg"),
)
"""Ask ovs-vswitchd to say when it has carried out what the database holds now, and under which
number (ovs-vswitchd.conf.db(5), "next_cfg"); so does ovs-vsctl."""
_MADE = (_select("Bridge", "name", "datapath_id"), _select("Interface", "name", "error", "ofport"))


def _carried_out(number: int, bound: float) -> dict[str, Any]:
    """Wait at most ``bound`` seconds until ovs-vswitchd has carried out this configuration, or a
    later one (RFC 7047, 5.2.6)."""
    return {
        "op": "wait",
        "table": NAME,
        "where": [["cur_cfg", ">=", number]],
        "columns": ["cur_cfg"],
        "until": "!=",
        "rows": [],
        "timeout": int(1000 * bound),
    }


def _failed_ports(
    node: Node,
    layout: Layout,
    bridges: Sequence[Bridge],
    made: Sequence[dict[str, Any]],
    ports: Sequence[dict[str, Any]],
) -> list[PortFailure]:
    """Bridges and ports that Open vSwitch could not make, in the topology's order.

    A bridge without a datapath id was not made. An interface's ``error`` has Open vSwitch's
    words, and without an ``ofport``, or with -1, it was not made (ovs-vswitchd.conf.db(5)).
    """
    ids = {row["name"]: row["datapath_id"] for row in made}
    rows = {row["name"]: row for row in ports}
    failed: list[tuple[str, str | None]] = []
    for bridge in bridges:
        if not isinstance(ids.get(bridge.name), str):
            failed.append((bridge.name, None))
        else:
            lonely = _without_peer(bridge)
            names = (
                name
                for name in interfaces(bridge)
                if not _made(rows.get(name)) or (_complains(rows.get(name)) and name not in lonely)
            )
            failed.extend((bridge.name, name) for name in names)
    log = daemons.logs(node, layout)[OVS_VSWITCHD] if failed else ""
    return [
        PortFailure(bridge, name, _reason(rows.get(name or bridge), log, name or bridge))
        for bridge, name in failed
    ]


def _made(row: dict[str, Any] | None) -> bool:
    return row is not None and isinstance(row["ofport"], int) and row["ofport"] > 0


def _complains(row: dict[str, Any] | None) -> bool:
    return row is not None and isinstance(row["error"], str)


def _without_peer(bridge: Bridge) -> set[str]:
    """Patch ports whose peer is left out on purpose: sooner or later Open vSwitch says so in their
    ``error``."""
    return {port.name for port in bridge.ports if isinstance(port, PatchPort) and port.peer_missing}


def _reason(row: dict[str, Any] | None, log: str, name: str) -> str:
    if row is not None and isinstance(row["error"], str):
        return "; ".join(row["error"].splitlines())
    return _last_word(log, name)


def _last_word(log: str, name: str) -> str:
    """The last complaint in ovs-vswitchd's log that names a port or bridge."""
    named = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
    for line in reversed(log.splitlines()):
        match = _COMPLAINT.search(line)
        if match is not None and named.search(match["said"]):
            return match["said"]
    return "Open vSwitch did not make it, and its log does not say why"


def errors_in(said: str) -> list[tuple[str, str]]:
    """Ports that ``ovs-vsctl`` itself said could not be made: (name, reason).

    It says so on its standard error; before version 3.6 it exits 0 all the same.
    """
    found = _DETECTED.finditer(said)
    return [(match["name"], match["said"] or "no reason given") for match in found]
