"""Every version of OpenFlow, alone on a bridge: its flows are taken, kept and obeyed.

Source: ovs-vswitchd.conf.db(5), Bridge ``protocols``; ovs-actions(7), "Inter-Version
Compatibility".
"""

import pytest

from harness import Lab, Topology
from harness.nodes.base import CommandFailed

VERSIONS = [f"OpenFlow1{minor}" for minor in range(6)]
PLAIN = """
priority=10,in_port=a,dl_vlan=20,actions=strip_vlan,b
priority=10,in_port=a,vlan_tci=0,actions=mod_vlan_vid:30,c
priority=10,in_port=b,actions=resubmit(,1)
table=1,actions=load:5->reg0,a
"""
WITH_GROUPS = """
priority=10,in_port=d,actions=group:1
priority=10,in_port=c,actions=write_actions(output:d),goto_table:2
"""


@pytest.fixture(
    params=[pytest.param(v, marks=pytest.mark.requires(f"openflow:{v}")) for v in VERSIONS]
)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def topology(version: str) -> Topology:
    topo = Topology("openflow-versions")
    modern = version >= "OpenFlow11"
    bridge = topo.switch("s1").bridge(
        "br0",
        fail_mode="secure",
        protocols=[version],
        flows=PLAIN + WITH_GROUPS * modern,
        groups="group_id=1,type=all,bucket=output:a,bucket=output:b" if modern else "",
    )
    for name in "abcd":
        bridge.host(name)
    return topo


def test_flows_do_the_same_in_every_version(lab: Lab, version: str) -> None:
    assert lab.probe("a", vlan=20).heard_at == {"b"}
    assert lab.probe("a", vlan=21).heard_at == set()
    tagged = lab.probe("a")
    assert tagged.heard_at == {"c"}
    assert tagged.seen_on("c").vlan_ids == [30]
    assert lab.probe("b").heard_at == {"a"}
    modern = version >= "OpenFlow11"
    assert lab.probe("d").heard_at == ({"a", "b"} if modern else set())
    assert lab.probe("c").heard_at == ({"d"} if modern else set())


def test_no_other_version_is_spoken(lab: Lab, version: str) -> None:
    switch = lab.switch("s1")
    for other in VERSIONS:
        if other == version:
            assert "actions=" in switch.ofctl("-O", other, "dump-flows", "br0")
        else:
            with pytest.raises(CommandFailed, match="version negotiation failed"):
                switch.ofctl("-O", other, "dump-flows", "br0")
