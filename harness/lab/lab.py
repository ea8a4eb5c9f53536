"""One live topology, and the verbs that a scenario uses on it."""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from harness.faults import CHOICES, Fault, draw
from harness.faults.processes import switch_works
from harness.lab import neighbours, surprises, wiring
from harness.lab import plan as plans
from harness.lab.drain import Drain
from harness.lab.engine import Engine
from harness.lab.errors import LabError
from harness.lab.host import Host
from harness.lab.recording import Recorder, history_of
from harness.lab.surprises import Surprise
from harness.lab.traffic import Traffic
from harness.nodes.base import Completed, NodeError
from harness.nodes.remote import RemoteNode
from harness.ovs.switch import Switch
from harness.ovs.tasks import gather
from harness.topology import Topology, TopologySpec
from harness.traffic.batch import Batch, Sent
from harness.traffic.frames import Tag, from_scapy, probe_frame
from harness.traffic.history import History
from harness.traffic.matrix import MatrixPlan, ProbeMatrix

if TYPE_CHECKING:
    from scapy.packet import Packet

    from harness.images import Hold
    from harness.lab.environment import Environment
    from harness.nodes.impairment import Impairment

TAKEN_BOUND = 5.0
"""Seconds within which switches take the frames that have reached them."""
BROADCAST = "ff:ff:ff:ff:ff:ff"


class Lab:
    """A topology on real switches. Use it as a context manager, or through the fixture ``lab``."""

    def __init__(
        self,
        topology: Topology | TopologySpec,
        environment: Environment,
        *,
        seed: int = 0,
    ) -> None:
        self.spec = topology.freeze() if isinstance(topology, Topology) else topology
        self.target = environment.target
        self.seed = seed
        self.random = random.Random(seed)
        """For everything that a scenario draws: it repeats with the seed of the run."""
        self.measurements: dict[str, object] = {}
        self.batches: list[Batch] = []
        """Every batch so far, for the history."""
        self.recorder = Recorder()
        """What was done to switches, and their states around that."""
        self.operation = self.recorder.operation
        self.expected: set[Surprise] = set()
        """What :meth:`expect` was told."""
        self.expected_logs: set[str] = set()
        self._plan = plans.make(self.spec)
        self._site = environment.site(self._plan)
        self._nodes: dict[str, RemoteNode] = {}
        """Those that have power, by switch. The engine and its drain see the same."""
        self._without_power: dict[str, RemoteNode] = {}
        self._switches: dict[str, Switch] = {}
        self._images: dict[str, str] = {}
        """What switches run that do not run the target's image any more."""
        self._holds: list[Hold] = []
        self._impaired: dict[str, Impairment | None] = {}
        self._verified = 0
        self._verified_gaps = 0
        self._closed = False

    # -- life

    def start(self) -> Lab:
        """Build everything. Raises what went wrong, and leaves nothing behind then."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        starting = []
        waiting = []
        for number, (name, node) in enumerate(self._site.start_nodes()):
            self._nodes[name] = node
            planned = self._plan.switches[name]
            mark = partial(self.recorder.operation, switch=name)
            switch = Switch(node, planned.spec, self.target.ovs_datapath, mark)
            self._switches[name] = switch
            if self._site.running is not None:
                skipped = number * self._plan.most_rows
                starting.append(switch.take_over_soon(self._site.running, skipped))
            else:
                starting.append(switch.start_soon())
            waiting += wiring.add_hosts(planned, node)
        self._site.join()
        drain = Drain(self._nodes, self._switches, self._site.carried)
        run = self.random.getrandbits(32)
        self.engine = Engine(self._plan, self._nodes, drain, run=run)
        opening = self.engine.open_soon(self._nodes, inside=False)
        for answer in (*waiting, *opening):
            answer.result()
        gather(starting)
        gather([switch.configure_soon() for switch in self._switches.values()])
        self._furnish(*self._nodes)
        drain.finish()
        self.engine.watch_gaps()

    def _furnish(self, *switches: str) -> None:
        """Do what a node does at last when it boots, and make ready to send and to capture."""
        for name in switches:
            for answer in wiring.set_up_own_ports(self._plan.switches[name], self._nodes[name]):
                answer.result()
        for opening in self.engine.open_soon(switches, inside=True):
            opening.result()
        self.engine.open_ports(switches)
        for name in switches:
            for route in self._plan.switches[name].spec.routes:
                self._nodes[name].run(["ip", "route", "add", *shlex.split(route)])
        self.meet_neighbours()

    def meet_neighbours(self) -> None:
        """Let tunnel ends find each other (see :mod:`harness.lab.neighbours`)."""
        neighbours.meet(self._plan, self._nodes, self._switches)

    def close(self) -> None:
        """End every switch and everything that was made for the lab. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for node in (*self._nodes.values(), *self._without_power.values()):
            node.close()
        self._site.close()
        for hold in self._holds:
            hold.close()

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- who is there

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts, and declared internal ports (as ``switch:port``), by name."""
        return {name: self.host(name) for name in self._plan.endpoints}

    def host(self, name: str) -> Host:
        """One host. Raise :class:`LabError` when there is none of that name."""
        endpoint = self._endpoint(name)
        return Host(endpoint, self.node(endpoint.switch))

    @property
    def switches(self) -> Mapping[str, Switch]:
        """All switches by name."""
        return dict(self._switches)

    def switch(self, name: str) -> Switch:
        """One switch. Raise :class:`LabError` when there is none of that name."""
        if name not in self._switches:
            raise LabError(_none_called("switch", name, self._switches))
        return self._switches[name]

    def node(self, name: str) -> RemoteNode:
        """The node that a switch lives in. Raise :class:`LabError` when it has no power."""
        self.switch(name)
        if name in self._without_power:
            raise LabError(f"{name} has no power")
        return self._nodes[name]

    def set_link(self, switch: str, interface: str, *, up: bool) -> None:
        """Set a physical port of a switch up or down. The port at the other end of its underlay, if
        there is just one, loses the carrier too, or gets it back."""
        self.switch(switch)
        self._site.set_link(switch, interface, up=up)

    def impair(self, underlay: str, impairment: Impairment | None) -> Impairment | None:
        """Make an underlay between virtual machines a bad wire, or (None) a good one again, and
        wait until the switches have taken what came through before; return what it was before.
        Raise :class:`LabError` where underlays are not carried by us."""
        self._site.impair(underlay, impairment, self.random.getrandbits(32))
        # One that hangs takes nothing: that is not waited for.
        self.engine.drain.absorb(time.monotonic() + TAKEN_BOUND)
        before, self._impaired[underlay] = self._impaired.get(underlay), impairment
        return before

    def change_image(self, switch: str, image: str, keep: Sequence[str]) -> str:
        """Have a switch's node run another image, built if need be; return the one before. The
        directories ``keep`` (absolute paths) and all that runs stay as they are: to upgrade a
        switch is more (:class:`~harness.faults.Upgrade`).

        Raise :class:`~harness.images.ImageError` when there is no such image, :class:`LabError`
        where a node can't change.
        """
        from harness.images import resolve

        self.switch(switch)
        found = resolve(image)
        self._holds.append(found.hold())
        self._site.change_image(switch, found, keep)
        before = self._images.get(switch, self.target.image)
        self._images[switch] = image
        return before

    def cut_power(self, switch: str) -> None:
        """Cut the power of a switch's node: what it had not written to its disk is lost, and its
        hosts end with it. Raise :class:`LabError` where nodes have none of their own, and when
        hosts there send in the background."""
        node = self.node(switch)
        self.engine.take_leave(switch)
        self._site.cut_power(switch)
        self.engine.lose(switch)
        self._without_power[switch] = node
        del self._nodes[switch]
        self._switches[switch].lost_power()

    def boot(self, switch: str) -> None:
        """Give the node power again. It boots from its disk, and makes its hosts, its switch and
        what else the topology says of it, but for the configuration: that is in the database."""
        if self._without_power.pop(switch, None) is None:
            raise LabError(f"{switch} has power")
        node = self._nodes[switch] = self._site.boot(switch)
        waiting = wiring.add_hosts(self._plan.switches[switch], node)
        for answer in (*waiting, *self.engine.open_soon([switch], inside=False)):
            answer.result()
        self._switches[switch].start()
        switch_works(self._switches[switch])
        self._furnish(switch)

    @property
    def commands(self) -> list[Completed]:
        """Every command that was run in any node."""
        nodes = (*self._nodes.values(), *self._without_power.values())
        return [done for node in nodes for done in node.commands]

    def _endpoint(self, name: str) -> plans.Endpoint:
        if name not in self._plan.endpoints:
            raise LabError(_none_called("host", name, self._plan.endpoints))
        return self._plan.endpoints[name]

    def place_of(self, name: str) -> tuple[Switch, str, str]:
        """The switch, bridge and port that a host is attached to."""
        endpoint = self._endpoint(name)
        return self._switches[endpoint.switch], endpoint.bridge, endpoint.port

    def mac(self, name: str) -> str:
        """The MAC address of a host or internal port."""
        endpoint = self._endpoint(name)
        if endpoint.mac:
            return endpoint.mac
        path = f"/sys/class/net/{endpoint.interface}/address"
        return self._nodes[endpoint.switch].read_file(path).decode().strip()

    # -- frames

    def probe(
        self,
        source: str,
        to: str | None = None,
        *,
        mac: str | None = None,
        vlan: int | Sequence[int | Tag] = (),
        count: int = 1,
        size: int = 64,
    ) -> Sent:
        """Send ``count`` frames of ``size`` bytes from one host, to the address of another
        (``to``), to any address (``mac``) or, with neither, to the broadcast address.

        ``vlan`` is what the host itself tags them with: a VLAN ID, or several IDs or tags from
        outermost to innermost; ``size`` counts them.
        """
        ledger = self.engine.ledger()
        frame = probe_frame(
            self.mac(source),
            mac or (self.mac(to) if to else BROADCAST),
            size=size,
            vlan=_tags(vlan),
        )
        flow = ledger.flow(source, frame, to=[to] if to else self._others(source))
        return self.judge(self.engine.exchange(ledger, [[(flow, count)]])).result(flow)

    def probe_all(self, *, size: int = 64) -> ProbeMatrix:
        """Send one broadcast from every host, then a unicast from each to each other one, and say
        who heard what."""
        ledger = self.engine.ledger()
        plan = MatrixPlan(ledger, {name: self.mac(name) for name in self._host_names()}, size=size)
        phases = [
            [(flow, 1) for flow in flows]
            for flows in (plan.broadcast.values(), plan.unicast.values())
        ]
        return ProbeMatrix(plan, self.judge(self.engine.exchange(ledger, phases)))

    def announce(self, *names: str) -> Batch:
        """Have hosts (all, when none is named) broadcast one frame each, so that the switches
        learn where they are."""
        ledger = self.engine.ledger()
        for name in names or self._host_names():
            frame = probe_frame(self.mac(name), BROADCAST)
            ledger.flow(name, frame, to=self._others(name))
        phase = [(flow, 1) for flow in ledger.flows]
        return self.judge(self.engine.exchange(ledger, [phase]))

    def send(
        self, source: str, frame: Packet | bytes, *, to: str | Iterable[str] = (), count: int = 1
    ) -> Sent:
        """Send a frame written with scapy. It gets an identity inside its payload, lengths and
        checksums right; ``bytes`` are sent exactly as they are, and known by their content.

        ``to`` are the hosts that are meant to hear it, for :attr:`Sent.leaked` and the like.
        """
        return self.send_all([(source, frame)], to=to, count=count).sent[0]

    def send_all(
        self,
        frames: Iterable[tuple[str, Packet | bytes]],
        *,
        to: str | Iterable[str] = (),
        count: int = 1,
    ) -> Batch:
        """Send several frames, each from its own host, in one batch with one drain."""
        ledger = self.engine.ledger()
        meant = [to] if isinstance(to, str) else list(to)
        for source, frame in frames:
            self._endpoint(source)
            ledger.flow(source, from_scapy(frame), to=meant)
        phase = [(flow, count) for flow in ledger.flows]
        return self.judge(self.engine.exchange(ledger, [phase]))

    def traffic(
        self, *, rate: float, pairs: Iterable[tuple[str, str]] | None = None, size: int = 64
    ) -> Traffic:
        """Frames in the background while something is done to a switch: a context manager.

        ``rate`` is in frames a second over all ``pairs`` (source, destination) together; when
        none are given, every ordered pair of hosts that can hear each other takes part.
        """
        return Traffic(self, rate=rate, pairs=pairs, size=size)

    def _host_names(self) -> list[str]:
        return [name for name, endpoint in self._plan.endpoints.items() if endpoint.is_host]

    def _others(self, source: str) -> list[str]:
        return [name for name in self._host_names() if name != source]

    # -- faults

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """A context in which something is done to a switch: it has begun when the context begins,
        and is undone when it ends, however it ends. The history has it as an operation.

        Raise :class:`~harness.faults.FaultError` when it can't be done; :class:`LabError` where
        there is no such switch, or where it has no power.
        """
        self.node(fault.switch)
        self.expect_logged(*fault.logged)
        marked = (
            nullcontext()
            if fault.marks_itself
            else self.operation(
                fault.name, switch=fault.switch, changes=fault.changes, **fault.arguments
            )
        )
        with marked, fault.applied(self):
            yield

    def draw_fault(self, *among: type[Fault]) -> Fault:
        """One of these kinds of faults (all, when none is named), done to one of the switches in
        one of its ways: drawn at random, the same with the same seed."""
        return draw(self.random, self.spec.switches, among or CHOICES)

    # -- judgement

    def expect(self, *surprises: Surprise) -> None:
        """Say that frames will arrive here that nobody sent (``strays``: a switch's own, say), or
        more than once (``duplicates``), or not as they were sent (``changed``). To who judges the
        history they may also overtake each other (``reordered``), or be flooded by a switch that
        has forgotten an address (``flooding``)."""
        self.expected.update(surprises)
        if "strays" in surprises:
            self.engine.gaps.expecting_strays = True

    def expect_logged(self, *patterns: str) -> None:
        """Say that daemons may log warnings and errors that one of these is found in (regular
        expressions): for who judges the history."""
        self.expected_logs.update(patterns)

    def history(self) -> History:
        """Everything that was done and seen so far, to be judged without the lab."""
        return history_of(self)

    def judge(self, batch: Batch) -> Batch:
        """Take note of a batch, so that :meth:`verify` looks at it and a bundle has it."""
        self.batches.append(batch)
        return batch

    def verify(self) -> None:
        """Raise when something is wrong that no scenario has to ask for: a switch's own kernel is
        broken (:class:`~harness.nodes.base.NodeError`, with what it said), a daemon died
        (:class:`~harness.ovs.errors.DaemonError`, with its log), frames arrived that nobody sent,
        twice, or changed (:class:`SurpriseError`), unless :meth:`expect` said so, or late, or that
        cannot be known (:class:`~harness.traffic.batch.Unknown`). Judges all that was sent and
        seen since the last time, between batches too; there, kernels may talk, and from the first
        command that is run in a host on, frames without an identity are taken for theirs."""
        for name, node in self._nodes.items():
            if node.kernel_trouble:
                raise NodeError(f"{name}: its kernel is broken: {node.kernel_trouble}")
        for switch in self._switches.values():
            switch.check_alive()
        self.engine.look_through_gap()
        gaps = self.engine.gaps.found
        fresh, self._verified = self.batches[self._verified :], len(self.batches)
        fresh_gaps, self._verified_gaps = gaps[self._verified_gaps :], len(gaps)
        surprises.check(fresh, fresh_gaps, self.expected, self.kernels)

    def kernels(self) -> set[bytes]:
        """The MAC addresses of all interfaces whose kernel may have something to say: those of
        hosts with addresses, and of all in the switches' own network namespaces."""
        found = {endpoint.mac for endpoint in self._plan.endpoints.values() if endpoint.addresses}
        for node in self._nodes.values():
            read = ["sh", "-c", "cat /sys/class/net/*/address"]
            # An interface that goes meanwhile has nothing to say.
            found.update(node.run(read, check=False).stdout.split())
        return {bytes.fromhex(mac.replace(":", "")) for mac in found if mac}

    def forget(self) -> None:
        """Let go of all that was captured and noted: a lab that stays up would keep it for the
        bundle of a failure."""
        self.batches.clear()
        self.engine.gaps.found.clear()
        self.recorder.forget()
        self._verified = self._verified_gaps = 0

    def record(self, name: str, value: object) -> None:
        """Keep a measurement; it goes into the results, and nothing is asserted about it."""
        self.measurements[name] = value


def _tags(vlan: int | Sequence[int | Tag]) -> list[Tag]:
    given = [vlan] if isinstance(vlan, int) else vlan
    return [Tag.of(one) if isinstance(one, int) else one for one in given]


def _none_called(what: str, name: str, there: Iterable[str]) -> str:
    return f"no {what} is called {name!r}; there are: {', '.join(sorted(there))}"
