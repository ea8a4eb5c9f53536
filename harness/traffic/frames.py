"""Frames to send: built here without scapy, or taken from what a user wrote with it.

A scapy packet is recognised by what it can do, so that scapy is loaded only by who uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.traffic.identity import BLANK_TRAILER, TRAILER_SIZE

if TYPE_CHECKING:
    from scapy.packet import Packet

TPIDS = frozenset({0x8100, 0x88A8, 0x9100})
"""EtherTypes of VLAN tags: 802.1Q, 802.1ad (IEEE 802.1Q-2022, 9.5), and the older QinQ one."""
PROBE_ETHERTYPE = 0x88B5
"""Local experimental EtherType 1 (IEEE 802-2014, 9.2.4): no host's kernel answers it."""
MIN_FRAME = 60
"""Bytes of the shortest Ethernet frame, without its FCS (IEEE 802.3-2022, 3.2.8)."""
MAX_FRAME = 65535

_FILL = bytes(range(256)) * (MAX_FRAME // 256 + 1)
_CHECKSUM_OVER_PAYLOAD = frozenset({"UDP", "TCP", "ICMP", "ICMPv6EchoRequest", "ICMPv6EchoReply"})
_CARRIERS = _CHECKSUM_OVER_PAYLOAD | {"Raw", "IP", "IPv6", "Ether", "Dot1Q", "Dot1AD"}
_LINK_LAYERS = frozenset({"Ether", "Dot3"})


class Tag(NamedTuple):
    """A VLAN tag. ``vid`` 0 to 4095, ``pcp`` 0 to 7, ``dei`` 0 or 1 (IEEE 802.1Q-2022, 9.6)."""

    tpid: int
    pcp: int
    dei: int
    vid: int

    @classmethod
    def of(cls, vid: int, *, tpid: int = 0x8100, pcp: int = 0, dei: int = 0) -> Tag:
        """A tag by VLAN ID. Raise ``ValueError`` when a field does not fit."""
        for name, value, top in (("VLAN", vid, 4095), ("PCP", pcp, 7), ("DEI", dei, 1)):
            if not 0 <= value <= top:
                raise ValueError(f"{name} must be 0 to {top}, not {value}")
        return cls(tpid, pcp, dei, vid)

    @classmethod
    def from_tci(cls, tpid: int, tci: int) -> Tag:
        """A tag from its two 16-bit fields."""
        return cls(tpid, tci >> 13, tci >> 12 & 1, tci & 0xFFF)

    @property
    def wire(self) -> bytes:
        """The tag's 4 bytes as they stand in a frame."""
        tci = self.pcp << 13 | self.dei << 12 | self.vid
        return self.tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")

    def __str__(self) -> str:
        kind = {0x8100: "", 0x88A8: " 802.1ad"}.get(self.tpid, f" tpid {self.tpid:#06x}")
        extra = f" pcp {self.pcp}" * bool(self.pcp) + " dei" * bool(self.dei)
        return f"vlan {self.vid}{kind}{extra}"


class Blank(NamedTuple):
    """A frame that waits for its identity.

    ``stamped`` True: ``data`` ends in a neutral trailer that the identity replaces. False: the
    frame is sent exactly as it is, and recognised by its content.
    """

    data: bytes
    stamped: bool


def tag_bytes(frame: bytes) -> int:
    """How many bytes of VLAN tags follow the two MAC addresses of ``frame``."""
    end = 12
    while int.from_bytes(frame[end : end + 2], "big") in TPIDS and len(frame) >= end + 4:
        end += 4
    return end - 12


def tags_of(frame: bytes) -> tuple[Tag, ...]:
    """The VLAN tags of ``frame``, outermost first."""
    end = 12 + tag_bytes(frame)
    return tuple(
        Tag.from_tci(
            int.from_bytes(frame[at : at + 2], "big"), int.from_bytes(frame[at + 2 : at + 4], "big")
        )
        for at in range(12, end, 4)
    )


def untagged(frame: bytes) -> bytes:
    """``frame`` without its VLAN tags."""
    size = tag_bytes(frame)
    return frame[:12] + frame[12 + size :] if size else frame


def probe_frame(
    src_mac: str,
    dst_mac: str,
    *,
    size: int = 64,
    vlan: int | Sequence[Tag] | None = None,
    ethertype: int = PROBE_ETHERTYPE,
) -> bytes:
    """A plain Ethernet frame that ends in a blank trailer.

    ``size`` is the whole frame's, in bytes, without FCS and with its tags; ``vlan`` a VLAN ID or
    tags, outermost first. Raise ``ValueError`` on a bad address, size or tag.
    """
    if vlan is None:
        tags = b""
    else:
        tags = b"".join(t.wire for t in ([Tag.of(vlan)] if isinstance(vlan, int) else vlan))
    if not MIN_FRAME <= size <= MAX_FRAME:
        raise ValueError(f"a frame is {MIN_FRAME} to {MAX_FRAME} bytes long, not {size}")
    head = mac_bytes(dst_mac) + mac_bytes(src_mac) + tags + ethertype.to_bytes(2, "big")
    fill = size - len(head) - TRAILER_SIZE
    if fill < 0:
        raise ValueError(f"{size} bytes have no room for {len(tags) // 4} VLAN tags and a probe")
    return head + _FILL[:fill] + BLANK_TRAILER


@lru_cache(maxsize=4096)
def mac_bytes(mac: str) -> bytes:
    """The 6 bytes of ``aa:bb:cc:dd:ee:ff``. Raise ``ValueError`` when it is not that."""
    try:
        raw = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6 or mac.count(":") != 5:
        raise ValueError(f"not a MAC address: {mac!r} (write aa:bb:cc:dd:ee:ff)")
    return raw


def from_scapy(packet: Packet | bytes) -> Blank:
    """A user's frame, with room for an identity where that is possible.

    The identity goes inside the lengths and checksums of a packet whose innermost layer can
    carry data; behind the innermost Ethernet frame, as padding, for one that can not (ARP, LACP,
    STP …); and nowhere for ``bytes``. The caller's packet is not changed. Raise ``ValueError``
    for what is not an Ethernet frame, ``TypeError`` for what is not a packet at all.
    """
    if isinstance(packet, bytes):
        if len(packet) < 14:
            raise ValueError(f"a frame of {len(packet)} bytes has no whole Ethernet header")
        return Blank(packet, stamped=False)
    if not hasattr(packet, "lastlayer"):
        raise TypeError(f"a frame is a scapy packet or bytes, not {type(packet).__name__}")
    if type(packet).__name__ not in _LINK_LAYERS:
        raise ValueError(
            f"a frame starts with an Ethernet header, this one with {type(packet).__name__}: "
            f"write Ether()/{type(packet).__name__}(…)"
        )
    names = {type(layer).__name__ for layer in _layers(packet)}
    # SCTP's checksum is a CRC, for which no trailer is neutral.
    if type(packet.lastlayer()).__name__ in _CARRIERS and "SCTP" not in names:
        return Blank(_as_payload(packet), stamped=True)
    return Blank(_as_padding(packet), stamped=True)


def _layers(packet: Any) -> list[Any]:
    """The layers of a packet, outermost first."""
    layers = []
    while packet:
        layers.append(packet)
        packet = packet.payload
    return layers


def _as_payload(packet: Packet) -> bytes:
    bare = _with_payload(packet, BLANK_TRAILER)
    fill = max(0, MIN_FRAME - len(bytes(bare)))
    sums = [lay for lay in _layers(bare) if type(lay).__name__ in _CHECKSUM_OVER_PAYLOAD]
    odd = {(len(bytes(layer)) + fill) % 2 for layer in sums}
    if len(odd) > 1:
        raise ValueError(
            f"{packet.summary()}: no identity can be neutral to the checksums of both the outer "
            "and the inner packet, for an odd number of bytes is between them; send bytes(packet)"
        )
    if odd == {1}:
        fill += 1
    return bytes(_with_payload(packet, bytes(fill) + BLANK_TRAILER))


def _with_payload(packet: Packet, data: bytes) -> Any:
    from scapy.packet import Raw

    copy: Any = packet.copy()
    last = copy.lastlayer()
    if isinstance(last, Raw):
        last.load += data
    else:
        last.add_payload(Raw(data))
    return copy


def _as_padding(packet: Packet) -> bytes:
    """Behind the innermost Ethernet frame, so that a tunnel carries the padding along."""
    from scapy.packet import Raw

    copy: Any = packet.copy()
    layers = _layers(copy)
    at = max(n for n, layer in enumerate(layers) if type(layer).__name__ in _LINK_LAYERS)
    frame = bytes(layers[at])
    frame += bytes(max(0, MIN_FRAME - TRAILER_SIZE - len(frame))) + BLANK_TRAILER
    if at == 0:
        return frame
    outer = layers[at - 1]
    # scapy forgets the fields that name the next layer (GRE's protocol …) with that layer.
    named = dict(outer.overloaded_fields)
    outer.remove_payload()
    outer.add_payload(Raw(frame))
    outer.overloaded_fields = named
    return bytes(copy)
