"""Restart of one end of a tunnel of each type, with traffic through it.

Source: ovs-ctl(8), "The restart command"; ovs-vswitchd.conf.db(5), Interface, "Tunnel Options";
ovs-ofctl(8), "OpenFlow Switch Geneve TLV Map Commands".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Topology
from harness.faults import Reload, Restart
from harness.topology.model import TunnelType

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

OVER_IPV6 = ("ip6gre", "ip6erspan")
OPTIONS = {
    "erspan": {"erspan_ver": "1", "erspan_idx": "1"},
    "ip6erspan": {"erspan_ver": "1", "erspan_idx": "1"},
}
TYPES: tuple[TunnelType, ...] = ("vxlan", "geneve", "gre", "ip6gre", "erspan", "ip6erspan")
MAP = "{class=0xffff,type=0x80,len=4}->tun_metadata0"


def joined(kind: TunnelType) -> Topology:
    topo = Topology(kind)
    wire = topo.underlay("wire", mtu=1700)
    address = "fd00:31::{}/64" if kind in OVER_IPV6 else "172.31.0.{}/24"
    for n in (1, 2):
        switch = topo.switch(f"s{n}")
        switch.bridge("br-phy", addresses=[address.format(n)]).uplink(wire)
        bridge = switch.bridge("br-int")
        for name in "ab":
            bridge.host(f"{name}{n}", tag=10 if name == "a" else 20)
        remote = address.format(3 - n).partition("/")[0]
        bridge.tunnel(kind, remote=remote, key=42, options=OPTIONS.get(kind, {}))
    return topo


def with_options() -> Topology:
    """Geneve options that flows set and match, by a map which OpenFlow made."""
    topo = Topology("tlv-map")
    wire = topo.underlay("wire", mtu=1700)
    for n in (1, 2):
        switch = topo.switch(f"s{n}")
        switch.bridge("br-phy", addresses=[f"172.31.0.{n}/24"]).uplink(wire)
        bridge = switch.bridge("br-int", fail_mode="secure", tlv_map=MAP)
        bridge.host(f"a{n}")
        bridge.host(f"b{n}")
        bridge.tunnel("geneve", "tun", remote=f"172.31.0.{3 - n}", key=42)
        bridge.flow(f"in_port=a{n},actions=set_field:7->tun_metadata0,output:tun")
        bridge.flow(f"in_port=tun,tun_metadata0=7,actions=output:a{n}")
        bridge.flow("in_port=tun,priority=1,actions=drop")
    return topo


@pytest.fixture(
    params=[
        *(
            pytest.param(joined(kind), id=kind, marks=pytest.mark.requires(f"tunnel:{kind}"))
            for kind in TYPES
        ),
        pytest.param(with_options(), id="tlv-map", marks=pytest.mark.requires("tunnel:geneve")),
    ]
)
def topology(request: pytest.FixtureRequest) -> Topology:
    made: Topology = request.param
    return made


def test_restart_keeps_the_tunnel_and_leaks_nothing(under_traffic: UnderTraffic) -> None:
    verdict = under_traffic(Restart("s1"))
    assert verdict.outcome == "pass", str(verdict)


@pytest.mark.requires("kernel module")
def test_reload_keeps_the_tunnel_and_leaks_nothing(under_traffic: UnderTraffic) -> None:
    verdict = under_traffic(Reload("s1"))
    assert verdict.outcome == "pass", str(verdict)
