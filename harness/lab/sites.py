"""Where the nodes of one lab are, and how underlays join them: one class a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from harness.lab.errors import LabError
from harness.lab.plan import Plan, Wire
from harness.nodes.base import NodeError, Pending
from harness.nodes.impairment import Impairment
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.nodes.remote import RemoteNode

if TYPE_CHECKING:
    from harness.images import Image
    from harness.ovs.daemons import Running

_bridge_numbers = count(1)


class Carried(NamedTuple):
    """Frames at one end of an underlay that something else than the nodes' kernels carries."""

    came: int
    """From the switch."""
    went: int
    """To the switch."""
    dropped: int
    """Of those for the switch: there was no room for them."""
    kept: int
    """Until the switch has room for them."""


class Site(Protocol):
    """The place of one lab."""

    @property
    def running(self) -> Running | None:
        """The daemons that run already in each fresh node, once one of them has been started."""

    def start_nodes(self) -> Iterator[tuple[str, RemoteNode]]:
        """Start the nodes of all switches, and give each with its switch's name as soon as it is
        there. Raise :class:`NodeError`."""

    def join(self) -> None:
        """Join the nodes by the underlays, once all of them have been started, and set the
        switches' physical ports up."""

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """Set a physical port up or down. If just one other is at the same underlay, it loses the
        carrier too, or gets it back."""

    def impair(self, underlay: str, impairment: Impairment | None, seed: int) -> None:
        """Make an underlay a bad wire, or a good one again. Raise :class:`LabError` where that
        can't be."""

    def change_image(self, switch: str, image: Image, keep: Sequence[str]) -> None:
        """Have a switch's node run another image, with the directories ``keep`` and all that runs
        as they were. Raise :class:`LabError` where that can't be."""

    def cut_power(self, switch: str) -> None:
        """End a switch's node as a power cut does. Raise :class:`LabError` where that can't be."""

    def boot(self, switch: str) -> RemoteNode:
        """Give a switch's node power again. It comes up with what was on its disk, its physical
        ports up, and without any host."""

    def carried(self) -> Pending | None:
        """Ask what went over the underlays so far: :class:`Carried` by switch and interface. None
        where the nodes' kernels carry it themselves: it is under way in none of them then."""

    def close(self) -> None:
        """End what is not a node's own. The nodes have been closed."""


class SharedKernel:
    """What a place can't do whose nodes have no kernel and no power of their own."""

    def impair(self, underlay: str, impairment: Impairment | None, seed: int) -> None:
        """See :class:`Site`: what carries frames here is a kernel, which does it well."""
        del impairment, seed
        raise LabError(
            f"underlay {underlay} can't be made bad: it can between virtual machines (backend vm)"
        )

    def cut_power(self, switch: str) -> None:
        """See :class:`Site`: what is written here a kernel has that goes on."""
        raise LabError(
            f"{switch} has no power of its own to cut: a virtual machine has (backend vm)"
        )

    def boot(self, switch: str) -> RemoteNode:
        """See :class:`Site`: never called."""
        raise LabError(f"{switch} has no power of its own")

    def carried(self) -> None:
        """See :class:`Site`."""


class NamespaceSite(SharedKernel):
    """Nodes made of namespaces, with ``lower`` as their root and ``files`` laid over it."""

    running = None

    def __init__(
        self, plan: Plan, fabric: Fabric, lower: Sequence[Path], files: Mapping[str, str]
    ) -> None:
        self._plan, self._fabric, self._lower, self._files = plan, fabric, lower, files
        self._nodes: dict[str, NamespaceNode] = {}
        self._bridges: list[str] = []
        """In the launcher's namespace."""

    def start_nodes(self) -> Iterator[tuple[str, RemoteNode]]:
        """See :class:`Site`."""
        for name in self._plan.switches:
            node = self._nodes[name] = self._fabric.start_node(name, self._lower, self._files)
            yield name, node

    def join(self) -> None:
        """Two ends are joined by one veth pair, which carries everything; more by a bridge, which
        keeps 01:80:c2:00:00:00 to :03 to itself."""
        changes: list[dict[str, Any]] = []
        for wire in self._plan.wires.values():
            if len(wire.ends) == 2:
                changes.append(_cable(wire, self._nodes))
            elif wire.ends:
                self._bridges.append(f"u{next(_bridge_numbers)}")
                # Its ports name it by its number, so it has to be there before they are made.
                segment = {"do": "bridge", "name": self._bridges[-1], "mtu": wire.mtu}
                self._fabric.node.change_links([segment]).result()
                changes += _segment(wire, self._bridges[-1], self._nodes)
        if changes:
            self._fabric.node.change_links(changes).result()
        set_up_ports(self._plan.wires.values(), self._nodes)

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """See :class:`Site`: a veth pair's ends lose the carrier together."""
        change = {"do": "set", "name": interface, "up": up}
        self._nodes[switch].change_links([change]).result()

    def change_image(self, switch: str, image: Image, keep: Sequence[str]) -> None:
        """See :class:`Site`: the machine's own Open vSwitch takes no part."""
        if Path("/") in (*self._lower, *image.lower):
            raise LabError("a node can't change from or to the machine's own system (image host)")
        self._nodes[switch].change_root(image.lower, keep)

    def close(self) -> None:
        """Remove the bridges; cables end with the nodes they joined."""
        removals = [{"do": "remove", "name": name} for name in self._bridges]
        self._bridges = []
        if not removals:
            return
        try:
            self._fabric.node.change_links(removals).result()
        except NodeError:
            # The launcher has ended, and the underlays with it.
            return


def set_up_ports(wires: Iterable[Wire], nodes: Mapping[str, RemoteNode]) -> None:
    """Set the physical ports of all switches up."""
    ports: dict[str, list[dict[str, Any]]] = {}
    for wire in wires:
        for end in wire.ends:
            change = {"do": "set", "name": end.interface, "up": True}
            ports.setdefault(end.switch, []).append(change)
    for answer in [nodes[switch].change_links(changes) for switch, changes in ports.items()]:
        answer.result()


def _cable(wire: Wire, nodes: Mapping[str, NamespaceNode]) -> dict[str, Any]:
    one, other = wire.ends
    return {
        "do": "veth",
        "name": one.interface,
        "space": nodes[one.switch].space,
        "peer": other.interface,
        "peer_space": nodes[other.switch].space,
        "mtu": wire.mtu,
    }


def _segment(wire: Wire, bridge: str, nodes: Mapping[str, NamespaceNode]) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    for number, end in enumerate(wire.ends):
        port = f"{bridge}.{number}"
        changes.append(
            {
                "do": "veth",
                "name": port,
                "peer": end.interface,
                "peer_space": nodes[end.switch].space,
                "mtu": wire.mtu,
            }
        )
        changes.append({"do": "set", "name": port, "master": bridge, "up": True})
    return changes
