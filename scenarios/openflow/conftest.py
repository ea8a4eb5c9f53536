"""The network of most OpenFlow scenarios: one bridge without a controller, and four hosts.

In fail mode ``secure`` a bridge does what its flows say, and nothing else (ovs-vswitchd.conf.db(5),
Bridge ``fail_mode``). A scenario overrides the fixtures that say what is in its tables.
"""

import pytest

from harness import Topology

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
