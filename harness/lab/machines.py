"""The place of a lab whose switches are virtual machines."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harness.images.packed import pack
from harness.images.templates import Template
from harness.lab.errors import LabError
from harness.lab.plan import Plan, Wire
from harness.lab.sites import Carried, set_up_ports
from harness.lab.stages import running
from harness.nodes import disk, vm, vmroot
from harness.nodes.base import Pending
from harness.nodes.channel import Channel
from harness.nodes.impairment import Impairment
from harness.nodes.programs import spawn, started_by_main_thread
from harness.nodes.remote import RemoteNode
from harness.nodes.vm import Cable, StartingVm, VmNode
from harness.polling import eventually

if TYPE_CHECKING:
    from harness.images import Image
    from harness.ovs.daemons import Running

RECEIVED_BOUND = 5.0
"""Seconds within which a card has handed over what it was given."""
SPARE = 1024
"""MiB of the machine's memory that are left to others."""


class MachineSite:
    """Clones of templates, whose network cards are joined by a relay."""

    def __init__(
        self,
        plan: Plan,
        template: Callable[[int], Template],
        booted: Callable[[Image | None, int], Template],
    ) -> None:
        """``template`` finds the template with so many network cards; ``booted`` the one of a
        machine that has just booted, perhaps from another image."""
        self.running: Running | None = None
        self._plan, self._template, self._booted = plan, template, booted
        self._starting: list[StartingVm] = []
        self._nodes: dict[str, VmNode] = {}
        self._without_power: set[str] = set()
        self._images: dict[str, Image] = {}
        """Those of nodes that have another one than at first."""
        self._wires = [wire for wire in plan.wires.values() if wire.ends]
        self._cards: dict[str, list[str]] = {name: [] for name in plan.switches}
        """The underlays' interfaces at each switch, in the order of its cards."""
        self._relay: _Relay | None = None

    def start_nodes(self) -> Iterator[tuple[str, RemoteNode]]:
        """See :class:`~harness.lab.sites.Site`. Raise :class:`LabError` when there is not memory
        enough for all of them."""
        inner: list[list[socket.socket]] = []
        cables: dict[str, list[Cable]] = {name: [] for name in self._cards}
        try:
            for wire in self._wires:
                inner.append([])
                for end in wire.ends:
                    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                    inner[-1].append(ours)
                    cables[end.switch].append(Cable(end.interface, wire.mtu, theirs))
                    self._cards[end.switch].append(end.interface)
            made = self._template(max(map(len, cables.values()), default=0))
            self.running = running(made.known)
            _refuse_too_many(len(cables), made.machine.memory)
            for name, plugs in cables.items():
                # One by one: if the next can't be started, those before it have to be ended.
                self._starting.append(vm.clone(name, made.machine, made.path, plugs))
            if inner:
                self._relay = _Relay(inner)
        except BaseException:
            # Those that a machine was given it closes too, when it is ended.
            for cable in chain.from_iterable(cables.values()):
                cable.end.close()
            raise
        finally:
            for plug in chain.from_iterable(inner):
                plug.close()
        while self._starting:
            node = self._starting[0].result()
            del self._starting[0]
            self._nodes[node.name] = node
            yield node.name, node

    def join(self) -> None:
        """The cables are plugged in; see :class:`~harness.lab.sites.Site`."""
        set_up_ports(self._plan.wires.values(), self._nodes)

    def carried(self) -> Pending | None:
        """See :class:`~harness.lab.sites.Site`."""
        return None if self._relay is None else _Counts(self._wires, self._relay.carried())

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        assert self._relay is not None
        change = {"do": "set", "name": interface, "up": up}
        number, wire, place = self._end(switch, interface)
        if not up:
            self._relay.plug(number, place, up=False)
            self._received_all(switch, interface)
        self._nodes[switch].change_links([change]).result()
        # What comes to a card without a carrier is lost, and nobody counts it.
        self._set_carrier_behind(wire, place, up=up)
        if up:
            self._relay.plug(number, place, up=True)

    def _set_carrier_behind(self, wire: Wire, place: int, *, up: bool) -> None:
        """Let the other end of an underlay, if there is just one, have a carrier, or none."""
        if len(wire.ends) != 2 or wire.ends[1 - place].switch in self._without_power:
            return
        other = wire.ends[1 - place]
        card = self._cards[other.switch].index(other.interface)
        self._nodes[other.switch].set_carrier(card, up=up)

    def cut_power(self, switch: str) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        if self.running is None:
            raise LabError(f"{switch} keeps nothing on a disk: with the dummy datapath it has none")
        self._nodes[switch].cut_power()
        self._without_power.add(switch)
        for number, wire, place in self._ends_of(switch):
            assert self._relay is not None
            self._relay.plug(number, place, up=False)
            for other in wire.ends:
                if other.switch not in self._without_power:
                    self._received_all(other.switch, other.interface)
            self._set_carrier_behind(wire, place, up=False)

    def boot(self, switch: str) -> RemoteNode:
        """See :class:`~harness.lab.sites.Site`."""
        node, cards = self._nodes[switch], self._cards[switch]
        made = self._booted(self._images.get(switch), len(cards))
        node.boot(made.machine, made.path).result()
        disk.mount(node)
        self._without_power.remove(switch)
        for number, wire, place in self._ends_of(switch):
            assert self._relay is not None
            self._relay.renew(number, place)
            others = [end.switch for end in wire.ends if end.switch != switch]
            if len(others) == 1 and others[0] in self._without_power:
                node.set_carrier(cards.index(wire.ends[place].interface), up=False)
            self.set_link(switch, wire.ends[place].interface, up=True)
        return node

    def _ends_of(self, switch: str) -> Iterator[tuple[int, Wire, int]]:
        """The ends of underlays at a switch: the underlay's number, itself, and which end it is."""
        for number, wire in enumerate(self._wires):
            for place, end in enumerate(wire.ends):
                if end.switch == switch:
                    yield number, wire, place

    def impair(self, underlay: str, impairment: Impairment | None, seed: int) -> None:
        """See :class:`~harness.lab.sites.Site`."""
        names = [wire.name for wire in self._wires]
        if self._relay is None or underlay not in names:
            raise LabError(f"no underlay {underlay!r} joins switches; there are: {names}")
        number = names.index(underlay)
        self._relay.impair(number, impairment, seed)
        # What is lost afterwards was lost afterwards: what came through before is all there.
        for end in self._wires[number].ends:
            self._received_all(end.switch, end.interface)

    def change_image(self, switch: str, image: Image, keep: Sequence[str]) -> None:
        """See :class:`~harness.lab.sites.Site`: the kernel is the one before until the node boots
        again, and then that of the image."""
        if image.stored is None:
            raise LabError(f"a virtual machine can't become {image.name}, which has no kernel")
        vmroot.change(self._nodes[switch], [pack(layer) for layer in image.lower], keep)
        self._images[switch] = image

    def _end(self, switch: str, interface: str) -> tuple[int, Wire, int]:
        """The number of an underlay, the underlay, and which of its ends a physical port is. Raise
        :class:`LabError` when it is none."""
        for number, wire, place in self._ends_of(switch):
            if wire.ends[place].interface == interface:
                return number, wire, place
        raise LabError(f"{switch} has no physical port {interface!r}")

    def _received_all(self, switch: str, interface: str) -> None:
        """Wait until a machine has received what the relay has given its card so far. (A card that
        is set down keeps what is in it until it is set up again.)"""
        counter = [f"/sys/class/net/{interface}/statistics/rx_packets"]
        carried = self.carried()
        assert carried is not None
        went = carried.result()[switch, interface].went
        node = self._nodes[switch]
        eventually(
            lambda: int(node.read_files(counter)[0] or 0),
            lambda received: received >= went,
            within=RECEIVED_BOUND * node.patience,
            what=f"all {went} frames received at {interface} of {switch}",
        )

    def close(self) -> None:
        """End the relay, and machines that nobody has been given."""
        for starting in self._starting:
            starting.close()
        if self._relay is not None:
            self._relay.close()


def _refuse_too_many(machines: int, memory: int) -> None:
    """A machine takes little of what it has, but it may take all of it."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
    }
    available = sizes["MemAvailable"] >> 10
    if available < machines * memory + SPARE:
        raise LabError(
            f"{machines} virtual machines may take {machines * memory} MiB, and {SPARE} MiB are "
            f"kept free, but of this machine's memory only {available} MiB are available"
        )


class _Relay:
    """The relay's process, seen from the harness."""

    def __init__(self, underlays: list[list[socket.socket]]) -> None:
        ours, theirs = socket.socketpair()
        fds = [[plug.fileno() for plug in ends] for ends in underlays]
        with theirs:
            words = [",".join(map(str, ends)) for ends in fds]
            self._process = spawn(
                "harness.nodes.relay",
                [theirs.fileno(), int(started_by_main_thread()), *words],
                [theirs.fileno(), *chain.from_iterable(fds)],
            )
        self._channel = Channel("relay", ours)

    def carried(self) -> Pending:
        return self._channel.ask("carried", {}, what="count what underlays carried")

    def plug(self, underlay: int, end: int, *, up: bool) -> None:
        request = {"underlay": underlay, "end": end, "up": up}
        self._channel.ask("plug", request, what="plug a cable").result()

    def renew(self, underlay: int, end: int) -> None:
        request = {"underlay": underlay, "end": end}
        self._channel.ask("renew", request, what="plug another machine in").result()

    def impair(self, underlay: int, impairment: Impairment | None, seed: int) -> None:
        request = {"underlay": underlay, "impairment": impairment, "seed": seed}
        self._channel.ask("impair", request, what="make a wire good or bad").result()

    def close(self) -> None:
        self._channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Counts:
    """What a relay counted, by switch and interface."""

    def __init__(self, wires: list[Wire], answer: Pending) -> None:
        self._wires, self._answer = wires, answer

    def result(self, timeout: float | None = None) -> dict[tuple[str, str], Carried]:
        counted = self._answer.result(timeout)
        return {
            (end.switch, end.interface): Carried(*counts)
            for wire, ends in zip(self._wires, counted, strict=True)
            for end, counts in zip(wire.ends, ends, strict=True)
        }
