"""What a bridge floods, and what it does not: broadcast, multicast, reserved addresses.

Source: ovs-actions(7), "The OVS Normal Pipeline" and "The output action" (``flood``, ``all``);
ovs-vswitchd.conf.db(5), table Bridge, ``other_config:forward-bpdu``; ovs-ofctl(8), ``mod-port``.
"""

import pytest

from harness import Lab, Topology
from harness.traffic import Reach

EVERYBODY = {"a", "b", "c", "d"}
OTHERS = {"b", "c", "d"}

RESERVED = [
    "01:80:c2:00:00:00",  # STP
    "01:80:c2:00:00:01",  # pause
    "01:80:c2:00:00:0e",  # LLDP
    "01:80:c2:00:00:0f",
    "00:e0:2b:00:00:00",  # EDP
    "00:e0:2b:00:00:04",  # EAPS
    "00:e0:2b:00:00:06",
    "01:00:0c:cc:cc:cc",  # CDP, VTP …
    "01:00:0c:cc:cc:cd",  # PVSTP+
    "01:00:0c:cd:cd:cd",  # Uplink Fast
    "01:00:0c:00:00:00",  # ISL
    "01:00:0c:cc:cc:c0",  # CFM
]


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("flooding")
    bridge = topo.switch("sw").bridge("br0")
    for name in sorted(EVERYBODY):
        bridge.host(name)
    return topo


@pytest.mark.parametrize(
    "mac",
    [
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:01:02:03",  # IPv4 multicast
        "33:33:00:00:00:01",  # IPv6 multicast
        "01:80:c2:00:00:10",  # just behind the reserved ones
        "01:80:c2:00:00:21",  # GVRP, which is not one of them
        "02:00:00:00:77:01",  # nobody's
    ],
)
def test_everybody_but_the_sender_hears(module_lab: Lab, mac: str) -> None:
    for source in sorted(EVERYBODY):
        assert module_lab.probe(source, mac=mac).heard_at == EVERYBODY - {source}


@pytest.mark.parametrize("mac", RESERVED)
def test_reserved_addresses_are_not_forwarded(module_lab: Lab, mac: str) -> None:
    assert module_lab.probe("a", mac=mac).heard_at == set()


def test_reserved_addresses_are_forwarded_on_demand(lab: Lab) -> None:
    lab.switch("sw").vsctl("set", "Bridge", "br0", "other_config:forward-bpdu=true")
    for mac in RESERVED:
        assert lab.probe("a", mac=mac).heard_at == OTHERS, mac


@pytest.mark.parametrize("actions", ["normal", "flood"])
def test_port_without_flooding_hears_what_is_for_it_only(lab: Lab, actions: str) -> None:
    lab.switch("sw").ofctl("add-flow", "br0", f"actions={actions}")
    lab.switch("sw").ofctl("mod-port", "br0", "d", "no-flood")
    lab.announce()
    assert lab.probe("a").heard_at == {"b", "c"}
    assert lab.probe("d").heard_at == {"a", "b", "c"}
    # The action "flood" does not ask who it is for; "normal" knows where "d" is.
    assert lab.probe("a", to="d").heard_at == ({"d"} if actions == "normal" else {"b", "c"})


def test_all_ignores_that_a_port_is_not_for_flooding(lab: Lab) -> None:
    lab.switch("sw").ofctl("add-flow", "br0", "actions=all")
    lab.switch("sw").ofctl("mod-port", "br0", "d", "no-flood")
    assert lab.probe("a").heard_at == OTHERS


def test_port_that_does_not_forward_is_silent(lab: Lab) -> None:
    lab.switch("sw").ofctl("mod-port", "br0", "d", "no-forward")
    lab.announce()
    heard = {name: frozenset({"a", "b", "c"}) - {name} for name in EVERYBODY}
    assert lab.probe_all().reach == Reach(heard, heard)
