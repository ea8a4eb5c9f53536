"""The place of a lab whose switches are on remote Linux machines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from harness.lab import crossing, vxlan
from harness.lab.errors import LabError
from harness.lab.plan import End, Plan
from harness.lab.sites import SharedKernel, set_up_ports
from harness.lab.vxlan import Place
from harness.nodes.remote import RemoteNode
from harness.nodes.ssh.client import Order, SshNode, Starting

if TYPE_CHECKING:
    from harness.images import Image

AT_ONCE = 8
"""Nodes of a machine that are being started at the same time: an ssh server refuses some of more
than ten that have not logged in yet (sshd_config(5), MaxStartups)."""
LOOPBACK = "127."


class RemoteSite(SharedKernel):
    """Sandboxes on machines that ssh leads to: the switches are dealt to these in turn. Underlays
    are made of VXLAN between the machines, over the network that they have already."""

    running = None

    def __init__(self, plan: Plan, machines: Sequence[str], order: Order) -> None:
        self._plan, self._machines, self._order = plan, machines, order
        self._wires = [wire for wire in plan.wires.values() if wire.ends]
        self._starting: deque[Starting] = deque()
        self._nodes: dict[str, SshNode] = {}

    def start_nodes(self) -> Iterator[tuple[str, RemoteNode]]:
        """See :class:`~harness.lab.sites.Site`."""
        waiting = deque(zip(self._plan.switches, cycle(self._machines), strict=False))
        while waiting or self._starting:
            while waiting and len(self._starting) < AT_ONCE * len(self._machines):
                self._starting.append(Starting(*waiting.popleft(), self._order))
            node = self._starting[0].result()
            self._starting.popleft()
            self._nodes[node.name] = node
            yield node.name, node

    def join(self) -> None:
        """See :class:`~harness.lab.sites.Site`. Raise :class:`LabError` where the machines' network
        is none to have underlays on."""
        vxlan.make_ends(self._wires, self._nodes, self._find_places())
        set_up_ports(self._wires, self._nodes)
        for wire in self._wires:
            crossing.check(wire, self._nodes)

    def _find_places(self) -> dict[End, Place]:
        ends = [end for wire in self._wires for end in wire.ends]
        asked = {
            switch: self._nodes[switch].find_places(count)
            for switch, count in Counter(end.switch for end in ends).items()
        }
        found = {switch: answer.result() for switch, answer in asked.items()}
        for switch, places in found.items():
            if places["address"].startswith(LOOPBACK) and len(self._machines) > 1:
                raise LabError(
                    f"{self._nodes[switch].machine} has no IPv4 address by which other machines "
                    "reach it, as underlays between machines need"
                )
        return {
            end: Place(found[end.switch]["address"], None, found[end.switch]["ports"].pop())
            for end in ends
        }

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        vxlan.set_link(self._wires, self._nodes, End(switch, interface), up=up)

    def change_image(self, switch: str, image: Image, keep: Sequence[str]) -> None:
        """See :class:`~harness.lab.sites.Site`: machines have the one system that they have."""
        del keep
        raise LabError(
            f"{switch} runs what is installed on {self._nodes[switch].machine}, and can't become "
            f"{image.name}"
        )

    def close(self) -> None:
        """Give up what is being started, and wait until all nodes have ended."""
        for starting in self._starting:
            starting.close()
        for node in self._nodes.values():
            node.wait()
