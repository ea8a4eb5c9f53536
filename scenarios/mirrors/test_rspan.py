"""RSPAN: copies travel in a VLAN of their own to an analyzer behind another switch.

Source: ovs-vswitchd.conf.db(5), table Mirror, ``output_vlan``; the FAQ "Configuration", "How do I
configure a VLAN as an RSPAN VLAN" and "Can I mirror more than one input VLAN to an RSPAN VLAN".
"""

import pytest
from scapy.layers.l2 import Ether

from harness import Lab, Topology

BPDU = "01:80:c2:00:00:00"


@pytest.fixture
def topology() -> Topology:
    topo = Topology("rspan")
    wire = topo.underlay("wire")
    near = topo.switch("near").bridge("br0")
    near.uplink(wire)
    near.host("a", tag=10)
    near.host("b", tag=10)
    near.host("other", tag=20)
    near.mirror("m0", select_all=True, select_vlan=[10], output_vlan=15)
    far = topo.switch("far").bridge("br0")
    far.uplink(wire)
    far.host("c", tag=10)
    far.host("far-other", tag=20)
    far.host("analyzer", tag=15)
    far.host("trunk", trunks=[15])
    return topo


@pytest.fixture
def lab(lab: Lab) -> Lab:
    # "Learning should be disabled on the VLAN containing mirrored traffic": the analyzer's switch
    # would learn the mirrored hosts' addresses in it.
    lab.switch("far").vsctl("set", "Bridge", "br0", "flood-vlans=15")
    lab.announce()
    return lab


def crossings(lab: Lab, source: str, to: str | None) -> dict[str, list[list[int]]]:
    """The VLAN IDs of a frame wherever it was seen, each time."""
    sent = lab.probe(source, to=to)
    found: dict[str, list[list[int]]] = {}
    for seen in sent.sightings:
        found.setdefault(seen.point, []).append(seen.vlan_ids)
    assert sent.heard_at == found.keys() - {"wire"}
    return {point: sorted(tags) for point, tags in found.items()}


COPY = {"analyzer": [[]], "trunk": [[15]]}
"""Without a tag out of an access port, with the output VLAN's out of a trunk."""


@pytest.mark.parametrize(
    ("source", "to", "found"),
    [
        ("a", "b", {"b": [[]], "wire": [[15]], **COPY}),
        ("a", "c", {"c": [[]], "wire": [[10], [15]], **COPY}),
        ("c", "a", {"a": [[]], "wire": [[10], [15]], **COPY}),
        ("a", None, {"b": [[]], "c": [[]], "wire": [[10], [15]], **COPY}),
        ("other", "far-other", {"far-other": [[]], "wire": [[20]]}),
    ],
)
def test_copies_leave_in_the_output_vlan(
    lab: Lab, source: str, to: str | None, found: dict[str, list[list[int]]]
) -> None:
    assert crossings(lab, source, to) == found


def test_every_vlan_into_one(lab: Lab) -> None:
    lab.switch("near").vsctl("clear", "Mirror", "m0", "select-vlan")
    assert crossings(lab, "other", "far-other") == {
        "far-other": [[]],
        "wire": [[15], [20]],
        **COPY,
    }


def test_what_arrives_in_the_output_vlan_is_not_copied(lab: Lab) -> None:
    lab.switch("near").vsctl("clear", "Mirror", "m0", "select-vlan")
    sent = lab.probe("trunk", vlan=15)
    assert sent.heard_at == {"analyzer"}
    assert sent.seen_on("wire").vlan_ids == [15]


def test_what_confuses_switches_is_not_copied(lab: Lab) -> None:
    # "A list of destination MAC addresses which will not be mirrored to a VLAN"; a bridge does not
    # forward them either.
    sent = lab.send("a", Ether(src=lab.mac("a"), dst=BPDU))
    assert sent.heard_at == sent.crossed == set()


def test_several_output_vlan_ports_on_one_switch(lab: Lab) -> None:
    lab.switch("near").vsctl("set", "Port", "other", "tag=15")
    sent = lab.probe("a", to="b")
    assert sent.heard_at == {"b", "other", "analyzer", "trunk"}
    assert sent.seen_on("wire").vlan_ids == [15]
