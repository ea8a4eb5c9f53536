"""Gives daemons that run in a clone of a machine an identity of their own."""

from __future__ import annotations

from typing import Any

from harness.nodes.base import Node
from harness.ovs.layout import Layout
from harness.ovs.ovsdb import Database, check_results
from harness.ovs.tasks import Steps
from harness.ovs.transaction import Transaction


def take_over(node: Node, layout: Layout, system_id: str, skipped: int) -> Steps[None]:
    """Put the system id and the hostname into the database, where ``ovs-ctl`` puts them, and have
    ovsdb-server skip so many UUIDs.

    The servers of two clones go on in the same sequence of UUIDs, and Open vSwitch makes a bridge's
    MAC address and datapath id from its UUID: with the same ones two bridges would be one to their
    neighbours. A transaction that is aborted uses UUIDs up and leaves nothing else behind (RFC
    7047, 5.2.9). Raise :class:`OvsError` when the database refuses.
    """
    rename = Transaction()
    rename.set_root({}, {"external_ids": {"system-id": system_id, "hostname": node.name}})
    skip = [{"op": "insert", "table": "QoS", "row": {}}] * skipped
    transactions: list[list[dict[str, Any]]] = [rename.operations()]
    if skip:
        transactions.append([*skip, {"op": "abort"}])
    database = Database(node, layout.db_socket)
    answers = yield [database.transact_soon(operations) for operations in transactions]
    check_results(node, answers[0])
