"""VXLAN with the group policy extension: policy ID and flags set by flows, and matched.

Source: ovs-vswitchd.conf.db(5), Interface ``options:exts=gbp``; ovs-fields(7), "VXLAN Group-Based
Policy Fields".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scapy.layers.vxlan import VXLAN

from harness import Lab, Topology

if TYPE_CHECKING:
    from scenarios.tunnels.conftest import Hypervisors

GROUP, APPLIED, DONT_LEARN = 0x1A2, 0x08, 0x40


@pytest.fixture
def extensions() -> tuple[str, str]:
    return "gbp", "gbp"


@pytest.fixture
def topology(extensions: tuple[str, str], hypervisors: Hypervisors) -> Topology:
    topo = Topology("group-policy")
    for n, switch in hypervisors(topo).items():
        exts = extensions[n - 1]
        br_int = switch.bridge("br-int", fail_mode="secure")
        br_int.host(f"vm{n}")
        options = {"dst_port": "4790"} | ({"exts": exts} if exts else {})
        br_int.tunnel("vxlan", "tun", remote=f"172.31.0.{3 - n}", key=7, options=options)
    br_int.host("other")
    br_int.flow(f"priority=2,in_port=tun,tun_gbp_id={GROUP},tun_gbp_flags={APPLIED},actions=vm2")
    br_int.flow("priority=1,in_port=tun,actions=other")
    return topo


def send_with(lab: Lab, group: int, flags: int) -> None:
    policy = f"set_field:{group}->tun_gbp_id,set_field:{flags}->tun_gbp_flags"
    lab.switch("hv1").ofctl("add-flow", "br-int", f"in_port=vm1,actions={policy},tun")


@pytest.mark.parametrize(
    ("group", "flags", "hears"),
    [(GROUP, APPLIED, "vm2"), (GROUP, DONT_LEARN, "other"), (GROUP + 1, APPLIED, "other")],
    ids=["match", "other-flags", "other-group"],
)
def test_group_and_flags_are_carried_and_matched(
    lab: Lab, group: int, flags: int, hears: str
) -> None:
    send_with(lab, group, flags)
    sent = lab.probe("vm1", to="vm2")
    header = sent.seen_on("wire").packet[VXLAN]
    assert header.flags.G
    assert (header.vni, header.gpid, int(header.gpflags)) == (7, group, flags)
    assert sent.heard_at == {hears}


def test_the_port_outlives_a_reconfiguration(lab: Lab) -> None:
    for switch in lab.switches.values():
        switch.vsctl("set", "Interface", "tun", "options:dst_port=4789")
        # Any other change has the switch look at all of its ports again.
        switch.vsctl("set", "Bridge", "br-int", "other_config:mac-aging-time=299")
        (tun,) = switch.db("Interface", ["error"], {"name": "tun"})
        assert tun["error"] is None
    send_with(lab, GROUP, APPLIED)
    assert lab.probe("vm1", to="vm2").heard_at == {"vm2"}


@pytest.mark.parametrize("extensions", [("", "gbp")], ids=["sender-without"])
def test_without_the_extension_policy_is_not_sent(lab: Lab) -> None:
    send_with(lab, GROUP, APPLIED)
    sent = lab.probe("vm1", to="vm2")
    assert sent.heard_at == {"other"}
    header = sent.seen_on("wire").packet[VXLAN]
    assert (int(header.flags), header.vni) == (0x08, 7)
