"""Every ordered pair: who heard whom, and what differs from what was expected."""

from __future__ import annotations

import pytest

from harness.traffic import (
    Batch,
    Ledger,
    MatrixPlan,
    Point,
    ProbeMatrix,
    Reach,
    Unknown,
    explain,
    ring,
    stamp,
)

MACS = {name: f"02:00:00:00:00:0{n}" for n, name in enumerate("abcd")}


class Net:
    """A perfect switch with VLANs, and leaks on demand."""

    def __init__(self, *groups: str) -> None:
        self.groups = groups
        self.ledger = Ledger(5, [Point(name, "host") for name in MACS])
        self.plan = MatrixPlan(self.ledger, MACS)
        self.frames: dict[tuple[str, str], bytes] = {}
        for source in MACS:
            shout = stamp(self.plan.broadcast[source].template, 0)
            for host in self.domain(source):
                self.deliver(host, shout)
        for (source, target), flow in self.plan.unicast.items():
            frame = self.frames[source, target] = stamp(flow.template, 0)
            # An address that is not known in the VLAN is flooded there.
            known = target in self.domain(source)
            for host in [target] if known else self.domain(source):
                self.deliver(host, frame)

    def domain(self, source: str) -> set[str]:
        return {host for group in self.groups if source in group for host in group} - {source}

    def deliver(self, host: str, frame: bytes) -> None:
        self.ledger.take(host, ring.pack([ring.Unpacked(frame)]))

    def matrix(self) -> ProbeMatrix:
        return ProbeMatrix(self.plan, Batch(self.ledger, drained=True))


@pytest.mark.parametrize(
    "groups", [("abcd",), ("ab", "cd"), ("ab", "c", "d"), ("abc", "cd"), ("a", "b", "c", "d")]
)
def test_a_good_switch_reaches_its_groups(groups: tuple[str, ...]) -> None:
    matrix = Net(*groups).matrix()
    assert matrix.reach == Reach.groups(*groups)
    assert hash(matrix.reach) == hash(Reach.groups(*groups))
    batch = matrix.batch
    assert (batch.strays, batch.duplicates, batch.changed) == ([], [], [])


def test_results_by_pair() -> None:
    matrix = Net("ab", "cd").matrix()
    assert matrix.unicast["a", "b"].heard_at == {"b"}
    assert matrix.unicast["a", "c"].heard_at == {"b"}
    assert matrix.broadcast["c"].heard_at == {"d"}
    assert len(matrix.unicast) == 12
    assert matrix.reach["a"] == {"b"}
    assert (list(matrix.reach), len(matrix.reach)) == (list("abcd"), 4)


@pytest.mark.parametrize(
    ("pair", "hearer", "said"),
    [
        (("a", "b"), "c", "unicast from a to b was overheard by c"),
        (("a", "c"), "d", "unicast from a to c was overheard by d"),
        (("a", "b"), "a", "unicast from a to b was overheard by a"),
        (("a", "c"), "c", "unicast from a leaked to c"),
    ],
)
def test_a_leaked_unicast_is_found(pair: tuple[str, str], hearer: str, said: str) -> None:
    net = Net("ab", "cd")
    net.deliver(hearer, net.frames[pair])
    reach, expected = net.matrix().reach, Reach.groups("ab", "cd")
    assert reach != expected
    assert said in reach.difference(expected)
    lines = explain(reach, expected)
    assert lines is not None
    assert said in lines


def test_a_switch_that_floods_what_it_knows_is_found() -> None:
    net = Net("abc", "d")
    net.deliver("c", net.frames["a", "b"])
    difference = net.matrix().reach.difference(Reach.groups("abc", "d"))
    assert difference == ["unicast from a to b was overheard by c"]


def test_differences_of_who_was_probed() -> None:
    reach = Net("abcd").matrix().reach
    assert "broadcast from a did not reach e" in reach.difference(Reach.groups("abcde"))
    assert "unicast from e: the host was not probed" in reach.difference(Reach.groups("abcde"))
    assert "unicast from d: the host was probed, and is in no group" in reach.difference(
        Reach.groups("abc")
    )
    assert reach != {"a": "b"}
    assert "a -> b, c, d" in repr(reach)


def test_unknown_is_never_pass() -> None:
    net = Net("abcd")
    with pytest.raises(Unknown, match="dropped 1 frames"):
        _ = ProbeMatrix(net.plan, Batch(net.ledger, drained=True, drops={"a": 1})).reach
