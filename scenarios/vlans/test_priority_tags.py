"""Priority tags: a frame whose 802.1Q header has a priority, and VLAN ID 0.

Source: ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration", ``other_config:priority-tags``.
Whether such frames leave by a port is the port's setting: not by default, which is ``never``; with
``if-nonzero``, but for frames whose priority would be 0 too; with ``always``, "in such frames as
well". A frame that had no header in the first place does not get one.
"""

from typing import NamedTuple

import pytest

from harness import Lab, Topology
from harness.traffic import Sent, Tag

Tags = tuple[Tag, ...]

NONE: Tags = ()
ZERO, ZERO5 = (Tag.of(0),), (Tag.of(0, pcp=5),)
TEN, TEN5 = (Tag.of(10),), (Tag.of(10, pcp=5),)

SETTINGS = ("no-setting", "never", "if-nonzero", "always")


@pytest.fixture(scope="module", params=["access", "native-untagged", "dot1q-tunnel", "trunk"])
def topology(request: pytest.FixtureRequest) -> Topology:
    """Ports of one mode with every setting, beside a trunk and an access port to send from."""
    topo = Topology("priority-tags")
    bridge = topo.switch("sw").bridge("br0")
    bridge.host("trunk", trunks=[0, 10])
    bridge.host("access", tag=10)
    for setting in SETTINGS:
        bridge.host(
            setting,
            vlan_mode=request.param,
            tag=None if request.param == "trunk" else 10,
            trunks=[0] if request.param == "trunk" else [],
            other_config={} if setting == "no-setting" else {"priority-tags": setting},
        )
    return topo


class Leaves(NamedTuple):
    """The tags that a frame leaves with by the port of each setting."""

    never: Tags
    if_nonzero: Tags
    always: Tags


def assert_leaves(sent: Sent, leaves: Leaves) -> None:
    assert sent.seen_on("no-setting").tags == leaves.never
    assert sent.seen_on("never").tags == leaves.never
    assert sent.seen_on("if-nonzero").tags == leaves.if_nonzero
    assert sent.seen_on("always").tags == leaves.always


@pytest.mark.parametrize("topology", ["access", "native-untagged", "dot1q-tunnel"], indirect=True)
@pytest.mark.parametrize(
    ("source", "frame", "other", "leaves"),
    [
        ("access", NONE, TEN, Leaves(NONE, NONE, NONE)),
        ("access", ZERO5, TEN5, Leaves(NONE, ZERO5, ZERO5)),
        ("trunk", TEN5, NONE, Leaves(NONE, ZERO5, ZERO5)),
        pytest.param("access", ZERO, TEN, Leaves(NONE, NONE, ZERO), id="priority-0"),
        pytest.param("trunk", TEN, NONE, Leaves(NONE, NONE, ZERO), id="no-priority"),
    ],
)
def test_port_of_one_vlan(
    module_lab: Lab, source: str, frame: Tags, other: Tags, leaves: Leaves
) -> None:
    sent = module_lab.probe(source, vlan=frame)
    assert sent.heard_at == {"trunk", "access", *SETTINGS} - {source}
    assert sent.seen_on("access" if source == "trunk" else "trunk").tags == other
    assert_leaves(sent, leaves)


@pytest.mark.parametrize("topology", ["trunk"], indirect=True)
@pytest.mark.parametrize(
    ("frame", "leaves"),
    [
        (NONE, Leaves(NONE, NONE, NONE)),
        (ZERO, Leaves(NONE, NONE, ZERO)),
        pytest.param(ZERO5, Leaves(NONE, ZERO5, ZERO5), id="priority-5"),
    ],
)
def test_trunk_port(module_lab: Lab, frame: Tags, leaves: Leaves) -> None:
    sent = module_lab.probe("trunk", vlan=frame)
    assert sent.heard_at == set(SETTINGS)
    assert_leaves(sent, leaves)
