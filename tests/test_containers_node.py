"""A node that is a container, without one."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from harness.nodes.channel import Channel
from harness.nodes.containers.client import DockerNode, EngineInfo


@pytest.mark.parametrize(
    ("url", "clock"),
    [
        ("unix:///var/run/docker.sock", None),
        ("ssh://me@elsewhere", "ssh://me@elsewhere"),
        ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
    ],
)
def test_whose_clock_its_time_stamps_are_of(url: str, clock: str | None) -> None:
    broker: Any = SimpleNamespace(engine=EngineInfo(url, "28.0", podman=False))
    ours, theirs = socket.socketpair()
    fate, told = socket.socketpair()
    with theirs, told:
        node = DockerNode("s1", Channel("s1", ours), "container", broker, fate)
        assert node.clock == clock
        node.close()
