"""VLAN settings of a bridge's local port, which is a port like any other.

Source: ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration", and table Bridge, column
``ports``; ovs-vswitchd(8) and the FAQ, "VLANs", for the local port that has the bridge's name.
"""

import pytest

from harness import Lab, Topology
from harness.topology.bridges import LocalColumns

LOCAL = "sw:br0"
ADDRESS = "192.168.0.7"


@pytest.fixture
def columns() -> LocalColumns:
    return {"tag": 9}


@pytest.fixture
def topology(columns: LocalColumns) -> Topology:
    topo = Topology("vlan-local")
    bridge = topo.switch("sw").bridge("br0", addresses=[f"{ADDRESS}/24"], local=True, **columns)
    bridge.host("trunk")
    bridge.host("nine", tag=9, addresses=["192.168.0.9/24"])
    bridge.host("ten", tag=10, addresses=["192.168.0.10/24"])
    return topo


def test_its_address_answers_in_its_vlan_alone(lab: Lab) -> None:
    lab.host("nine").run(f"ping -c1 -W2 {ADDRESS}")
    asked = lab.host("ten").run(f"ping -c1 -W0.2 {ADDRESS}", check=False)
    assert "0 received" in asked.stdout
    # Nor has the question come to where it would be answered from.
    assert "192.168.0.10 " not in lab.node("sw").run(["ip", "neigh"]).stdout


def test_what_it_sends_is_in_its_vlan(lab: Lab) -> None:
    sent = lab.probe(LOCAL)
    assert sent.heard_at == {"trunk", "nine"}
    assert sent.seen_on("trunk").vlan_ids == [9]
    assert sent.seen_on("nine").vlan_ids == []
    assert lab.probe(LOCAL, vlan=9).heard_at == set()


@pytest.mark.parametrize(
    ("columns", "heard"),
    [
        pytest.param({}, {9: [9], 10: [10], None: []}, id="trunk"),
        pytest.param({"tag": 9}, {9: []}, id="access"),
        pytest.param({"trunks": [10]}, {10: [10]}, id="trunk of 10"),
        pytest.param(
            {"tag": 9, "vlan_mode": "native-tagged"}, {9: [9], 10: [10]}, id="native-tagged"
        ),
        pytest.param(
            {"tag": 9, "vlan_mode": "native-untagged", "trunks": [20]},
            {9: []},
            id="native-untagged",
        ),
    ],
)
def test_only_frames_of_its_vlans_reach_it(lab: Lab, heard: dict[int | None, list[int]]) -> None:
    """``heard``: the VLANs that come through, and the tags with which they do."""
    behind = {9: {"nine"}, 10: {"ten"}, None: set[str]()}
    for vlan, others in behind.items():
        sent = lab.probe("trunk", vlan=() if vlan is None else vlan)
        assert sent.heard_at == others | ({LOCAL} if vlan in heard else set())
        if vlan in heard:
            assert sent.seen_on(LOCAL).vlan_ids == heard[vlan]
