"""The docker backend: nodes that are containers, as the harness sees them through its broker."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from harness.nodes import shells
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import Answer, Channel
from harness.nodes.programs import spawn
from harness.nodes.remote import RemoteNode

ENGINE_BOUND = 120.0
"""Seconds that an engine may take for what it is asked."""
PING_BOUND = 5.0
HERE = "unix://"
"""An engine with such an address is on this machine, and its containers have this machine's clock.
"""
REMOVAL_BOUND = 60.0
"""Seconds that the broker may take at the end to remove what it made."""


class EngineUnavailable(NodeError):
    """No container engine can be used; the message says why, and what to do."""


class EngineInfo(NamedTuple):
    """What an engine says of itself."""

    url: str
    version: str
    podman: bool


class Attachment(NamedTuple):
    """A container's place in a network."""

    network: str
    """Its id."""
    address: str
    """With its length: ``198.18.3.2/28``."""


class DockerNode(RemoteNode):
    """A node that is a container."""

    def __init__(
        self, name: str, channel: Channel, container: str, broker: Broker, fate: socket.socket
    ) -> None:
        super().__init__(name, channel, pid=1)
        self.container = container
        """The container's name."""
        self._broker, self._fate = broker, fate
        self._beside: list[DockerNode] = []
        """Containers of other images, whose agents have been this node's :attr:`programs`."""
        url = broker.engine.url
        self.clock = None if url.startswith(HERE) else url
        channel.last_words = self._last_words

    def go_on_in(self, other: DockerNode) -> None:
        """Have the image of a container that was started beside this one: what is run, read and
        written from now on is there. What runs goes on, and so do interfaces, hosts and captures.
        The other container is this node's own from now on."""
        try:
            found = self.channel.ask("spaces", {}, what="find its network namespaces").result()
            # In both containers the agent of the first one is process 1.
            spaces = {name: f"/proc/1/fd/{fd}" for name, fd in found["spaces"].items()}
            other.channel.ask("space_take", {"spaces": spaces}, what="take over its hosts").result()
        except BaseException:
            other.close()
            raise
        self._beside.append(other)

    @property
    def programs(self) -> Channel:
        """See :attr:`RemoteNode.programs`."""
        return self._beside[-1].channel if self._beside else self.channel

    def _last_words(self) -> str:
        if self.channel.lost is None:
            refused = self._broker.ping()
            return f"; {refused}" if refused else ""
        ready, _, _ = select.select([self._fate], [], [], PING_BOUND)
        said = self._fate.recv(1 << 16).decode() if ready else ""
        return f"; {self.container}: {said}" if said else ""

    def shell_argv(self, host: str | None = None, terminal: str = "") -> list[str]:
        """A command for this machine that opens a shell in the container, or in the network
        namespace of one of its hosts (docker-exec(1), nsenter(1)). See
        :meth:`RemoteNode.shell_argv`."""
        found = self.channel.ask("spaces", {}, what="find its network namespaces").result()
        if host is not None and host not in found["spaces"]:
            raise NodeError(f"{self.name}: there is no host {host!r}")
        place = self.name if host is None else f"{host}@{self.name}"
        enter = [] if host is None else ["nsenter", f"--net=/proc/1/fd/{found['spaces'][host]}"]
        inside = self._beside[-1].container if self._beside else self.container
        engine = ["docker", "-H", self._broker.engine.url, "exec", "-it", inside]
        return [*engine, *enter, *shells.argv(place, terminal)]

    def close(self) -> None:
        """End the container and everything in it. Idempotent."""
        for other in self._beside:
            other.close()
        super().close()
        self._fate.close()


class Starting:
    """A container that is being started."""

    def __init__(
        self,
        name: str,
        answer: Answer,
        broker: Broker,
        stream: socket.socket,
        fate: socket.socket,
    ) -> None:
        self._name, self._answer, self._broker = name, answer, broker
        self._stream, self._fate = stream, fate

    def result(self) -> DockerNode:
        """The node, once its agent serves. To be asked for once; raises :class:`NodeError`."""
        try:
            container = self._answer.result()
        except BaseException:
            self.close()
            raise
        channel = Channel(self._name, self._stream)
        node = DockerNode(self._name, channel, container, self._broker, self._fate)
        try:
            channel.ask("hello", {}, what="greet").result()
        except BaseException:
            node.close()
            raise
        return node

    def close(self) -> None:
        """Give it up. Idempotent."""
        self._stream.close()
        self._fate.close()


class Broker:
    """The broker's process, seen from the harness. Nothing that is made through it outlives it."""

    def __init__(self) -> None:
        """Start it, and do not wait until it has found an engine: :attr:`engine` does."""
        ours, theirs = socket.socketpair()
        self._hand, hand = socket.socketpair()
        with theirs, hand:
            fds = [theirs.fileno(), hand.fileno()]
            self._process = spawn("harness.nodes.containers.broker", fds, fds)
        self._channel = Channel("the broker", ours)
        what = "find a container engine"
        self._greeting = self._channel.ask("engine", {}, what=what, bound=ENGINE_BOUND)

    def _ask(self, op: str, fields: Mapping[str, Any], what: str) -> Answer:
        """Ask the broker for something, once there is an engine. Raise :class:`NodeError`."""
        assert self.engine
        return self._channel.ask(op, dict(fields), what=what, bound=ENGINE_BOUND)

    @cached_property
    def engine(self) -> EngineInfo:
        """The engine. Raise :class:`EngineUnavailable`."""
        try:
            return EngineInfo(**self._greeting.result())
        except NodeLost:
            raise
        except NodeError as error:
            raise EngineUnavailable(_reason(error)) from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ping(self) -> str:
        """Why the engine does not answer any more; empty when it does."""
        try:
            self._ask("ping", {}, "see whether the engine answers").result(PING_BOUND)
        except NodeError as error:
            return f"{self.engine.url} does not answer either: {_reason(error)}"
        return ""

    def image(self, name: str) -> dict[str, str] | None:
        """The labels of an image that the engine has; None when it has none of that name."""
        found = self._ask("image", {"name": name}, f"look for image {name}").result()
        return None if found is None else found["labels"]

    def make_networks(self, lab: str, wires: Sequence[Mapping[str, Any]]) -> list[list[Attachment]]:
        """Make a network for each of ``wires`` (``name``, ``mtu``, and how many containers will be
        its ``ends``). Return the places in each."""
        request = {"lab": lab, "wires": list(wires)}
        made = self._ask("networks", request, "make networks").result()
        return [
            [Attachment(network, address) for address in addresses] for network, addresses in made
        ]

    def start_node_soon(
        self,
        lab: str,
        name: str,
        image: str,
        at: Sequence[Attachment] = (),
        *,
        tun: bool,
        shared: Sequence[str] = (),
        beside: DockerNode | None = None,
    ) -> Starting:
        """Begin to start a container, at these places of networks; ``tun``: with /dev/net/tun.

        ``shared`` are directories that a container has which is started ``beside`` it: that one
        also has the same network, and the same processes.
        """
        ours, theirs = socket.socketpair()
        fate, told = socket.socketpair()
        with theirs, told, suppress(OSError):
            # That the broker has ended is told by the request.
            socket.send_fds(self._hand, [b"."], [theirs.fileno(), told.fileno()])
        request = {
            "lab": lab,
            "name": name,
            "image": image,
            "networks": [list(place) for place in at],
            "shared": list(shared),
            "beside": None if beside is None else beside.container,
            "tun": tun,
        }
        answer = self._ask("start", request, f"start a container for {name}")
        return Starting(name, answer, self, ours, fate)

    def end_lab(self, lab: str) -> None:
        """Have all that is left of a lab removed; not waited for."""
        if self._channel.lost is None:
            self._ask("end_lab", {"lab": lab}, f"remove what is left of {lab}")

    def close(self) -> None:
        """End the broker, once it has removed all that it made. Idempotent."""
        self._channel.close()
        self._hand.close()
        try:
            self._process.wait(timeout=REMOVAL_BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _reason(error: NodeError) -> str:
    """What the broker said, without who asked whom for what."""
    return str(error).partition(": cannot ")[2].partition(": ")[2] or str(error)
