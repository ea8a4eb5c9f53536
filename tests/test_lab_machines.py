"""Where the switches are virtual machines: what a lab refuses before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.images import Image
from harness.images.locks import Hold
from harness.images.templates import Template
from harness.lab.errors import LabError
from harness.lab.machines import SPARE, MachineSite
from harness.lab.plan import Plan, make
from harness.nodes import vm
from harness.nodes.base import NodeError
from harness.nodes.qemu import Machine
from harness.topology import Topology

MEMORY = 1024


def plan(switches: int) -> Plan:
    topo = Topology("many")
    wire = topo.underlay("wire")
    for number in range(switches):
        topo.switch(f"hv{number}").bridge("br0").uplink(wire)
    return make(topo.freeze())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], MachineSite]:
    """A site for so many switches on a machine with so many MiB left."""

    def place(switches: int, available: int) -> MachineSite:
        text = f"MemTotal: 99999999 kB\nMemAvailable:   {available << 10} kB\nHugePages_Free: 0\n"
        read = Path.read_text
        monkeypatch.setattr(
            Path,
            "read_text",
            lambda path, **how: text if path == Path("/proc/meminfo") else read(path, **how),
        )
        machine = Machine(tmp_path / "k", tmp_path / "i", "tcg", memory=MEMORY, cards=4)

        def template(cards: int) -> Template:
            assert cards == 1
            return Template(machine, tmp_path, "", Hold())

        def booted(image: object, cards: int) -> Template:
            raise AssertionError((image, cards))

        return MachineSite(plan(switches), template, booted)

    return place


@pytest.mark.parametrize("switches", [1, 3, 10])
def test_more_machines_than_fit_are_refused_before_anything_starts(
    site: Callable[[int, int], MachineSite], switches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def clone(name: str, *_: object) -> None:
        started.append(name)
        raise NodeError("as planned")

    monkeypatch.setattr(vm, "clone", clone)
    enough = switches * MEMORY + SPARE
    before = descriptors()
    with pytest.raises(LabError) as info:
        next(site(switches, enough - 1).start_nodes())
    assert f"{switches} virtual machines may take {switches * MEMORY} MiB" in str(info.value)
    assert f"only {enough - 1} MiB are available" in str(info.value)
    assert started == []
    assert descriptors() == before
    # With one MiB more it begins.
    with pytest.raises(NodeError, match="as planned"):
        next(site(switches, enough).start_nodes())
    assert started == ["hv0"]
    assert descriptors() == before


def test_when_one_does_not_start_the_others_end(
    site: Callable[[int, int], MachineSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Starting:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            ended.append(self.name)

    def clone(name: str, _machine: Machine, _path: Path, cables: list[vm.Cable]) -> Starting:
        assert [cable.interface for cable in cables]
        assert all(isinstance(cable.end, socket.socket) for cable in cables)
        if name == "hv2":
            raise NodeError("hv2: no memory")
        return Starting(name)

    monkeypatch.setattr(vm, "clone", clone)
    before = descriptors()
    place = site(4, 100 * MEMORY)
    with pytest.raises(NodeError, match="hv2: no memory"):
        next(place.start_nodes())
    place.close()
    assert ended == ["hv0", "hv1"]
    assert descriptors() == before


def test_a_machine_changes_to_what_has_a_kernel(site: Callable[[int, int], MachineSite]) -> None:
    host = Image("host", "3.1.0", None, None, (Path("/"),), "/usr")
    with pytest.raises(LabError, match="a virtual machine can't become host, which has no kernel"):
        site(1, 99999).change_image("s1", host, [])
