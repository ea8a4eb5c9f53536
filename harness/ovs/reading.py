"""Reading the state of a running switch: database, OpenFlow tables, local interfaces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from harness.nodes.base import Completed, Node, Pending
from harness.ovs import dumps, openflow, records
from harness.ovs.errors import UnexpectedOutputError
from harness.ovs.layout import Layout
from harness.ovs.ovsdb import Database, plain
from harness.ovs.state import BridgeState, Link, State
from harness.ovs.tasks import Steps

_DUMPS = ("dump-flows", "dump-groups", "dump-tlv-map", "dump-meters")
_AT_ONCE = 2
"""On an emulated processor, where more at the same time take as long as one after the other, and
each the longer: ovs-vswitchd hangs up on who has not said hello within a second (lib/rconn.c,
timeout_CONNECTING())."""
_PASSING = ("dst", "dev", "flags", "expires", "cache")
"""What of a route is no state or is said otherwise: ``flags`` follow the carrier, the last two are
a cache's."""


def read(node: Node, layout: Layout, database: Database, switch: str) -> Steps[State]:
    """Read the whole state; all commands run at the same time, or as many as a processor can bear.

    Raise :class:`NodeError` when a command fails, :class:`UnexpectedOutputError` for output that
    cannot be read.
    """
    rows = records.read_rows(database)
    content = records.content(database.schema, rows)
    bridges = _bridges(database, rows)
    asked = [
        (name, command)
        for name, bridge in bridges.items()
        if bridge.datapath_id is not None
        for command in _commands(content["Bridge"][name].get("protocols", ()))
    ]
    listing = "addr show\nroute show table main\n"
    commands = [
        *(partial(_ofctl, node, layout, command, name) for name, command in asked),
        partial(node.run_soon, ["ip", "-json", "-batch", "-"], stdin=listing),
        partial(node.run_soon, ["ip", "-json", "-6", "route", "show", "table", "main"]),
    ]
    at_once = len(commands) if node.patience == 1 else _AT_ONCE
    texts: list[str] = []
    for first in range(0, len(commands), at_once):
        answers = yield [begin() for begin in commands[first : first + at_once]]
        texts += [_output(answer) for answer in answers]
    printed = dict(zip(asked, texts, strict=False))
    return State(
        switch=switch,
        bridges={name: _with_openflow(name, bridge, printed) for name, bridge in bridges.items()},
        database=content,
        links=parse_links(_internal(content), *texts[-2:]),
    )


def _output(done: Completed) -> str:
    return done.check().stdout


def _commands(protocols: Sequence[str]) -> Sequence[str]:
    # Meters came with OpenFlow 1.3; a bridge that names no protocols speaks it.
    return _DUMPS if max(protocols, default="OpenFlow13") >= "OpenFlow13" else _DUMPS[:-1]


def _ofctl(node: Node, layout: Layout, command: str, bridge: str) -> Pending:
    options = ["-O", openflow.ALL_VERSIONS, "--no-names"]
    if command == "dump-flows":
        options.append("--no-stats")
    program = layout.program("ovs-ofctl")
    timeout = openflow.TIMEOUT
    return node.run_soon(
        [program, f"--timeout={timeout}", *options, "--", command, bridge], timeout=timeout + 5
    )


def _bridges(database: Database, rows: Mapping[str, list[records.Row]]) -> dict[str, BridgeState]:
    """Bridges with what the database knows of them."""
    schema = database.schema
    interfaces = {row["_uuid"][1]: row for row in rows["Interface"]}
    ports = {row["_uuid"][1]: row for row in rows["Port"]}
    bridges = {}
    for row in sorted(rows["Bridge"], key=lambda row: str(row["name"])):
        members = [
            interfaces[uuid]
            for port in plain(schema["Bridge"]["ports"], row["ports"])
            for uuid in plain(schema["Port"]["interfaces"], ports[port]["interfaces"])
        ]
        numbers = {
            member["name"]: plain(schema["Interface"]["ofport"], member["ofport"])
            for member in members
        }
        bridges[row["name"]] = BridgeState(
            datapath_id=plain(schema["Bridge"]["datapath_id"], row["datapath_id"]),
            ports=dict(sorted(numbers.items())),
        )
    return bridges


def _with_openflow(
    name: str, bridge: BridgeState, printed: Mapping[tuple[str, str], str]
) -> BridgeState:
    return BridgeState(
        datapath_id=bridge.datapath_id,
        ports=bridge.ports,
        flows=dumps.parse_flows(printed.get((name, "dump-flows"), "")),
        groups=dumps.parse_groups(printed.get((name, "dump-groups"), "")),
        meters=dumps.parse_meters(printed.get((name, "dump-meters"), "")),
        tlv_map=dumps.parse_tlv_map(printed.get((name, "dump-tlv-map"), "")),
    )


def _internal(content: records.Content) -> list[str]:
    """Interfaces that ovs-vswitchd makes in the network stack: local and internal ones."""
    internal = (
        name for name, row in content.get("Interface", {}).items() if row.get("type") == "internal"
    )
    return sorted({*content.get("Bridge", {}), *internal})


def parse_links(names: Sequence[str], batch: str, routes6: str) -> dict[str, Link]:
    """Interfaces from the JSON of ip(8): ``batch`` holds that of ``addr show`` and ``route show``.

    Interfaces that the network stack does not have are left out: the dummy datapath makes none.
    Raise :class:`UnexpectedOutputError` for anything else than JSON.
    """
    links, *routes = [*_documents(batch), *_documents(routes6)]
    via: dict[str, list[str]] = {}
    for route in (route for document in routes for route in document):
        for device in _devices(route):
            via.setdefault(device, []).append(_route(route))
    return {
        link["ifname"]: Link(
            mac=link.get("address", ""),
            mtu=link["mtu"],
            up="UP" in link["flags"],
            carrier="LOWER_UP" in link["flags"],
            addresses=tuple(sorted(_address(address) for address in link["addr_info"] if address)),
            routes=tuple(sorted(via.get(link["ifname"], ()))),
        )
        for link in sorted(links, key=lambda link: str(link.get("ifname")))
        if link.get("ifname") in names
    }


def _documents(text: str) -> list[list[dict[str, Any]]]:
    """The JSON lists that stand one after another in ``text``; none counts as an empty one."""
    decoder = json.JSONDecoder()
    found, rest = [], text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except ValueError as error:
            raise UnexpectedOutputError(
                f"`ip -json` printed what is no JSON: {rest[:200]!r}"
            ) from error
        found.append(document)
        rest = rest[end:].lstrip()
    return found or [[]]


def _address(address: Mapping[str, Any]) -> str:
    words = f"{address['local']}/{address['prefixlen']} scope {address['scope']}"
    for name in ("address", "broadcast", "label"):
        if name in address:
            words += f" {name} {address[name]}"
    return words


def _devices(route: Mapping[str, Any]) -> list[str]:
    hops = route.get("nexthops", [route])
    return sorted({hop["dev"] for hop in hops if "dev" in hop})


def _route(route: Mapping[str, Any]) -> str:
    words = [str(route["dst"])]
    for name in sorted(route.keys() - set(_PASSING)):
        value = route[name]
        words.append(f"{name} {value if isinstance(value, str | int) else json.dumps(value)}")
    return " ".join(words)
