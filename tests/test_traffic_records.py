"""What is kept on disk: captures as pcapng."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
import scapy.layers.l2  # noqa: F401 - teaches the reader Ethernet
from scapy.utils import PcapNgReader

from harness.traffic import Ledger, Point, Tag, pcapng, probe_frame, ring, stamp
from harness.traffic.pcapng import Interface, Packet, Place

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
INTERFACES = [Interface("vm1-a", "host vm1-a"), Interface("wire:hv1"), Interface("wire:hv2")]
NOW = 1_700_000_000_123_456_789
PACKETS = [
    Packet(NOW, 0, bytes(range(60)), 60, "in", "flow 1 #0: grüße"),
    Packet(NOW + 1, 2, probe_frame(A, B, vlan=900, size=61), 61, "out"),
    Packet(NOW + 1, 1, bytes(14), 9000, "in", "x" * 3),
]


def written() -> bytes:
    file = io.BytesIO()
    pcapng.write(file, INTERFACES, PACKETS)
    return file.getvalue()


def test_what_is_written_is_read_back() -> None:
    assert pcapng.read(io.BytesIO(written())) == (INTERFACES, PACKETS)


def test_scapy_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    path.write_bytes(written())
    with PcapNgReader(str(path)) as reader:
        packets = list(reader)
    assert [bytes(p) for p in packets] == [p.data for p in PACKETS]
    assert [p.sniffed_on for p in packets] == ["vm1-a", "wire:hv2", "wire:hv1"]
    assert [int(p.time * 10**9) for p in packets] == [p.time_ns for p in PACKETS]
    assert [p.direction for p in packets] == [1, 2, 1]
    assert packets[1].vlan == 900


def test_tshark_reads_it(tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    path = tmp_path / "frames.pcapng"
    path.write_bytes(written())
    fields = ["frame.interface_name", "frame.comment", "vlan.id"]
    argv = [tshark, "-r", str(path), "-T", "fields", *(f"-e{field}" for field in fields)]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[0].split("\t")[:2] == ["vm1-a", PACKETS[0].comment]
    assert out.splitlines()[1].split("\t")[2] == "900"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"not a capture file at all", "not a pcapng file"),
        (b"\n\r\r\n\x10\0\0\0\x1a\x2b\x3c\x4d\x10\0\0\0", "not a little-endian"),
        (written()[:-3], "ends in a block"),
        (written()[:30], "ends in a block"),
        (written().replace(b"\x09\x00\x01\x00\x09", b"\x09\x00\x01\x00\x06"), "nanoseconds"),
    ],
)
def test_a_bad_file_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pcapng.read(io.BytesIO(data))


def test_a_batch_as_a_capture() -> None:
    ledger = Ledger(1, [Point("a", "host"), Point("b", "host"), Point("wire", "wire")])
    flow = ledger.flow("a", probe_frame(A, B), to=["b"])
    flow.count = 1
    frame = stamp(flow.template, 0)
    changed = frame[:20] + b"\x99" + frame[21:]
    ledger.take("b", ring.pack([ring.Unpacked(frame, 30), ring.Unpacked(changed, 50)]))
    ledger.take("wire", ring.pack([ring.Unpacked(frame, 20, tag=Tag.of(900))]), "hv1")
    outgoing = ring.Unpacked(frame, 10, kind=ring.OUTGOING)
    ledger.take("a", ring.pack([outgoing, ring.Unpacked(bytes(60), 40)]))
    places = [Place("b"), Place("wire", "hv1"), Place("a")]
    assert [pcapng.interface_of(place, ledger.points) for place in places] == [
        Interface("b", "host b"),
        Interface("wire at hv1", "wire wire"),
        Interface("a", "host a"),
    ]
    packets = pcapng.packets(ledger, {place: number for number, place in enumerate(places)})
    assert [(p.time_ns, p.interface, p.direction, p.comment) for p in packets] == [
        (10, 2, "out", ""),
        (20, 1, "in", "flow 1 from a to b #0"),
        (30, 0, "in", "flow 1 from a to b #0"),
        (40, 2, "in", "sent by nobody: carries no identity"),
        (50, 0, "in", "flow 1 from a to b #0 (changed on the way)"),
    ]
    assert (packets[1].wire_len, packets[1].data[12:16]) == (68, Tag.of(900).wire)
