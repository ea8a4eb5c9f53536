"""The network of most OpenFlow scenarios: one bridge without a controller, and four hosts.

In fail mode ``secure`` a bridge does what its flows say, and nothing else (ovs-vswitchd.conf.db(5),
Bridge ``fail_mode``). A scenario overrides the fixtures that say what is in its tables.
"""

from typing import Protocol

import pytest

from harness import Lab, Topology
from harness.polling import eventually

HOSTS = "abcd"


@pytest.fixture
def flows() -> str:
    return ""


@pytest.fixture
def groups() -> str:
    return ""


@pytest.fixture
def meters() -> str:
    return ""


@pytest.fixture
def topology(flows: str, groups: str, meters: str) -> Topology:
    topo = Topology("openflow")
    bridge = topo.switch("s1").bridge(
        "br0", fail_mode="secure", flows=flows, groups=groups, meters=meters
    )
    for name in HOSTS:
        bridge.host(name)
    return topo


class SetPort(Protocol):
    """Set a port of the bridge up or down, and wait until the switch knows."""

    def __call__(self, port: str, *, up: bool) -> None: ...


@pytest.fixture
def set_port(lab: Lab) -> SetPort:
    switch = lab.switch("s1")

    def state(port: str) -> str:
        described = switch.ofctl("-O", "OpenFlow15", "dump-ports-desc", "br0", port)
        return "down" if "PORT_DOWN" in described or "LINK_DOWN" in described else "up"

    def set_port(port: str, *, up: bool) -> None:
        lab.node("s1").change_links([{"do": "set", "name": port, "up": up}]).result()
        wanted = "up" if up else "down"
        eventually(
            lambda: state(port), lambda found: found == wanted, within=60, what=f"port {port}"
        )

    return set_port
