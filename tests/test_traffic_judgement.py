"""Matching and judging: what a batch says of frames that arrived, changed, doubled or leaked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from harness.traffic import (
    Batch,
    Flow,
    Ledger,
    NotOnce,
    Point,
    Sent,
    Tag,
    Unknown,
    explain,
    from_scapy,
    probe_frame,
    ring,
    stamp,
)
from harness.traffic.frames import untagged

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
POINTS = [Point("a", "host"), Point("b", "host"), Point("c", "host"), Point("wire", "wire")]
RUN = 77
MS = 1_000_000


class Scene:
    """A ledger with one flow from a to b, and a way to let frames arrive."""

    def __init__(self, frame: bytes | Ether | None = None, count: int = 1) -> None:
        self.ledger = Ledger(RUN, POINTS)
        blank = probe_frame(A, B) if frame is None else from_scapy(frame)
        self.flow: Flow = self.ledger.flow("a", blank, to=["b"])
        for seq in range(count):
            self.flow.times.append((seq, seq * 10 * MS))
        self.flow.count = count

    def frame(self, seq: int = 0) -> bytes:
        return stamp(self.flow.template, seq)

    def see(self, point: str, *frames: bytes | ring.Unpacked, at: int = MS) -> Scene:
        given = [
            f if isinstance(f, ring.Unpacked) else ring.Unpacked(f, at + n)
            for n, f in enumerate(frames)
        ]
        self.ledger.take(point, ring.pack(given))
        return self

    def end(self) -> Batch:
        return Batch(self.ledger, drained=True)

    def sent(self) -> Sent:
        (sent,) = self.end()
        return sent


def retag(frame: bytes, *tags: Tag) -> bytes:
    plain = untagged(frame)
    return plain[:12] + b"".join(tag.wire for tag in tags) + plain[12:]


def test_a_frame_that_arrives_where_it_should() -> None:
    scene = Scene()
    scene.see("b", scene.frame()).see("wire", scene.frame())
    batch = scene.end()
    (sent,) = batch
    assert sent.heard_at == {"b"}
    assert sent.crossed == {"wire"}
    assert (sent.count_at("b"), sent.count_at("a"), sent.count_at("wire")) == (1, 0, 1)
    assert (sent.leaked, sent.duplicates, sent.changed, sent.missing_at("b")) == ([], [], [], [])
    assert (batch.strays, batch.wire_strays, batch.leaked, batch.changed) == ([], [], [], [])
    assert sent.latency == MS
    assert sent.seen_on("wire").data == scene.frame()
    assert sent.sightings[0].packet.src == A


Q, AD = Tag.of(900, pcp=3), Tag.of(7, tpid=0x88A8)
WAYS: dict[str, tuple[Callable[[bytes], bytes | ring.Unpacked], tuple[Tag, ...]]] = {
    "plain": (lambda f: f, ()),
    "tag in the ring's header": (lambda f: ring.Unpacked(untagged(f), tag=Q), (Q,)),
    "priority tag": (lambda f: ring.Unpacked(untagged(f), tag=Tag.of(0)), (Tag.of(0),)),
    "tag in the frame": (lambda f: retag(f, Q), (Q,)),
    "QinQ": (lambda f: ring.Unpacked(retag(f, Q), tag=AD), (AD, Q)),
    "padded": (lambda f: f + bytes(9), ()),
    "padded and tagged": (lambda f: ring.Unpacked(retag(f, Q) + bytes(4), tag=AD), (AD, Q)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vlan", [None, 5])
def test_tags_and_padding_are_no_change(way: str, vlan: int | None) -> None:
    make, tags = WAYS[way]
    scene = Scene()
    scene.flow = scene.ledger.flow("a", probe_frame(A, B, vlan=vlan), to=["b"])
    scene.flow.count = 1
    if way in {"plain", "padded"} and vlan:
        tags = (Tag.of(vlan),)
    for point in ("b", "wire"):
        scene.see(point, make(scene.frame()))
    batch = scene.end()
    sent = batch.result(scene.flow)
    assert sent.heard_at == {"b"}
    assert (sent.changed, batch.strays, batch.wire_strays) == ([], [], [])
    for point in ("b", "wire"):
        seen = sent.seen_on(point)
        assert seen.tags == tags
        assert seen.vlan_ids == [tag.vid for tag in tags]
        assert (seen.seq, seen.outer) == (0, b"")


UPLINK1, UPLINK2 = "02:00:00:00:ff:01", "02:00:00:00:ff:02"
OUTER = Ether(src=UPLINK1, dst=UPLINK2) / IP(src="192.0.2.1", dst="192.0.2.2")


@pytest.mark.parametrize(
    ("outer", "inner_tags"),
    [
        (OUTER / UDP(dport=4789) / VXLAN(vni=9), ()),
        (OUTER / UDP(dport=4789) / VXLAN(vni=9), (Q,)),
        (OUTER / UDP(dport=4789) / VXLAN(vni=9), (AD, Q)),
        (OUTER / GRE(proto=0x6558), ()),
    ],
)
def test_a_tunnelled_frame_is_found_behind_its_outer_headers(
    outer: Ether, inner_tags: tuple[Tag, ...]
) -> None:
    scene = Scene()
    inner = retag(scene.frame(), *inner_tags)
    scene.see("wire", ring.Unpacked(bytes(outer / Raw(inner)), tag=Tag.of(42)))
    sent = scene.sent()
    seen = sent.seen_on("wire")
    assert sent.changed == []
    assert (seen.vlan_ids, seen.inner_tags) == ([42], inner_tags)
    assert seen.inner_vlan_ids == [tag.vid for tag in inner_tags]
    assert seen.inner == inner
    assert len(seen.outer) == len(outer) + 4
    assert seen.packet[IP].dst == "192.0.2.2"


def test_a_layer_3_tunnel_takes_the_ethernet_header_away() -> None:
    scene = Scene(Ether(src=A, dst=B) / IP(dst="10.0.0.2") / UDP())
    scene.see("wire", bytes(OUTER / GRE(proto=0x0800) / Raw(scene.frame()[14:])))
    seen = scene.sent().seen_on("wire")
    assert (seen.has_ethernet, seen.inner, seen.inner_tags) == (False, scene.frame()[14:], ())
    assert scene.sent().changed == []


def test_a_tunnelled_frame_at_a_host_is_a_change() -> None:
    scene = Scene()
    scene.see("b", bytes(OUTER / UDP(dport=4789) / VXLAN(vni=9) / Raw(scene.frame())))
    (change,) = scene.sent().changed
    assert change.sighting.point == "b"


def test_a_changed_field_is_named() -> None:
    scene = Scene(Ether(src=A, dst=B) / IP(dst="10.0.0.2", ttl=64) / UDP())
    frame = bytearray(scene.frame())
    frame[22] -= 1
    frame[24] ^= 0xFF
    for point in ("b", "wire"):
        scene.see(point, ring.Unpacked(bytes(frame), tag=Q))
    at_host, on_wire = scene.sent().changed
    assert scene.sent().heard_at == {"b"}
    assert at_host.fields == on_wire.fields == ["IP.ttl 64 -> 63"]
    assert at_host.ranges == ((22, 23), (24, 25))
    assert at_host.summary() == "changed at b: IP.ttl 64 -> 63 (bytes 22, 24)"


def test_changed_payload_of_a_tunnelled_frame() -> None:
    scene = Scene()
    frame = bytearray(scene.frame())
    frame[20] ^= 1
    scene.see("wire", bytes(OUTER / GRE(proto=0x6558) / Raw(bytes(frame))))
    (change,) = scene.sent().changed
    assert change.ranges == ((20, 21),)
    assert "payload" in change.summary()


def test_a_leak_is_a_leak_also_at_the_sender() -> None:
    scene = Scene()
    scene.see("b", scene.frame()).see("c", scene.frame()).see("a", scene.frame())
    batch = scene.end()
    assert [seen.point for seen in batch.leaked] == ["c", "a"]
    assert batch.sent[0].heard_at == {"a", "b", "c"}


def test_what_a_host_sends_itself_did_not_arrive_there() -> None:
    scene = Scene()
    scene.see("a", ring.Unpacked(scene.frame(), kind=ring.OUTGOING))
    scene.see("wire", ring.Unpacked(scene.frame(), kind=ring.OUTGOING))
    assert scene.sent().heard_at == set()
    assert scene.sent().seen_on("wire").direction == "out"


def test_duplicates_and_losses_of_many() -> None:
    scene = Scene(count=6)
    scene.see("b", *(scene.frame(seq) for seq in (0, 1, 1, 4, 5)), at=7 * MS)
    scene.see("c", scene.frame(1))
    scene.see("wire", scene.frame(0), scene.frame(0))
    sent = scene.sent()
    assert [(seen.point, seen.seq) for seen in sent.duplicates] == [("b", 1)]
    assert sent.missing_at("b") == [2, 3]
    assert sent.missing_at("c") == [0, 2, 3, 4, 5]
    assert sent.latencies[:2] == [7 * MS, -9 * MS]
    assert sent.outage == 2  # ns, from the first #1 to #4


def test_outage_of_a_host_that_hears_no_more() -> None:
    scene = Scene(count=5)
    scene.see("b", scene.frame(0), at=2 * MS)
    assert scene.sent().outage == 38 * MS
    assert Scene(count=5).sent().outage == 40 * MS


@pytest.mark.parametrize("count", [0, 2])
def test_seen_on_says_how_many_and_shows_them(count: int) -> None:
    scene = Scene()
    scene.see("wire", *[scene.frame()] * count).see("c", scene.frame())
    said = (
        "seen 2 times on wire, not once:\n  in wire #0" if count else "not seen on wire; .*\n  in c"
    )
    with pytest.raises(NotOnce, match=said):
        scene.sent().seen_on("wire")


def test_an_unknown_point_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'x'; there are: a, b, c, wire"):
        Scene().sent().all_on("x")
    with pytest.raises(ValueError, match="no host is called 'wire'"):
        Scene().ledger.flow("wire", probe_frame(A, B))


def strays_of(*frames: bytes) -> list[str]:
    scene = Scene(Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP())
    scene.see("b", *frames)
    return [seen.note for seen in scene.end().strays]


def foreign(run: int, number: int = 1) -> bytes:
    ledger = Ledger(run, POINTS, first_flow=number)
    return stamp(ledger.flow("a", probe_frame(A, B)).template, 0)


def test_what_nobody_sent_is_reported() -> None:
    damaged = foreign(RUN)[:-12] + b"\x55" + foreign(RUN)[-11:]
    echo = Scene(Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP()).frame()
    answer = echo[6:12] + echo[:6] + echo[12:]
    notes = strays_of(bytes(60), b"tiny", foreign(78), foreign(RUN, 9), damaged, answer)
    assert notes == [
        "carries no identity",
        "carries no identity",
        "carries the identity of another run",
        "carries the identity of flow 9, not of this batch",
        "carries a damaged identity",
        "an answer to flow 1 from a to b",
    ]


def test_an_answer_in_a_tunnel_is_not_the_probe() -> None:
    scene = Scene(Ether(src=A, dst=B) / IP(dst="10.0.0.2") / ICMP())
    frame = scene.frame()
    answer = frame[6:12] + frame[:6] + frame[12:34] + b"\0" + frame[35:]
    for inner in (frame, answer):
        scene.see("wire", bytes(OUTER / GRE(proto=0x6558) / Raw(inner)))
    batch = scene.end()
    assert batch.sent[0].seen_on("wire").inner == frame
    assert [seen.note for seen in batch.wire_strays] == ["an answer to flow 1 from a to b"]


def test_the_identity_of_other_content_is_forged() -> None:
    assert strays_of(foreign(RUN)) == ["carries a forged or damaged identity of flow 1 from a to b"]


def test_a_damaged_number_whose_sum_still_holds_is_found() -> None:
    """Two words of the digest change places: a ones-complement sum does not see that."""
    scene = Scene()
    frame = scene.frame()
    scene.see("b", frame[:-8] + frame[-6:-4] + frame[-8:-6] + frame[-4:])
    batch = scene.end()
    assert batch.sent[0].heard_at == set()
    assert "forged or damaged" in batch.strays[0].note


def test_one_frame_heard_twice_is_a_duplicate() -> None:
    scene = Scene()
    scene.see("b", scene.frame()).see("b", scene.frame())
    assert [seen.point for seen in scene.end().duplicates] == ["b"]


def test_the_probe_of_ovs_vswitchd_itself_is_no_stray_and_nothing_like_it_is() -> None:
    probe = bytes(12) + b"\x12\x34"
    scene = Scene().see("c", probe)
    assert (scene.end().strays, len(scene.ledger.feature_probes)) == ([], 1)
    tagged = retag(probe, Tag.of(5))
    others = [probe + b"\0", b"\1" + probe[1:], probe[:13] + b"\x35", tagged]
    strays = scene.see("c", *others).end().strays
    assert [seen.data for seen in strays] == others
    assert len(scene.ledger.feature_probes) == 1


def test_strays_on_wires_are_kept_apart() -> None:
    scene = Scene()
    scene.see("wire", bytes(Ether() / ARP()))
    batch = scene.end()
    assert batch.strays == []
    assert "ARP" in batch.wire_strays[0].summary()


def test_bytes_without_identity_are_matched_by_content() -> None:
    raw = bytes(Ether(src=A, dst=B) / ARP())
    scene = Scene(raw, count=2)
    scene.see("b", raw, raw + bytes(18), ring.Unpacked(raw, 5 * MS, tag=Q))
    scene.see("wire", bytes(OUTER / GRE(proto=0x6558) / Raw(raw)))
    batch = scene.end()
    (sent,) = batch
    assert sent.count_at("b") == 3
    assert len(sent.duplicates) == 1
    assert sent.seen_on("wire").inner == raw
    assert (sent.changed, batch.strays, batch.wire_strays) == ([], [], [])
    with pytest.raises(ValueError, match="carries no numbers"):
        sent.missing_at("b")


def test_the_same_bytes_from_two_hosts_are_refused() -> None:
    scene = Scene(bytes(60))
    with pytest.raises(ValueError, match="a and c send the same frame"):
        scene.ledger.flow("c", from_scapy(bytes(60)))


def test_a_frame_cut_short_is_still_known() -> None:
    scene = Scene()
    scene.see("b", ring.Unpacked(scene.frame()[:30], tag=Q, wire_len=64))
    sent = scene.sent()
    seen = sent.seen_on("b")
    assert (seen.truncated, seen.seq, seen.note) == (True, 0, "cut short")
    assert sent.changed[0].sighting == seen
    assert "34 of 68 bytes captured" in seen.summary()


def test_a_cut_that_fits_two_flows_is_a_stray() -> None:
    scene = Scene()
    scene.ledger.flow("a", probe_frame(A, B), to=["c"])
    scene.see("b", scene.frame()[:30])
    assert [seen.note for seen in scene.end().strays] == [
        "cut short; it may be of more than one flow"
    ]


@pytest.mark.parametrize(
    ("drained", "reason", "drops", "said"),
    [
        (False, "an upcall is outstanding on hv1", {}, "an upcall is outstanding on hv1"),
        (False, "", {}, "the drain did not end"),
        (True, "", {"b": 3, "c": 0}, "the capture at b dropped 3 frames"),
    ],
)
def test_unknown_is_never_pass(
    drained: bool, reason: str, drops: dict[str, int], said: str
) -> None:
    scene = Scene()
    scene.see("b", scene.frame())
    batch = Batch(scene.ledger, drained=drained, reason=reason, drops=drops)
    (sent,) = batch
    negatives: list[Callable[[], object]] = [
        lambda: sent.heard_at,
        lambda: sent.crossed,
        lambda: sent.leaked,
        lambda: sent.duplicates,
        lambda: sent.changed,
        lambda: sent.outage,
        lambda: sent.missing_at("b"),
        lambda: sent.count_at("b"),
        lambda: sent.all_on("b"),
        lambda: sent.seen_on("b"),
        lambda: batch.strays,
        lambda: batch.wire_strays,
        lambda: batch.leaked,
        lambda: batch.duplicates,
        lambda: batch.changed,
    ]
    for negative in negatives:
        with pytest.raises(Unknown, match=said):
            negative()
    assert [seen.point for seen in sent.sightings] == ["b"]
    assert batch.unknown == said


def test_bursts_and_a_flow_that_nobody_should_hear() -> None:
    scene = Scene()
    flow = scene.ledger.flow("a", probe_frame(A, B, size=80))
    flow.count = 4
    flow.times += [(0, 5), (2, 50)]
    scene.see("c", stamp(flow.template, 3), at=60)
    sent = scene.end().result(flow)
    assert ([seen.seq for seen in sent.leaked], sent.latencies) == ([3], [10])
    assert str(sent) == "4 frames of flow 2 from a to nobody"


def test_a_failed_comparison_says_what_arrived_where() -> None:
    scene = Scene()
    scene.see("c", ring.Unpacked(scene.frame(), MS, tag=Q))
    for lines in (
        explain(scene.sent().heard_at, {"b"}),
        explain({"b"}, scene.sent().heard_at),
    ):
        assert lines is not None
        text = "\n".join(lines)
        assert "heard at c; expected: b" in text
        assert "c heard it and should not have:\n  in c #0: vlan 900 pcp 3, 68 bytes" in text
        assert "b did not hear it; it was seen here:\n  in c" in text
    leaked = explain(scene.end().leaked, [])
    assert leaked is not None
    assert leaked[0] == "1 frames more than the 0 expected:"
    nowhere = explain(Scene().sent().heard_at, {"b"})
    assert nowhere is not None
    assert nowhere[-1] == "  nowhere"
    assert explain(1, 2) is None
