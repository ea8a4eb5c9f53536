"""What is captured outside batches: late frames and strays are told from kernels' own talk."""

from __future__ import annotations

import re

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from harness.traffic import Ledger, Point, Unknown, from_scapy, probe_frame, ring, stamp
from harness.traffic import earlier as past
from harness.traffic import gaps as rooms
from harness.traffic.earlier import Earlier
from harness.traffic.gaps import Gap, Gaps

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
POINTS = [Point("a", "host"), Point("b", "host"), Point("wire", "wire")]
RUN = 77
KERNELS = {bytes.fromhex(A.replace(":", ""))}


class Scene:
    """A gap behind a first batch, in which flow 1 was sent from a to b."""

    def __init__(self, frame: Packet | None = None) -> None:
        ledger = Ledger(RUN, POINTS)
        blank = probe_frame(A, B) if frame is None else from_scapy(frame)
        self.old = stamp(ledger.flow("a", blank, to=["b"]).template, 0)
        self.earlier = Earlier()
        self.earlier.add(ledger.flows)
        self.gaps = Gaps(RUN, POINTS, self.earlier)
        self.gaps.open(2, batches=1)

    def see(self, point: str, *frames: bytes | Packet) -> Scene:
        block = ring.pack([ring.Unpacked(bytes(frame)) for frame in frames])
        self.gaps.take(point, "hv1:wire" if point == "wire" else None, block)
        return self

    def gap(self, drops: dict[str, int] | None = None) -> Gap:
        self.gaps.close(drops or {}, by_batch=True)
        (found,) = self.gaps.found
        return found

    def strays(self) -> list[str]:
        return [seen.note for seen in self.gap().strays(KERNELS)]


def test_a_late_frame_is_known_by_its_flow() -> None:
    gap = Scene().see("b", Scene().old).gap()
    (late,) = gap.late
    assert (late.point, late.seq) == ("b", 0)
    assert late.note == "carries the identity of flow 1 from a to b, sent in an earlier batch"
    assert gap.strays(()) == []


def test_a_late_frame_is_one_on_a_wire_too() -> None:
    (late,) = Scene().see("wire", bytes(60), Scene().old).gap().late
    assert (late.point, late.port) == ("wire", "hv1:wire")


def test_a_flow_of_long_ago_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST", 2)
    scene = Scene()
    newer = Ledger(RUN, POINTS, first_flow=2)
    scene.earlier.add([newer.flow("b", probe_frame(B, A)) for _ in range(2)])
    assert scene.earlier.what(3) == "flow 3 from b to nobody, sent in an earlier batch"
    (late,) = scene.see("b", scene.old).gap().late
    assert late.note == "carries the identity of flow 1, sent in an earlier batch"


def test_what_nobody_sent() -> None:
    unsent = Ledger(RUN, POINTS, first_flow=2).flow("a", probe_frame(A, B))
    other_run = Ledger(RUN + 1, POINTS).flow("a", probe_frame(A, B))
    scene = Scene().see("b", bytes(60), stamp(unsent.template, 0), stamp(other_run.template, 0))
    assert scene.strays() == [
        "carries no identity",
        "carries the identity of flow 2, not of this batch",
        "carries the identity of another run",
    ]


PING = Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP()
KERNELS_OWN: dict[str, Packet] = {
    "ARP": Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / ARP(),
    "IPv4": PING,
    "IPv6, as MLD": Ether(src=A, dst="33:33:00:00:00:16", type=0x86DD) / Raw(bytes(40)),
    "tagged": Ether(src=A, dst=B) / Dot1Q(vlan=9) / ARP(),
}
NO_KERNELS: dict[str, Packet] = {
    "of a host without addresses": Ether(src=B, dst=A) / ARP(),
    "nothing that a kernel says": Ether(src=A, dst=B, type=0x8035) / Raw(bytes(28)),
}


@pytest.mark.parametrize("name", KERNELS_OWN)
def test_kernels_may_talk(name: str) -> None:
    assert Scene().see("b", KERNELS_OWN[name]).strays() == []


@pytest.mark.parametrize("name", NO_KERNELS)
def test_others_may_not(name: str) -> None:
    assert Scene().see("b", NO_KERNELS[name]).strays() == ["carries no identity"]


def test_a_kernel_s_answer_to_an_earlier_frame_is_not_that_frame() -> None:
    scene = Scene(PING)
    answer = scene.old[6:12] + scene.old[:6] + scene.old[12:]
    gap = scene.see("a", answer).gap()
    assert gap.late == []
    assert [seen.note for seen in gap.strays(())] == [
        "an answer to flow 1 from a to b, sent in an earlier batch"
    ]


def test_a_late_frame_that_looks_like_a_kernel_s_is_late() -> None:
    scene = Scene(PING)
    assert len(scene.see("b", scene.old).gap().late) == 1


def test_nothing_is_said_of_quiet_gaps_nor_of_switches_own_frames_on_wires() -> None:
    scene = Scene().see("wire", bytes(60))
    scene.gaps.close({}, by_batch=True)
    assert scene.gaps.found == []


def test_when_strays_are_expected_late_frames_are_still_found() -> None:
    scene = Scene()
    scene.gaps.expecting_strays = True
    scene.see("b", bytes(60)).see("b", scene.old)
    gap = scene.gap()
    assert (len(gap.late), gap.strays(())) == (1, [])


def test_a_capture_that_dropped_frames_makes_a_gap_unknown() -> None:
    gap = Scene().gap({"b": 3})
    said = "^not known what arrived between batches 1 and 2: the capture at b dropped 3 frames$"
    with pytest.raises(Unknown, match=said):
        gap.check()


def test_memory_is_bounded_and_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "MOST_BLOCKS", 3)
    scene = Scene()
    for _ in range(5):
        scene.see("b", bytes(60))
    gap = scene.gap()
    assert len(gap.ledger.blocks) == 3
    with pytest.raises(Unknown, match="2 blocks more were captured than are looked at"):
        gap.check()
    scene.see("b", bytes(60))
    scene.gaps.close({}, by_batch=True)
    scene.gaps.found[1].check()


def test_nothing_is_looked_at_before_a_gap_is_opened_nor_after_an_unknown_batch() -> None:
    gaps = Gaps(RUN, POINTS, Earlier())
    block = ring.pack([ring.Unpacked(bytes(60))])
    gaps.take("b", None, block)
    gaps.close({"b": 1}, by_batch=True)
    gaps.open(1, batches=1)
    gaps.ignore()
    gaps.take("b", None, block)
    gaps.close({"b": 1}, by_batch=True)
    assert gaps.found == []


@pytest.mark.parametrize(
    ("batches", "by_batch", "said"),
    [
        (0, True, r"before the first batch, \S+ ms after the lab was up: in b: "),
        (0, False, r"without any batch, \S+ ms after the lab was up: in b: "),
        (2, True, r"between batches 2 and 3, \S+ ms after batch 2 ended: in b: "),
        (2, False, r"after batch 2, \S+ ms after batch 2 ended: in b: "),
    ],
)
def test_where_and_when(batches: int, by_batch: bool, said: str) -> None:
    gaps = Gaps(RUN, POINTS, Earlier())
    gaps.open(1, batches=batches)
    gaps.take("b", None, ring.pack([ring.Unpacked(bytes(60))]))
    gaps.close({}, by_batch=by_batch)
    (gap,) = gaps.found
    (stray,) = gap.strays(())
    text = gap.summary(stray)
    assert re.match(said, text), text
