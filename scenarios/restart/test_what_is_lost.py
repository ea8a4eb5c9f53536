"""What ``ovs-ctl restart`` should keep and does not: each a row of known_defects.toml.

Source: ovs-ctl(8), "The restart command": it "saves and restores OpenFlow flows".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Topology
from harness.faults import Restart

if TYPE_CHECKING:
    from scenarios.restart.conftest import UnderTraffic

FORWARDING = "cookie=0x1,in_port=a,actions=output:b\ncookie=0x1,in_port=b,actions=output:a\n"


def bridge(*protocols: str, flows: str, meters: str = "") -> Topology:
    topo = Topology("loses")
    handle = topo.switch("s1").bridge(
        "br0", fail_mode="secure", protocols=protocols, flows=FORWARDING + flows, meters=meters
    )
    for name in "abc":
        handle.host(name)
    return topo


METER = "meter=1,kbps,bands=type=drop,rate=1000000"
CASES = [
    pytest.param(
        bridge("OpenFlow13", flows="", meters=METER),
        id="meter",
        marks=pytest.mark.requires("meters"),
    ),
    pytest.param(
        bridge(
            "OpenFlow13", "OpenFlow15", flows="in_port=c,actions=meter:1,output:a", meters=METER
        ),
        id="flow-with-meter",
        marks=pytest.mark.requires("meters"),
    ),
    pytest.param(bridge("OpenFlow10", flows="table=1,actions=output:b"), id="tables-of-OpenFlow10"),
    pytest.param(
        bridge("OpenFlow14", flows="reset_counts,in_port=c,actions=output:a"), id="reset_counts"
    ),
]


@pytest.mark.parametrize("topology", CASES)
def test_restart_keeps_it(under_traffic: UnderTraffic) -> None:
    kept = under_traffic(Restart("s1"), forwards=False).parts["state kept"]
    assert kept.outcome == "pass", str(kept)


@pytest.mark.requires("meters")
@pytest.mark.parametrize(
    "topology",
    [
        pytest.param(bridge("OpenFlow14", "OpenFlow15", flows=flows, meters=METER), id=name)
        for name, flows in (("unused", ""), ("used", "in_port=c,actions=meter:1,output:a"))
    ],
)
def test_what_a_lost_meter_takes_with_it(
    under_traffic: UnderTraffic, request: pytest.FixtureRequest
) -> None:
    """A flow that uses it can't be restored, and is restored in one bundle with all others."""
    used = "unused" not in request.node.name
    verdict = under_traffic(Restart("s1"), pairs=[("a", "b"), ("b", "a")], forwards=not used)
    findings = verdict.parts["state kept"].findings
    assert any(": meter 1 lost: " in line for line in findings), findings
    lost_flows = [line for line in findings if "flow lost" in line]
    assert len(lost_flows) == (3 if used else 0), findings
    assert verdict.parts["delivered"].outcome == ("fail" if used else "pass")
    assert verdict.parts["leaked"].outcome == "pass", str(verdict)
