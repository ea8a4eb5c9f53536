"""Proof that an underlay over somebody else's network carries frames, and carries them as they are:
what is wrong with it would otherwise pass for a switch that loses frames, or changes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from harness.lab.errors import LabError
from harness.lab.plan import End, Wire
from harness.nodes.remote import RemoteNode
from harness.polling import NeverHappenedError, eventually
from harness.traffic import ring

BOUND = 10.0
"""Seconds within which a frame has crossed an underlay."""
RING = {"blocks": 64, "block_size": 16 << 10, "retire": 1}


class _Ear(NamedTuple):
    """What listens at an end."""

    capture: int
    heard: list[bytes]


def check(wire: Wire, nodes: Mapping[str, RemoteNode]) -> None:
    """Send a frame with a VLAN tag from each end of an underlay to all others. It also has those in
    between find out who is where, so that no frame of the lab has to wait for that. Raise
    :class:`LabError` when one does not arrive, or arrives as another."""
    if len(wire.ends) < 2:
        return
    trials = {end: _trial(number) for number, end in enumerate(wire.ends)}
    ears = {end: _listen(nodes[end.switch], end) for end in wire.ends}
    for end, frame in trials.items():
        node = nodes[end.switch]
        (port,) = node.open_ports([(None, end.interface)]).result()
        node.send_frames([(port, [len(frame)])], frame).result()
    for end, ear in ears.items():
        expected = {frame for other, frame in trials.items() if other != end}
        _expect(wire, end, nodes[end.switch], ear, expected)
        nodes[end.switch].close_captures([ear.capture]).result()


def _trial(number: int) -> bytes:
    """A broadcast in VLAN 1 that nobody takes any notice of (IEEE Std 802, local experimental
    EtherType)."""
    source = b"\x02" + number.to_bytes(5, "big")
    return b"\xff" * 6 + source + bytes.fromhex("81000001 88b5") + bytes(46)


def _listen(node: RemoteNode, end: End) -> _Ear:
    heard: list[bytes] = []
    at = (None, end.interface, "in")
    (capture,) = node.open_captures([at], [partial(_hear, heard)], **RING).result()
    return _Ear(capture, heard)


def _hear(heard: list[bytes], block: bytes) -> None:
    heard += [ring.restore(block, frame) for frame in ring.walk(block)]


def _expect(wire: Wire, end: End, node: RemoteNode, ear: _Ear, expected: set[bytes]) -> None:
    def missing() -> int:
        node.sync_captures([ear.capture]).result()
        return len(expected.difference(ear.heard))

    try:
        eventually(missing, lambda count: count == 0, within=BOUND, what="all frames")
    except NeverHappenedError:
        other = [frame for frame in ear.heard if frame not in expected]
        if len(other) >= missing():
            raise LabError(
                f"underlay {wire.name} changes frames with VLAN tags on their way to {end.switch}, "
                "as Linux before 6.5 does between two ends on one machine: give each of its "
                "switches a machine of its own"
            ) from None
        raise LabError(
            f"underlay {wire.name} does not carry frames to {end.switch}: do the machines reach "
            "each other, and does a firewall let UDP pass between them?"
        ) from None
