"""Gives daemons that run in a clone of a machine an identity of their own."""

from __future__ import annotations

from harness.nodes.base import Node
from harness.ovs.layout import Layout
from harness.ovs.ovsdb import Database
from harness.ovs.tasks import Steps


def external_ids(node: Node, system_id: str) -> dict[str, str]:
    """What ``ovs-ctl`` would have put into the database for a switch of this name."""
    return {"system-id": system_id, "hostname": node.name}


def skip_uuids(node: Node, layout: Layout, number: int) -> Steps[None]:
    """Have ovsdb-server skip so many UUIDs.

    The servers of two clones go on in the same sequence of UUIDs, and Open vSwitch makes a bridge's
    MAC address and datapath id from its UUID: with the same ones two bridges would be one to their
    neighbours. A transaction that is aborted uses UUIDs up and leaves nothing else behind (RFC
    7047, 5.2.9).
    """
    if number:
        skip = [{"op": "insert", "table": "QoS", "row": {}}] * number
        yield [Database(node, layout.db_socket).transact_soon([*skip, {"op": "abort"}])]
