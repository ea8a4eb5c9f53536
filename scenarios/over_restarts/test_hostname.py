"""A hostname that somebody put into the database stays there.

Source: ovs-ctl(8), "record-hostname-if-not-set": it is recorded "if it is not already set"; that is
what ``start`` and ``restart`` do too.
"""

import pytest
from msgspec.structs import replace

from harness import Lab, Topology


@pytest.fixture
def topology() -> Topology:
    topo = Topology("hostname")
    topo.switch("s1").bridge("br0")
    return topo


def test_a_hostname_that_is_set_is_not_overwritten(lab: Lab) -> None:
    switch = lab.switch("s1")
    if not switch.layout.leaves_hostname:
        pytest.skip("this ovs-ctl has no command that records the hostname and waits for it")
    switch.vsctl("set", "Open_vSwitch", ".", "external-ids:hostname=chosen.example")
    switch.restart(replace(switch.options, record_hostname=True))
    # That is done in the background: this does the same again, and comes to its end.
    switch.node.run([switch.layout.ovs_ctl, "record-hostname-if-not-set"])
    (root,) = switch.db("Open_vSwitch", ["external_ids"])
    assert root["external_ids"]["hostname"] == "chosen.example"
