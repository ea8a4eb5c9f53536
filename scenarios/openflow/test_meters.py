"""Meters: how much of a burst passes, and what the meter says about it.

Source: ovs-ofctl(8), "Meter Syntax"; ovs-actions(7), "The meter action and instruction". A meter
has room for ``burst_size`` and refills with ``rate`` a second: never more than that passes, and
never less than the burst it had time to gather.
"""

import re
import time
from typing import NamedTuple

import pytest

from harness import Lab
from harness.traffic.batch import Sent

pytestmark = pytest.mark.requires("meters")

OF13 = ("-O", "OpenFlow13")


class Rule(NamedTuple):
    """A meter, its rate and burst in frames, and the size of a frame."""

    meter: str
    rate: float
    burst: int
    size: int


RULES = [
    pytest.param(
        Rule("pktps,burst,bands=type=drop,rate=100,burst_size=50", 100, 50, 64), id="pktps"
    ),
    # 800 and 400 kilobits are 100 and 50 frames of 1,000 bytes.
    pytest.param(
        Rule("kbps,burst,bands=type=drop,rate=800,burst_size=400", 100, 50, 1000), id="kbps"
    ),
]


class Tally(NamedTuple):
    """What a meter counted: frames that came to it, and those that its band dropped."""

    came: int
    dropped: int


def tally(lab: Lab) -> Tally:
    shown = lab.switch("s1").ofctl(*OF13, "meter-stats", "br0", "meter=1")
    came, dropped = re.findall(r"packet_(?:in_)?count:(\d+)", shown)
    return Tally(int(came), int(dropped))


@pytest.fixture
def flows() -> str:
    return "in_port=a,actions=c\nin_port=b,actions=d"


def set_meter(lab: Lab, meter: str, flow: str) -> None:
    switch = lab.switch("s1")
    switch.ofctl(*OF13, "add-meter", "br0", f"meter=1,{meter}")
    switch.ofctl(*OF13, "mod-flows", "br0", flow)


def passed(sent: Sent) -> int:
    return sent.count - len(sent.missing_at("c"))


def most(burst: int, rate: float, *sent: Sent) -> float:
    """What may pass of these: of a full meter, and of what it was filled up with from when the
    first frame was sent until the last one had passed."""
    sends = [one.sent_at(0) for one in sent]
    began = min(when for when in sends if when is not None)
    ended = max(when for one in sent for when in one.arrivals_at("c").values())
    return burst + rate * (ended - began) / 1e9 + 1


@pytest.mark.parametrize("rule", RULES)
def test_no_more_than_rate_and_burst_passes(lab: Lab, rule: Rule) -> None:
    began = time.monotonic()
    set_meter(lab, rule.meter, "in_port=a,actions=meter:1,c")
    gathered = min(rule.burst, rule.rate * (time.monotonic() - began))
    sent = lab.probe("a", mac="02:00:00:00:00:99", count=400, size=rule.size)
    assert sent.heard_at == {"c"}
    assert int(gathered) - 1 <= passed(sent) <= most(rule.burst, rule.rate, sent)
    assert tally(lab) == (400, 400 - passed(sent))
    lab.record("passed", passed(sent))


def test_what_is_not_metered_all_passes(lab: Lab) -> None:
    set_meter(lab, "pktps,bands=type=drop,rate=1", "in_port=a,actions=meter:1,c")
    sent = lab.probe("b", mac="02:00:00:00:00:99", count=400)
    assert sent.heard_at == {"d"}
    assert sent.count_at("d") == 400
    assert tally(lab) == (0, 0)


def test_below_its_rate_everything_passes(lab: Lab) -> None:
    set_meter(lab, "pktps,burst,bands=type=drop,rate=100000,burst_size=100000", "actions=meter:1,c")
    began = time.monotonic()
    sent = lab.probe("a", mac="02:00:00:00:00:99", count=100)
    assert time.monotonic() > began
    assert sent.heard_at == {"c"}
    assert tally(lab) == (100, 100 - passed(sent))


def test_two_flows_share_a_meter(lab: Lab) -> None:
    set_meter(lab, "pktps,burst,bands=type=drop,rate=100,burst_size=50", "actions=meter:1,c")
    from_a, from_b = (lab.probe(name, mac="02:00:00:00:00:99", count=200) for name in "ab")
    both = passed(from_a) + passed(from_b)
    assert both <= most(50, 100, from_a, from_b)
    assert tally(lab) == (400, 400 - both)
