"""What is said to ovs-ofctl, in which order, and how its complaints are worded."""

from __future__ import annotations

import pytest

from harness.nodes.base import Completed
from harness.ovs.openflow import Order, complaint, orders, write_version
from harness.topology.model import Bridge


@pytest.mark.parametrize(
    ("protocols", "version"),
    [
        ((), "OpenFlow15"),
        (("OpenFlow10",), "OpenFlow10"),
        (("OpenFlow13", "OpenFlow10", "OpenFlow11"), "OpenFlow13"),
    ],
)
def test_flows_are_written_in_the_highest_version(protocols: tuple[str, ...], version: str) -> None:
    assert write_version(protocols) == version


def test_a_bridge_without_openflow_text_needs_nothing() -> None:
    assert orders(Bridge(name="b", flows="\n  # only a comment\n\n")) == []


def test_what_is_needed_comes_before_what_needs_it() -> None:
    bridge = Bridge(
        name="b",
        flows="actions=group:1\n",
        groups="group_id=1,type=all\n",
        meters="meter=1 kbps bands=type=drop rate=1 # comment\n\n"
        "meter=2 kbps bands=type=drop rate=2",
        tlv_map="{class=1,type=0,len=4}->tun_metadata0,\n{class=1,type=1,len=4}->tun_metadata1",
    )
    stages = [[(order.words, order.options, order.text) for order in s] for s in orders(bridge)]
    version = ("-O", "OpenFlow15")
    assert stages == [
        [
            (
                (
                    "add-tlv-map",
                    "b",
                    "{class=1,type=0,len=4}->tun_metadata0,{class=1,type=1,len=4}->tun_metadata1",
                ),
                version,
                "",
            )
        ],
        [
            (("add-meter", "b", "meter=1 kbps bands=type=drop rate=1"), version, ""),
            (("add-meter", "b", "meter=2 kbps bands=type=drop rate=2"), version, ""),
        ],
        [(("add-groups", "b", "-"), version, bridge.groups)],
        [(("add-flows", "b", "-"), (*version, "--bundle"), bridge.flows)],
    ]


@pytest.mark.parametrize(
    ("version", "bundle"), [("OpenFlow10", False), ("OpenFlow13", False), ("OpenFlow14", True)]
)
def test_bundles_are_used_from_openflow_14_on(version: str, bundle: bool) -> None:
    ((order,),) = orders(Bridge(name="b", protocols=(version,), flows="actions=drop"))
    assert ("--bundle" in order.options) is bundle


FLOWS = Order("br0", "flows", (), ("add-flows", "br0", "-"), "actions=drop\n actions=bogus\n")
METER = Order("br0", "meter", (), ("add-meter", "br0", "meter=1 kbpss"), "")


@pytest.mark.parametrize(
    ("order", "stderr", "expected"),
    [
        (
            FLOWS,
            "ovs-ofctl: -:2: unknown action bogus\n",
            "hv1: bridge br0: flows, line 2: unknown action bogus: `actions=bogus`",
        ),
        (
            METER,
            "ovs-ofctl: must specify bands\n",
            "hv1: bridge br0: meter `meter=1 kbpss`: ovs-ofctl: must specify bands",
        ),
        (
            FLOWS,
            "Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.5) (xid=0x7): ADD table:3 "
            "actions=group:99\n"
            "Error OFPBFC_MSG_FAILED for: OFPT_BUNDLE_CONTROL (OF1.5) (xid=0xb):\n"
            " bundle_id=0 type=COMMIT_REQUEST flags=atomic ordered\n"
            "ovs-ofctl: talking to unix:/var/run/openvswitch/br0.mgmt (Protocol error)\n",
            "hv1: bridge br0: flows: OFPBAC_BAD_OUT_GROUP: ADD table:3 actions=group:99",
        ),
        (
            FLOWS,
            "OFPT_ERROR (xid=0xa): OFPBAC_BAD_OUT_GROUP\n"
            "OFPT_FLOW_MOD (xid=0xa): ADD table:3 actions=group:99\n",
            "hv1: bridge br0: flows: OFPBAC_BAD_OUT_GROUP: ADD table:3 actions=group:99",
        ),
        (
            FLOWS,
            "OFPT_ERROR (OF1.5) (xid=0x8): OFPGMFC_GROUP_EXISTS\n"
            "OFPT_GROUP_MOD (OF1.5) (xid=0x8):\n ADD group_id=1,type=all,bucket=actions=output:1\n",
            "hv1: bridge br0: flows: OFPGMFC_GROUP_EXISTS: "
            "ADD group_id=1,type=all,bucket=actions=output:1",
        ),
        (
            METER,
            "2026-11-21T02:25:19Z|00001|ofp_match|WARN|tlv table field index (99) is too large\n"
            "OFPT_ERROR (OF1.5) (xid=0x2): NXTTMFC_BAD_FIELD_IDX\n"
            "NXT_TLV_TABLE_MOD (OF1.5) (xid=0x2): ***decode error: NXTTMFC_BAD_FIELD_IDX***\n"
            "00000000  06 04 00 20 00 00 00 02-00 00 23 20 00 00 00 18 |... ......# ....|\n",
            "hv1: bridge br0: meter `meter=1 kbpss`: tlv table field index (99) is too large: "
            "NXTTMFC_BAD_FIELD_IDX",
        ),
        (FLOWS, "", "hv1: bridge br0: flows: exit status 1"),
    ],
)
def test_a_complaint_is_one_line_with_what_is_wrong(
    order: Order, stderr: str, expected: str
) -> None:
    done = Completed("n", ("ovs-ofctl",), 1, "", stderr, 0.0)
    assert complaint("hv1", order, done) == expected
