"""The broker: the process between the harness and a container engine. Run as a program, never
imported by the harness itself.

It is an agent with a few operations of its own. What it makes is labelled as its own. When the
harness ends, for whatever reason, the broker removes all of that, and ends; when the broker ends
without having done so, containers end with their streams, and the next broker removes the rest.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import docker

from harness.agent.agent import Agent
from harness.agent.carried import BOOT, program, shipped
from harness.agent.requests import Operations, Request
from harness.agent.side_by_side import SideBySide
from harness.nodes.containers import labels, networks, removal
from harness.nodes.containers.engine import Engine, EngineError
from harness.nodes.containers.pumps import Pump

CAPABILITIES = (
    "SYS_ADMIN",  # network namespaces for hosts
    "NET_ADMIN",  # interfaces
    "NET_RAW",  # packet sockets
    "IPC_LOCK",  # ovs-vswitchd locks its memory
    "SYS_NICE",  # and has a high priority
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID"),  # other users
    *("NET_BIND_SERVICE", "NET_BROADCAST"),  # a daemon that becomes another user keeps these
)
"""What a node does as root (capabilities(7)), and nothing else."""
READ_ONLY = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger")
"""What engines have read only in /proc by default, but for /proc/sys, where network namespaces have
their settings."""
TUN = "/dev/net/tun"
FATE_BOUND = 5.0
"""Seconds within which an engine says how a container ended whose stream has."""
STATUS_KILLED = 137


class Wanted(NamedTuple):
    """A container to be started, as :meth:`harness.nodes.containers.client.Broker.start_node` asks
    for it."""

    lab: str
    name: str
    image: str
    networks: list[tuple[str, str]]
    """The id of each, and the address in it."""
    shared: list[str]
    """Directories that containers beside it have too: volumes, at first with what the image has."""
    beside: str | None
    """The container whose network, processes and shared directories it shares; its image is all
    that it has of its own."""
    tun: bool


class Running:
    """A container that has been started, or is about to be."""

    def __init__(self, client: docker.APIClient, identity: str) -> None:
        """Attach a container that is about to be started; the client is its own from now on."""
        self._client, self._identity = client, identity
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        # Kept as the SDK gives it: it closes the connection when it goes.
        self._stream = client.attach_socket(identity, params=params)
        self.socket: socket.socket = getattr(self._stream, "_sock", self._stream)
        self.status: int | None = None
        self._removed = threading.Event()
        threading.Thread(target=self._await_end, daemon=True).start()

    def _await_end(self) -> None:
        with suppress(Exception):
            found = self._client.wait(self._identity, timeout=None, condition="removed")
            self.status = found["StatusCode"]
        self._removed.set()

    def fate(self, stderr: bytes) -> str:
        """How it ended, in words."""
        self._removed.wait(FATE_BOUND)
        if self.status is None:
            return "the container has ended, and the engine does not say how"
        said = stderr.decode(errors="replace").strip()
        words = f"the container ended with status {self.status}"
        if self.status == STATUS_KILLED:
            words += ": it was killed (`docker kill`, or memory had run out)"
        return f"{words}; it said: {said}" if said else words

    def close(self) -> None:
        """Let go of what leads to it."""
        self._stream.close()
        self._client.close()


class Broker:
    """What an agent can do that has an engine."""

    def __init__(self, agent: Agent, hand: socket.socket) -> None:
        self._loop, self._hand = agent.loop, hand
        self._side_by_side = SideBySide(agent.loop)
        self._threads: list[threading.Thread] = []
        self._engine: Engine | None = None
        self._labels = labels.of_this_run()
        self._numbers = count(1)
        self.operations: Operations = {
            "engine": self.tell_engine,
            "ping": self.ping,
            "image": self.tell_image,
            "networks": self.make_networks,
            "start": self.start,
            "end_lab": self.end_lab,
        }

    # -- what is asked for

    def _do(self, request: Request, job: Callable[[], Any], then: Callable[[Any], Any]) -> None:
        """Do a job in a thread of its own, and answer with what ``then`` makes of its result."""

        def finish(results: list[Any]) -> None:
            (result,) = results
            if isinstance(result, EngineError):
                request.fail(str(result))
            elif isinstance(result, Exception):
                request.refuse(result)
            else:
                request.attempt(lambda: request.reply(then(result)))

        self._begin(job, finish)

    def _begin(self, job: Callable[[], Any], finish: Callable[[list[Any]], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads += self._side_by_side.do([job], finish)

    def tell_engine(self, request: Request) -> None:
        """Find the engine, and say what it is."""

        def job() -> dict[str, Any]:
            self._engine = engine = Engine()
            threading.Thread(target=self._remove_left_over, daemon=True).start()
            return {
                "url": engine.address.url,
                "version": engine.version,
                "podman": engine.is_podman,
            }

        self._do(request, job, lambda found: found)

    def ping(self, request: Request) -> None:
        """Whether the engine still answers."""
        self._do(request, self._explained(lambda client: client.ping()), lambda _: None)

    def tell_image(self, request: Request) -> None:
        """The id and the labels of an image; null when the engine has none of that name."""

        def job(client: docker.APIClient) -> dict[str, Any] | None:
            try:
                found = client.inspect_image(request["name"])
            except docker.errors.ImageNotFound:
                return None
            return {"id": found["Id"], "labels": (found["Config"] or {}).get("Labels") or {}}

        self._do(request, self._explained(job), lambda found: found)

    def make_networks(self, request: Request) -> None:
        """Make networks for a lab. Answer with their ids and addresses."""

        def job(client: docker.APIClient) -> list[networks.Network]:
            mine = {**self._labels, labels.LAB: request["lab"]}
            return [
                networks.make(
                    client,
                    self._name(wire["name"]),
                    mtu=wire["mtu"],
                    ends=wire["ends"],
                    labels=mine,
                )
                for wire in request["wires"]
            ]

        self._do(request, self._explained(job), lambda made: made)

    def start(self, request: Request) -> None:
        """Start a container whose agent serves the next handed socket. The other handed one gets a
        few words when the container has ended by itself. Answer with its name."""
        _data, handed, _flags, _address = socket.recv_fds(self._hand, 1, 2)
        stream, fate = (socket.socket(fileno=fd) for fd in handed)
        wanted = Wanted(**request.fields)
        name = self._name(wanted.name)

        def serve(running: Running) -> str:
            Pump(self._loop, running.socket, stream, lambda pump: self._ended(running, pump, fate))
            return name

        def job(client: docker.APIClient) -> Running:
            try:
                return self._start(client, name, wanted)
            except BaseException:
                stream.close()
                fate.close()
                raise

        self._do(request, self._explained(job), serve)

    def end_lab(self, request: Request) -> None:
        """Remove the containers, networks and volumes of a lab."""
        lab = request["lab"]
        job = self._explained(lambda client: removal.remove(client, f"{labels.LAB}={lab}"))
        self._do(request, job, lambda _: None)

    # -- how it is done

    def _explained(self, job: Callable[[docker.APIClient], Any]) -> Callable[[], Any]:
        """A job with a client of its own, whose errors are told in words that help."""
        engine = self._engine

        def explained() -> Any:
            if engine is None:
                raise EngineError("no engine has been found yet")
            with engine.explained(), closing(engine.client()) as client:
                return job(client)

        return explained

    def _name(self, what: str) -> str:
        """Of a container or network: of the letters that engines take."""
        plain = re.sub(r"[^a-zA-Z0-9_.-]+", "-", what)
        return f"ovs-harness-{self._labels[labels.RUN]}-{next(self._numbers)}-{plain}"

    def _start(self, client: docker.APIClient, name: str, wanted: Wanted) -> Running:
        networking = None
        if wanted.networks:
            network, address = wanted.networks[0]
            settings = {network: networks.endpoint(client, address)}
            networking = client.create_networking_config(settings)
        made = client.create_container(
            wanted.image,
            entrypoint=["python3", "-I", "-c", BOOT],
            command=["node"],
            name=name,
            # A container beside another has the name of that.
            hostname=wanted.name if wanted.beside is None else None,
            user="0:0",
            working_dir="/",
            stdin_open=True,
            labels={**self._labels, labels.LAB: wanted.lab, labels.SWITCH: wanted.name},
            healthcheck={"Test": ["NONE"]},
            host_config=self._host_config(client, wanted),
            networking_config=networking,
        )["Id"]
        for network, address in wanted.networks[1:]:
            client.connect_container_to_network(
                made, network, ipv4_address=address.partition("/")[0]
            )
        assert self._engine is not None
        running = Running(self._engine.client(), made)
        client.start(made)
        running.socket.sendall(shipped(program()))
        return running

    def _host_config(self, client: docker.APIClient, wanted: Wanted) -> dict[str, Any]:
        assert self._engine is not None
        config: dict[str, Any] = client.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            devices=[f"{TUN}:{TUN}:rw"] if wanted.tun else [],
            # Its output is the agent's side of a conversation, and nothing to be kept.
            log_config=docker.types.LogConfig(type="none"),
            security_opt=["unmask=/proc/sys"] if self._engine.is_podman else [],
            **(self._apart(wanted) if wanted.beside is None else _beside(wanted.beside)),
        )
        if not self._engine.is_podman:
            config["ReadonlyPaths"] = list(READ_ONLY)
        return config

    def _apart(self, wanted: Wanted) -> dict[str, Any]:
        """What a container has for itself."""
        labelled = {**self._labels, labels.LAB: wanted.lab}
        return {
            "ipc_mode": "shareable",
            "mounts": [
                docker.types.Mount(place, None, type="volume", labels=labelled)
                for place in wanted.shared
            ],
            "network_mode": wanted.networks[0][0] if wanted.networks else "none",
        }

    def _ended(self, running: Running, pump: Pump, fate: socket.socket) -> None:
        """Tell the harness what has become of a container, if it did not end it itself."""

        def tell(results: list[Any]) -> None:
            with suppress(OSError):
                fate.send(str(results[0]).encode())
            fate.close()
            pump.harness.close()
            running.close()

        job = partial(running.fate, bytes(pump.output.stderr))
        self._begin(job, tell)

    # -- what is left

    def _remove_left_over(self) -> None:
        """Remove what brokers have left that were killed."""
        assert self._engine is not None
        with suppress(docker.errors.DockerException):
            removal.remove(self._engine.client(), labels.BROKER, labels.is_left_over)

    def close(self) -> None:
        """Remove everything that was made, also what was being made just now."""
        for thread in self._threads:
            thread.join()
        if self._engine is not None:
            with suppress(EngineError):
                mine = f"{labels.RUN}={self._labels[labels.RUN]}"
                self._explained(lambda client: removal.remove(client, mine))()
            self._engine.close()


def _beside(container: str) -> dict[str, Any]:
    """What a container shares with another one."""
    other = f"container:{container}"
    return {
        "ipc_mode": other,
        "network_mode": other,
        "pid_mode": other,
        "volumes_from": [container],
    }


def main(channel: int, hand: int) -> None:
    """Serve ``channel`` until it ends."""
    # Its user's Ctrl-C is for the harness, which ends us when it has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent = Agent(socket.socket(fileno=channel))
    broker = Broker(agent, socket.socket(fileno=hand))
    agent.offer(broker.operations)
    try:
        agent.serve()
    finally:
        broker.close()
        # Threads that still wait for an engine are not waited for.
        os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
