"""The place of a lab whose switches are containers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.lab import vxlan
from harness.lab.errors import LabError
from harness.lab.plan import End, Plan, Wire
from harness.lab.sites import SharedKernel, set_up_ports
from harness.lab.vxlan import Place
from harness.nodes.containers.client import Attachment, Broker, DockerNode, Starting
from harness.nodes.remote import RemoteNode

if TYPE_CHECKING:
    from harness.images import Image

FIRST_PORT = 14789
"""UDP, of the ends of underlays: each end of a node has one of its own."""
SHARED = ("/etc/openvswitch", "/run", "/tmp", "/var/lib/openvswitch", "/var/log/openvswitch")
"""Directories that stay when a switch gets another image."""


class ContainerSite(SharedKernel):
    """Containers of one image. Each underlay is a network of the engine's, and the wire through it
    is made of VXLAN (:mod:`harness.agent.underlays`): such a network is none itself, for it learns
    addresses and keeps LACP's frames and their like to itself."""

    running = None

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        image: str,
        provide: Callable[[Image], str],
        files: Mapping[str, str],
        *,
        tun: bool,
    ) -> None:
        """``image`` is what the engine calls the one that nodes start with; ``provide`` has the
        engine have another one, and returns what it is called there."""
        self._plan, self._broker, self._image = plan, broker, image
        self._provide = provide
        self._files, self._tun = files, tun
        self._lab = f"{plan.spec.name}-{secrets.token_hex(4)}"
        self._wires = [wire for wire in plan.wires.values() if wire.ends]
        self._places: dict[str, list[tuple[str, Attachment]]] = {}
        """Of each switch: the underlays that it is at, and its place in the network of each."""
        self._starting: list[Starting] = []
        self._nodes: dict[str, DockerNode] = {}

    def start_nodes(self) -> Iterator[tuple[str, RemoteNode]]:
        """See :class:`~harness.lab.sites.Site`."""
        self._places = {name: [] for name in self._plan.switches}
        self._attach()
        for name in self._plan.switches:
            at = [place for _wire, place in self._places[name]]
            self._starting.append(
                self._broker.start_node_soon(
                    self._lab, name, self._image, at, tun=self._tun, shared=SHARED
                )
            )
        while self._starting:
            node = self._starting[0].result()
            del self._starting[0]
            self._nodes[node.name] = node
            self._lay_over(node)
            node.write_file("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {node.name}\n")
            yield node.name, node

    def _lay_over(self, node: DockerNode) -> None:
        for path, text in self._files.items():
            node.write_file(path, text, 0o755)

    def _attach(self) -> None:
        """Make the networks, and give each switch its place in those of its underlays."""
        if not self._wires:
            return
        switches = {wire.name: list(_switches_at(wire)) for wire in self._wires}
        wanted = [
            {"name": wire.name, "mtu": wire.mtu, "ends": len(switches[wire.name])}
            for wire in self._wires
        ]
        made = self._broker.make_networks(self._lab, wanted)
        for wire, places in zip(self._wires, made, strict=True):
            for name, place in zip(switches[wire.name], places, strict=True):
                self._places[name].append((wire.name, place))

    def join(self) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        places = dict(self._placed(self._take_networks()))
        vxlan.make_ends(self._wires, self._nodes, places)
        set_up_ports(self._plan.wires.values(), self._nodes)

    def _take_networks(self) -> dict[tuple[str, str], str]:
        """Take the engine's interfaces out of the switches' sight. Return their MAC addresses, by
        switch and underlay."""
        asked = {
            name: self._nodes[name].take_networks([place.address for _wire, place in places])
            for name, places in self._places.items()
            if places
        }
        return {
            (name, wire): mac
            for name, answer in asked.items()
            for (wire, _place), mac in zip(self._places[name], answer.result(), strict=True)
        }

    def _placed(self, macs: Mapping[tuple[str, str], str]) -> Iterator[tuple[End, Place]]:
        ports = dict.fromkeys(self._plan.switches, FIRST_PORT)
        addresses = {
            (name, wire): place.address.partition("/")[0]
            for name, places in self._places.items()
            for wire, place in places
        }
        for wire in self._wires:
            for end in wire.ends:
                at = end.switch, wire.name
                yield end, Place(addresses[at], macs[at], ports[end.switch])
                ports[end.switch] += 1

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        vxlan.set_link(self._wires, self._nodes, End(switch, interface), up=up)

    def change_image(self, switch: str, image: Image, keep: Sequence[str]) -> None:
        """See :class:`~harness.lab.sites.Site`: a container of that image is started beside the
        node's first one, whose processes and network it shares."""
        apart = [place for place in keep if not _is_shared(place)]
        if apart:
            raise LabError(
                f"{switch} is a container, of which {', '.join(SHARED)} can be kept, but not "
                f"{', '.join(apart)}"
            )
        node = self._nodes[switch]
        other = self._broker.start_node_soon(
            self._lab, switch, self._provide(image), tun=self._tun, beside=node
        ).result()
        node.go_on_in(other)
        self._lay_over(node)

    def close(self) -> None:
        """End what is left of the containers, and the networks."""
        for starting in self._starting:
            starting.close()
        self._broker.end_lab(self._lab)


def _switches_at(wire: Wire) -> dict[str, None]:
    return dict.fromkeys(end.switch for end in wire.ends)


def _is_shared(place: str) -> bool:
    return any(f"{place}/".startswith(f"{one}/") for one in SHARED)
