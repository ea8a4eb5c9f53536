"""The keeper: a process that holds one lab and serves those who work in it.

Run as a program with the lab's name, its target and the descriptor of its listening socket; the
topology comes on standard input, as JSON. There is one thread, and one rule that keeps it whole:
what comes over a socket is only put on a list, at any time, also while an agent is waited for; the
main loop does what is on the list, one thing after the other. What a command prints and what is
captured goes out meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import msgspec

from harness.lab import Lab, LabError, Target
from harness.lab.environment import TargetUnavailable, environment, fabric
from harness.lab.plan import Endpoint
from harness.live import messages, places, probing
from harness.live.clients import Client
from harness.live.errors import LiveError
from harness.live.messages import done
from harness.nodes.base import NodeError
from harness.nodes.channel import Answer, pump, unwatch, watch
from harness.nodes.remote import RemoteNode
from harness.ovs.errors import DaemonError, OvsError
from harness.ovs.options import OVSDB_SERVER
from harness.topology import TopologySpec
from harness.traffic import ring
from harness.traffic.batch import Unknown

MOST_CLIENTS = 64
MOST_UNSENT = 16 << 20
"""Bytes that wait for a client before frames are left out of its capture."""
PATIENCE = 2.0
"""Seconds for a client to ask for the lab that it has started, and to take in the last answer."""

EXPECTED = (LabError, LiveError, NodeError, OvsError, TargetUnavailable, Unknown, ValueError)
"""Errors whose message is for the user."""


class Ended(BaseException):
    """The lab is to end now, whatever is under way."""


class Keeper:
    """One lab and its clients."""

    def __init__(
        self, name: str, target: Target, spec: TopologySpec, listener: socket.socket
    ) -> None:
        self.name = name
        self.target = target
        self.spec = spec
        self.lab: Lab | None = None
        self._version = ""
        self._listener = listener
        self._since = time.time()
        self._clients: list[Client] = []
        self._jobs: deque[Callable[[], None]] = deque()
        self._waiting: list[Client] = []
        self._farewells: list[tuple[Client, messages.Answer]] = []
        """Who is told what once nothing of the lab is left."""
        self._lost: set[str] = set()
        listener.setblocking(False)
        watch(listener, self._accept)

    # -- life

    def run(self) -> int:
        """Build the lab and serve until it is ended; the process's exit status."""
        status = 0
        try:
            # Whoever asked for the lab is to hear what becomes of it.
            self._pump_until(lambda: bool(self._waiting))
            lab = self._build()
            if lab is None:
                return status
            while not self._lost or len(self._lost) < len(lab.switches):
                while self._jobs:
                    self._jobs.popleft()()
                pump(None)
            _log("every node of the lab has ended")
            status = 1
        except Ended:
            pass
        except Exception:  # noqa: BLE001 - it goes to the log, and the lab has to be ended
            _log(traceback.format_exc())
            status = 1
        finally:
            self._end(keep_log=status != 0)
        return status

    def _build(self) -> Lab | None:
        try:
            found = environment(self.target)
            self._version = found.image.version
            lab = Lab(self.spec, found).start()
        except EXPECTED as error:
            failed = messages.Failed(str(error))
            self._farewells += [(client, failed) for client in self._waiting]
            return None
        for name in lab.switches:
            lab.node(name).on_end(partial(self._lost.add, name))
        self.lab = lab
        for client in self._waiting:
            client.gone = None
            client.send(done(self.info()))
        self._waiting.clear()
        return lab

    def _end(self, *, keep_log: bool) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        unwatch(self._listener)
        for client in self._clients:
            client.gone = None
            if not any(client is other for other, _answer in self._farewells):
                client.send(messages.Failed(f"the lab {self.name} has ended"))
        if self.lab is not None:
            self.lab.close()
        if fabric.cache_info().currsize:
            fabric().close()
        if not keep_log:
            places.log_path(self.name).unlink(missing_ok=True)
        places.socket_path(self.name).unlink(missing_ok=True)
        self._listener.close()
        for client, answer in self._farewells:
            client.send(answer)
        self._pump_until(lambda: not any(client.unsent for client in self._clients))
        for client in list(self._clients):
            client.close()

    @staticmethod
    def _pump_until(reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached() and time.monotonic() < deadline:
            pump(deadline - time.monotonic())

    # -- clients

    def _accept(self, _events: int) -> None:
        with suppress(OSError):
            stream, _address = self._listener.accept()
            self._clients = [client for client in self._clients if not client.closed]
            if len(self._clients) < MOST_CLIENTS:
                self._clients.append(Client(stream, self._asked))
            else:
                stream.close()

    def _asked(self, client: Client, data: bytes) -> None:
        try:
            request = messages.parse_request(data)
        except ValueError as error:
            client.send(messages.Failed(str(error)))
            return
        match request:
            case messages.Look():
                client.send(done(self.info()))
            case messages.Await() if self.lab is None:
                client.gone = _end_now
                self._waiting.append(client)
            case messages.Down():
                self._farewells.append((client, done()))
                _end_now()
            case _:
                self._jobs.append(partial(self._serve, client, request))

    def _serve(self, client: Client, request: messages.Request) -> None:
        if client.closed:
            return
        try:
            self._do(client, request)
        except EXPECTED as error:
            client.send(messages.Failed(str(error)))
        except Exception:  # noqa: BLE001 - whatever is asked, the lab stays up
            _log(traceback.format_exc())
            log = places.log_path(self.name)
            client.send(messages.Failed(f"a defect of the harness's own; {log} has the details"))

    # -- what clients ask

    def _do(self, client: Client, request: messages.Request) -> None:
        lab = self.lab
        assert lab is not None  # jobs are done once the lab is up
        match request:
            case messages.Exec(place, argv):
                self._exec(client, place, argv)
            case messages.Shell(place, terminal):
                node, host = self._place(place)
                client.send(done(node.shell_argv(host, terminal)))
            case messages.Probe(source, to):
                _look_again(lab)
                client.send(done(probing.probe(lab, source, to)))
            case messages.ProbeAll():
                _look_again(lab)
                client.send(done(probing.probe_all(lab)))
            case messages.Capture(points):
                self._capture(client, points)
            case messages.ReadState(switch):
                _look_again(lab)
                client.send(done(lab.switch(switch).state()))
            case _:
                client.send(done(self.info()))

    def info(self) -> messages.Info:
        """The lab as it stands."""
        return messages.Info(
            name=self.name,
            target=str(self.target),
            pid=os.getpid(),
            since=self._since,
            up=self.lab is not None,
            version=self._version,
            switches=[
                messages.SwitchInfo(
                    switch.name,
                    [bridge.name for bridge in switch.bridges],
                    switch.name in self._lost,
                )
                for switch in self.spec.switches
            ],
            hosts=[
                messages.HostInfo(
                    host.name, host.switch, host.bridge, host.mac, list(host.addresses)
                )
                for host in self._hosts().values()
            ],
            underlays=[underlay.name for underlay in self.spec.underlays],
        )

    def _hosts(self) -> dict[str, Endpoint]:
        if self.lab is None:
            return {}
        endpoints = self.lab.engine.plan.endpoints
        return {name: endpoint for name, endpoint in endpoints.items() if endpoint.is_host}

    def _place(self, name: str) -> tuple[RemoteNode, str | None]:
        """The node of a switch, or of a host with the name of its network namespace. A name that
        a switch and a host share is the switch's."""
        lab = self.lab
        assert lab is not None
        if name in lab.switches:
            return lab.node(name), None
        hosts = self._hosts()
        if name not in hosts:
            raise LiveError(
                f"no switch or host is called {name!r}; there are: "
                f"{', '.join(sorted(lab.switches))}; {', '.join(sorted(hosts))}"
            )
        return lab.node(hosts[name].switch), hosts[name].space

    def _exec(self, client: Client, place: str, argv: list[str]) -> None:
        node, host = self._place(place)
        if not argv or any("\0" in word for word in argv):
            raise LiveError("a command has a name, and no NUL character in it")
        answer = node.follow(
            argv, lambda descriptor, data: client.send(messages.Output(descriptor, data)), host=host
        )
        client.gone = lambda: self._jobs.append(partial(_give_up, node, answer))
        if client.closed:
            client.gone()
        answer.when_settled(partial(_tell_status, client, answer))

    def _capture(self, client: Client, points: list[str]) -> None:
        engine = self.lab.engine if self.lab is not None else None
        assert engine is not None
        known = {point.name for point in engine.points}
        for point in points:
            if point not in known:
                there = ", ".join(sorted(known))
                raise LiveError(f"no attachment point is called {point!r}; there are: {there}")
        wanted = [place for place in engine.places if not points or place[0] in points]
        watcher = _Watcher(client, wanted)
        engine.watchers.append(watcher)
        client.gone = lambda: engine.watchers.remove(watcher)
        client.send(messages.Places(wanted))


class _Watcher:
    """Passes on what is captured at some places to one client."""

    def __init__(self, client: Client, wanted: list[tuple[str, str | None]]) -> None:
        self._client = client
        self._index = {place: number for number, place in enumerate(wanted)}
        self._missed = 0

    def __call__(self, point: str, port: str | None, block: bytes) -> None:
        place = self._index.get((point, port))
        if place is None:
            return
        if self._client.unsent > MOST_UNSENT:
            self._missed += sum(1 for _ in ring.walk(block))
            return
        if self._missed:
            self._client.send(messages.Missed(self._missed))
            self._missed = 0
        self._client.send(messages.Frames(place, block))


def _look_again(lab: Lab) -> None:
    """Whoever works in the lab may have restarted a switch. Raise :class:`DaemonError`, with its
    log, for a daemon that died."""
    for switch in lab.switches.values():
        try:
            switch.check_alive()
        except DaemonError as died:
            switch.adopt()
            try:
                switch.pid()
                switch.pid(OVSDB_SERVER)
            except DaemonError:
                raise died from None


def _tell_status(client: Client, answer: Answer) -> None:
    client.gone = None
    client.send(_exit_status(answer))


def _exit_status(answer: Answer) -> messages.Done | messages.Failed:
    try:
        value: dict[str, Any] = answer.result()
    except NodeError as error:
        return messages.Failed(str(error))
    if value["too_much"]:
        return messages.Failed("the command printed more than is kept in memory and was killed")
    return done(value["status"])


def _give_up(node: RemoteNode, answer: Answer) -> None:
    # When the node has ended so has the command.
    with suppress(NodeError):
        node.end_followed(answer).result()


def _end_now(*_: object) -> NoReturn:
    raise Ended


def _log(text: str) -> None:
    print(text.strip(), file=sys.stderr, flush=True)


def main() -> int:
    """Keep a lab. Errors before it is served go to the log, which standard error is."""
    name, target, descriptor = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_now)
    listener = socket.socket(fileno=int(descriptor))
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=TopologySpec)
    os.chdir("/")
    return Keeper(name, Target.parse(target), spec, listener).run()


if __name__ == "__main__":
    sys.exit(main())
