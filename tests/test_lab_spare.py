"""A machine that is started before it is known what for. Nothing is started here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.images.locks import Hold
from harness.images.templates import Template
from harness.lab import plan as plans
from harness.lab.machines import MachineSite
from harness.lab.spare import Spare
from harness.nodes import vm
from harness.nodes.base import NodeError
from harness.nodes.qemu import Machine
from harness.nodes.vm import Cable
from harness.topology import Topology

MACHINE = Machine(Path("k"), Path("i"), "tcg", memory=1, cards=4)


class Starting:
    """Stands in for a machine that comes up."""

    def __init__(self, name: str, cables: Sequence[Cable] = ()) -> None:
        self.name, self._cables = name, cables
        self.closed = False

    def rename(self, name: str) -> None:
        self.name = name

    def result(self) -> Starting:
        return self

    def close(self) -> None:
        self.closed = True
        for cable in self._cables:
            cable.end.close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Starting]:
    """All machines that were started."""
    found: list[Starting] = []

    def clone(name: str, _machine: Machine, _path: Path, cables: Sequence[Cable] = ()) -> Starting:
        found.append(Starting(name, cables))
        return found[-1]

    monkeypatch.setattr(vm, "clone", clone)
    return found


def template(path: str = "four") -> Template:
    return Template(MACHINE, Path(path), "", Hold())


def place(spare: Spare, switches: int, *, joined: bool) -> MachineSite:
    topo = Topology("t")
    wire = topo.underlay("wire")
    for number in range(switches):
        bridge = topo.switch(f"s{number}").bridge("br0")
        if joined:
            bridge.uplink(wire)
    return MachineSite(
        plans.make(topo.freeze()), lambda _cards: template(), lambda *_: template(), spare
    )


def test_the_first_that_wants_it_has_it(started: list[Starting]) -> None:
    spare = Spare(template())
    assert spare.take("s1", template())
    assert [one.name for one in started] == ["s1"]
    assert spare.take("s2", template()) is None
    spare.close()
    assert not started[0].closed


def test_a_clone_of_another_template_is_no_use(started: list[Starting]) -> None:
    spare = Spare(template())
    assert spare.take("s1", template("twenty-four")) is None
    assert not started[0].closed
    for _ in range(2):
        spare.close()
    assert started[0].closed


def test_one_of_a_lab_s_switches_is_the_spare(started: list[Starting]) -> None:
    spare = Spare(template())
    nodes = dict(place(spare, 3, joined=False).start_nodes())
    assert len(started) == 3
    assert list(nodes) == ["s0", "s1", "s2"] == [one.name for one in started]
    assert not any(one.closed for one in started)
    # The next lab has none.
    dict(place(spare, 1, joined=False).start_nodes())
    assert len(started) == 4


def test_where_cables_are_plugged_in_it_ends(
    started: list[Starting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU has to be given them when it starts."""
    monkeypatch.setattr("harness.lab.machines._Relay", lambda _plugs: Closing())
    spare = Spare(template())
    site = place(spare, 2, joined=True)
    assert [name for name, _node in site.start_nodes()] == ["s0", "s1"]
    assert [one.closed for one in started] == [True, False, False]
    site.close()
    for one in started[1:]:
        one.close()


class Closing:
    def close(self) -> None:
        pass


def test_one_that_does_not_start_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(*_: object) -> None:
        raise NodeError("cannot start qemu")

    monkeypatch.setattr(vm, "clone", clone)
    with pytest.raises(NodeError, match="cannot start qemu"):
        Spare(template())
