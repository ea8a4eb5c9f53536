"""Captures on disk: pcapng with an interface for each attachment point.

Source of the layout: the IETF draft "PCAP Next Generation (pcapng) Capture File Format",
sections 3.5 (options), 4.1 (section header), 4.2 (interface), 4.3 (enhanced packet).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from struct import Struct
from struct import error as struct_error
from typing import BinaryIO, NamedTuple

from harness.traffic import ring
from harness.traffic.ledger import Captured, Ledger
from harness.traffic.sightings import Direction, Point

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_ETHERNET = 1
_COMMENT, _IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _EPB_FLAGS = 1, 2, 3, 9, 2
_NANOSECONDS = b"\x09"
_FLAGS: dict[Direction, int] = {"in": 1, "out": 2}
_WAYS: dict[int, Direction] = {1: "in", 2: "out"}

_HEAD, _TAIL = Struct("<II"), Struct("<I")
_SECTION_BODY, _INTERFACE_BODY = Struct("<IHHq"), Struct("<HHI")
_PACKET_BODY, _OPTION = Struct("<IIIII"), Struct("<HH")


class Interface(NamedTuple):
    """A place of capture: its name, and what it is."""

    name: str
    description: str = ""


class Place(NamedTuple):
    """Where a capture is open: an attachment point, and on a wire the switch's port."""

    point: str
    port: str | None = None


class Packet(NamedTuple):
    """A captured frame; ``interface`` is the index of its place, ``time_ns`` since 1970."""

    time_ns: int
    interface: int
    data: bytes
    wire_len: int
    direction: Direction
    comment: str = ""


def write(file: BinaryIO, interfaces: Sequence[Interface], packets: Iterable[Packet]) -> None:
    """Write a whole capture file; the packets stand in it in the order given."""
    file.write(_block(_SECTION, _SECTION_BODY.pack(_BYTE_ORDER, 1, 0, -1)))
    for interface in interfaces:
        options = _option(_IF_NAME, interface.name.encode())
        if interface.description:
            options += _option(_IF_DESCRIPTION, interface.description.encode())
        options += _option(_IF_TSRESOL, _NANOSECONDS) + _option(0, b"")
        file.write(_block(_INTERFACE, _INTERFACE_BODY.pack(_ETHERNET, 0, 0) + options))
    for packet in packets:
        file.write(_block(_PACKET, _packet_body(packet)))


def read(file: BinaryIO) -> tuple[list[Interface], list[Packet]]:
    """Read a file that :func:`write` wrote (little-endian, one section, ns time stamps).

    Raise ``ValueError`` when the file is something else or is damaged.
    """
    interfaces: list[Interface] = []
    packets: list[Packet] = []
    try:
        for kind, body in _blocks(file):
            if kind == _INTERFACE:
                interfaces.append(_read_interface(body))
            elif kind == _PACKET:
                packets.append(_read_packet(body, len(interfaces)))
    except struct_error as error:
        raise ValueError(f"a damaged pcapng file: {error}") from None
    return interfaces, packets


def interface_of(place: Place, points: Mapping[str, Point]) -> Interface:
    """A place of capture as an interface of the file."""
    name = place.point if place.port is None else f"{place.point} at {place.port}"
    return Interface(name, f"{points[place.point].kind} {place.point}")


def packets(ledger: Ledger, places: Mapping[Place, int]) -> list[Packet]:
    """Everything that was captured into a ledger, in order of time, on each packet who sent it;
    ``places`` gives the index of each interface."""
    comments = _comments(ledger)
    found: list[Packet] = []
    for number, captured in enumerate(ledger.blocks):
        place = places[Place(captured.point.name, captured.port)]
        found += _packets(place, number, captured, comments)
    return sorted(found, key=attrgetter("time_ns"))


def _packets(
    place: int, number: int, captured: Captured, comments: dict[int, str]
) -> Iterator[Packet]:
    block = captured.data
    for frame in ring.walk(block):
        wire_len = frame[3] + (4 if frame[6] else 0)
        way: Direction = "out" if frame[5] == ring.OUTGOING else "in"
        comment = comments.get(number << 32 | frame[0], "")
        time_ns = captured.time_of(frame)
        yield Packet(time_ns, place, ring.restore(block, frame), wire_len, way, comment)


def _comments(ledger: Ledger) -> dict[int, str]:
    """What is known of each captured frame, by hit."""
    said = {hit: f"sent by nobody: {ledger.odd[hit].note}" for hit in ledger.strays}
    said.update({hit: f"late: {ledger.odd[hit].note}" for hit in ledger.late})
    said.update({hit: ledger.odd[hit].note for hit in ledger.feature_probes})
    for flow in ledger.flows:
        for hit in flow.hits:
            odd = ledger.odd.get(hit)
            seq = ledger.seq_of(flow, hit)
            extra = " (changed on the way)" if odd is not None and odd.changed else ""
            said[hit] = flow.what + ("" if seq is None else f" #{seq}") + extra
    return said


def _packet_body(packet: Packet) -> bytes:
    high, low = packet.time_ns >> 32, packet.time_ns & 0xFFFFFFFF
    size = len(packet.data)
    head = _PACKET_BODY.pack(packet.interface, high, low, size, packet.wire_len)
    options = _option(_EPB_FLAGS, _TAIL.pack(_FLAGS[packet.direction]))
    if packet.comment:
        options += _option(_COMMENT, packet.comment.encode())
    return head + _padded(packet.data) + options + _option(0, b"")


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return _HEAD.pack(kind, size) + body + _TAIL.pack(size)


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    first = True
    while head := file.read(_HEAD.size):
        kind, size = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
        if first and kind != _SECTION:
            raise ValueError("not a pcapng file")
        body = file.read(size - 12) if size >= 12 else b""
        if len(body) != size - 12 or file.read(4) != _TAIL.pack(size):
            raise ValueError(
                "a damaged pcapng file, or not a little-endian one: it ends in a block"
            )
        if first and _TAIL.unpack_from(body)[0] != _BYTE_ORDER:
            raise ValueError("not a little-endian pcapng file")
        first = False
        yield kind, body
    if first:
        raise ValueError("an empty pcapng file")


def _options(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        code, size = _OPTION.unpack_from(raw, at)
        if code == 0:
            break
        found[code] = raw[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4
    return found


def _read_interface(body: bytes) -> Interface:
    options = _options(body[_INTERFACE_BODY.size :])
    if options.get(_IF_TSRESOL) != _NANOSECONDS:
        raise ValueError("a pcapng file with time stamps that are not in nanoseconds")
    return Interface(
        options.get(_IF_NAME, b"").decode(), options.get(_IF_DESCRIPTION, b"").decode()
    )


def _read_packet(body: bytes, interfaces: int) -> Packet:
    interface, high, low, size, wire_len = _PACKET_BODY.unpack_from(body)
    end = _PACKET_BODY.size + size
    if interface >= interfaces or end > len(body):
        raise ValueError("a damaged pcapng file: a packet without its interface or data")
    options = _options(body[end + -size % 4 :])
    (flags,) = _TAIL.unpack(options.get(_EPB_FLAGS, bytes(4)))
    return Packet(
        high << 32 | low,
        interface,
        body[_PACKET_BODY.size : end],
        wire_len,
        _WAYS.get(flags & 3, "in"),
        options.get(_COMMENT, b"").decode(),
    )
