"""What ``ovs-ctl restart`` saves with ovs-save and restores: whatever OpenFlow version the bridge
speaks, and whatever its flows match.

Source: ovs-ctl(8), "The restart command"; ovs-vswitchd.conf.db(5), Bridge ``protocols``.
"""

import pytest

from harness import Lab, Topology
from harness.ovs.state import BridgeState

MAP = "{class=0x102,type=0x5,len=8}->tun_metadata3"
VERSIONS = [f"OpenFlow1{minor}" for minor in range(6)]


@pytest.fixture
def protocols() -> list[str]:
    return []


@pytest.fixture
def tlv_map() -> str:
    return ""


@pytest.fixture
def flow() -> str:
    return "priority=9,in_port=a,actions=output:b"


@pytest.fixture
def topology(protocols: list[str], tlv_map: str, flow: str) -> Topology:
    topo = Topology("saved-flows")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", protocols=protocols)
    for name in "abc":
        bridge.host(name)
    bridge.flow(f"cookie=0x7,{flow}")
    if tlv_map:
        bridge.tlv_map(tlv_map)
    return topo


def state(lab: Lab) -> BridgeState:
    return lab.switch("s1").state().bridges["br0"]


@pytest.mark.parametrize(
    "protocols",
    [[], *([version] for version in VERSIONS), VERSIONS[:4], VERSIONS],
    ids=["default", *VERSIONS, "up-to-13", "all"],
)
def test_flows_outlive_a_restart(lab: Lab) -> None:
    before = state(lab)
    lab.switch("s1").restart()
    assert state(lab).flows == before.flows
    assert lab.probe("a").heard_at == {"b"}


def forbid_programs_in_tmp(lab: Lab) -> None:
    """As hardened machines do, and container engines with what they mount there (mount(8))."""
    done = lab.node("s1").run(["mount", "-t", "tmpfs", "-o", "noexec", "tmp", "/tmp"], check=False)
    if done.status != 0:
        pytest.skip(f"nothing can be mounted in this node: {done.stderr.strip()}")


def test_flows_outlive_a_restart_where_tmp_is_noexec(lab: Lab) -> None:
    before = state(lab)
    forbid_programs_in_tmp(lab)
    lab.switch("s1").restart()
    assert state(lab).flows == before.flows


def test_nobody_says_that_flows_are_lost_where_tmp_is_noexec(lab: Lab) -> None:
    """What happens instead: see docs/findings/noexec-tmp-loses-flows.md."""
    forbid_programs_in_tmp(lab)
    lab.switch("s1").restart()
    (done,) = (done for done in lab.commands if done.argv[-1] == "restart")
    assert done.status == 0
    assert "Saving flows" in done.stdout
    assert "Restoring saved flows" not in done.stdout
    assert state(lab).flows == ()


@pytest.mark.parametrize(
    "flow",
    [
        "priority=9,ip,nw_proto=2,actions=output:b",
        "priority=9,ip,nw_proto=2,nw_src=10.0.0.0/8,nw_tos=4,actions=output:b",
        "priority=9,ipv6,nw_proto=58,actions=output:b",
        "priority=9,ip,nw_proto=89,actions=output:b",
    ],
    ids=["igmp", "igmp-from", "icmp6", "ospf"],
)
def test_flows_of_an_ip_protocol_outlive_a_restart(lab: Lab) -> None:
    before = state(lab)
    assert len(before.flows) == 1
    lab.switch("s1").restart()
    assert state(lab).flows == before.flows


@pytest.mark.parametrize("tlv_map", [MAP], ids=["map"])
@pytest.mark.parametrize(
    "protocols",
    [[], ["OpenFlow13"], ["OpenFlow14"], VERSIONS],
    ids=["default", "OpenFlow13", "OpenFlow14", "all"],
)
def test_the_tlv_map_outlives_a_restart(lab: Lab) -> None:
    before = state(lab)
    assert len(before.tlv_map) == 1
    lab.switch("s1").restart()
    assert state(lab).tlv_map == before.tlv_map
