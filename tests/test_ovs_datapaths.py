"""What is read of what ovs-vswitchd says of its datapaths."""

from __future__ import annotations

import pytest

from harness.ovs.datapaths import Counters, Datapaths, parse

NETDEV = """\
netdev@ovs-netdev:
  lookups: hit:10 missed:2 lost:1
  flows: 3
  port 0: ovs-netdev (tap)
  port 1: br0 (tap)
"""
SYSTEM = """\
system@ovs-system:
  lookups: hit:5 missed:1 lost:0
  flows: 0
  masks: hit:1 total:0 hit/pkt:0.20
  cache: hit:0 hit-rate:0.00%
  caches:
    masks-cache: size:256
  port 0: ovs-system (internal)
"""
NONE = Datapaths(Counters(0, 0, 0), 0, frozenset(), waiting=False)


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (None, NONE),
        ("", NONE),
        (NETDEV, Datapaths(Counters(10, 2, 1), 3, frozenset({"ovs-netdev", "br0"}), False)),
        (SYSTEM, Datapaths(Counters(5, 1, 0), 0, frozenset({"ovs-system"}), False)),
        (
            SYSTEM + NETDEV,
            Datapaths(Counters(15, 3, 1), 3, frozenset({"ovs-system", "ovs-netdev", "br0"}), False),
        ),
    ],
)
def test_all_datapaths_together(shown: str | None, found: Datapaths) -> None:
    assert parse(shown) == found


@pytest.mark.parametrize(
    ("memory", "waiting"),
    [
        ("handlers:1 ports:3 revalidators:1 rules:9 udpif keys:1", False),
        ("ports:3 rules:9", True),
        (None, False),
    ],
)
def test_without_revalidators_flows_are_restored(memory: str | None, waiting: bool) -> None:
    assert parse(SYSTEM, memory).waiting is waiting


def test_every_frame_was_looked_up() -> None:
    assert Counters(10, 2, 1).lookups == 13
