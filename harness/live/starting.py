"""How a keeper is started: a process that goes on when the one that started it ends."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec

from harness.live import places
from harness.live.client import Connection
from harness.live.messages import Await, Info
from harness.topology import TopologySpec


def start(spec: TopologySpec, target: str, name: str) -> Info:
    """Build a lab that stays up, and return once it is. The image has to be there.

    Raise :class:`~harness.live.errors.LiveError` when it can't be built, or when a lab of that
    name is up. An exception, Ctrl-C among them, ends the keeper.
    """
    with places.take(name) as listener:
        try:
            # Before the keeper runs: should it end at once, this connection is told.
            connection = Connection(name)
            _spawn(spec, target, name, listener)
        except BaseException:
            places.socket_path(name).unlink(missing_ok=True)
            raise
    with connection:
        return connection.ask(Await(), Info)


def _spawn(spec: TopologySpec, target: str, name: str, listener: socket.socket) -> None:
    log = _new_log(places.log_path(name))
    topology = os.memfd_create("topology")
    with open(topology, "wb", closefd=False) as file:
        file.write(msgspec.json.encode(spec))
    os.lseek(topology, 0, os.SEEK_SET)
    os.set_inheritable(listener.fileno(), True)
    arguments = [name, target, str(listener.fileno())]
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "harness.live.keeper", *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, topology, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)
        os.close(topology)


def _new_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)
