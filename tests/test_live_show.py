"""What the commands print."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from harness.live import show
from harness.live.messages import Crossing, HostInfo, Info, Matrix, Probed, Row, SwitchInfo


def printed(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return [[cell for cell in line.strip().split("  ") if cell.strip()] for line in lines]


def info(*, up: bool = True, lost: bool = False) -> Info:
    return Info(
        name="one",
        target="trixie/namespace/netdev",
        pid=42,
        since=0.0,
        up=up,
        version="3.5.0" if up else "",
        switches=[SwitchInfo("s1", ["br0", "br1"], lost)],
        hosts=[
            HostInfo("h1", "s1", "br0", "02:00:00:01:00:01", ["10.0.0.1/24"]),
            HostInfo("h2", "s1", "br1", "02:00:00:01:00:02", []),
        ],
        underlays=["wire"],
    )


def test_what_is_up_and_how_to_use_it() -> None:
    lines = list(show.ready(info(), alone=True))
    assert lines[0] == "lab one is up (trixie/namespace/netdev, Open vSwitch 3.5.0)"
    assert "  switch s1: br0, br1" in lines
    assert "  host h1: 02:00:00:01:00:01 10.0.0.1/24 on s1 br0" in lines
    assert "  underlay wire" in lines
    assert "ovs-harness probe h1 h2" in lines
    assert "ovs-harness exec s1 -- ovs-vsctl show" in lines


def test_beside_another_lab_the_commands_name_theirs() -> None:
    lines = list(show.ready(info(), alone=False))
    assert "ovs-harness shell --lab one s1" in lines
    assert "ovs-harness capture --lab one" in lines
    assert "ovs-harness down one" in lines


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (info(), "2"),
        (info(up=False), "starting"),
        (info(lost=True), "ended: s1"),
        (None, "does not answer"),
    ],
)
def test_labs(found: Info | None, said: str) -> None:
    rows = printed(show.labs([("one", found)]))
    (row,) = (row for row in rows if row and row[0].strip() == "one")
    assert said in [cell.strip() for cell in row]


OUTER = bytes.fromhex(
    "02000000000202000000000108004500005200004000401100000a0000010a0000020e0e12b5003e000008000000"
    "00002a00"
)


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (
            Probed("a", "b", ["b"], 210_000, [Crossing("wire", "s1:eth1", ["vlan 900"])], []),
            ["a -> b: heard at b after 0.210 ms", "  crossed wire at s1:eth1: vlan 900"],
        ),
        (
            Probed("a", "b", [], None, [], []),
            ["a -> b: heard at no host", "  b did not hear it"],
        ),
        (
            Probed("a", "b", ["b", "c"], 1_000_000, [], ["duplicates: twice"]),
            ["a -> b: heard at b, c after 1.000 ms", "  c heard it too", "  duplicates: twice"],
        ),
        (
            Probed("a", "b", ["b"], 0, [Crossing("w", "s1:e", [], OUTER, ["vlan 5"])], []),
            [
                "a -> b: heard at b after 0.000 ms",
                "  crossed w at s1:e: untagged, in Ether/IP/UDP/VXLAN (50 bytes); inside: vlan 5",
            ],
        ),
    ],
)
def test_probe(result: Probed, lines: list[str]) -> None:
    assert list(show.probed(result)) == lines


def test_matrix() -> None:
    hosts = [f"h{number}" for number in range(5)]
    rows = [Row("h0", hosts[1:], [], []), Row("h1", ["h0", "h2"], ["h0"], [("h0", "h4")])]
    rows += [Row(name, [], [], []) for name in hosts[2:]]
    shown = printed(show.matrix(Matrix(rows, [])))
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in shown if row}
    assert cells["h0"] == ["all 4 others", "nobody"]
    assert cells["h1"] == ["h0, h2", "h0", "what is for h0 by h4"]
    assert cells["h2"] == ["nobody", "nobody"]
