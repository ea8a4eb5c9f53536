"""Messages that make and change network interfaces, and the socket for them (rtnetlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from typing import Tuple

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_SETNEIGHTBL = 16, 17, 20, 67
NLM_REQUEST, NLM_ACK, NLM_EXCL, NLM_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFLA_BR_GROUP_FWD_MASK, IFLA_BR_MCAST_SNOOPING = 9, 23
SOL_NETLINK, NETLINK_EXT_ACK, NETLINK_CAP_ACK = 270, 11, 10
NLM_F_ACK_TLVS, NLM_F_CAPPED = 0x200, 0x100
NLMSGERR_ATTR_MSG = 1
LINKS_AT_ONCE = 64
"""Messages per netlink datagram: their acknowledgements must fit in the receive buffer."""

LinkMessage = Tuple[int, int, bytes, str]
"""Type, flags and body of a message, and what it does in words."""


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def text(name: str) -> bytes:
    """A zero-terminated string."""
    return name.encode() + b"\0"


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a MAC address in colon notation."""
    return bytes.fromhex(mac.replace(":", ""))


def link_message(
    name: str,
    *,
    mac: str | None = None,
    mtu: int | None = None,
    up: bool | None = None,
    more: bytes = b"",
) -> bytes:
    """An ifinfomsg with the attributes that every kind of link has."""
    change = 0 if up is None else IFF_UP
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, IFF_UP if up else 0, change)
    body += attribute(IFLA_IFNAME, text(name))
    if mac is not None:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if mtu is not None:
        body += attribute(IFLA_MTU, struct.pack("=I", mtu))
    return body + more


def link_info(kind: bytes, data: bytes) -> bytes:
    """What kind of link, and that kind's own settings."""
    return attribute(
        IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind) + attribute(IFLA_INFO_DATA, data)
    )


class Netlink:
    """An rtnetlink socket in the network namespace it was made in."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.socket.bind((0, 0))
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.sequence = 0

    def request(self, messages: list[LinkMessage]) -> None:
        """Carry out ``(type, flags, body, what)`` in order; raise OSError for the first refused."""
        for start in range(0, len(messages), LINKS_AT_ONCE):
            self._request(messages[start : start + LINKS_AT_ONCE])

    def _request(self, messages: list[LinkMessage]) -> None:
        packet = bytearray()
        first = self.sequence + 1
        for kind, flags, body, _what in messages:
            self.sequence += 1
            length = 16 + len(body)
            packet += struct.pack(
                "=IHHII", length, kind, flags | NLM_REQUEST | NLM_ACK, self.sequence, 0
            )
            packet += body + bytes(-length % 4)
        self.socket.send(packet)
        failure: OSError | None = None
        waiting = len(messages)
        while waiting:
            for number, sequence, said in self._errors(self.socket.recv(1 << 16)):
                waiting -= 1
                if number and failure is None:
                    what = messages[sequence - first][3]
                    reason = said or os.strerror(-number)
                    failure = OSError(-number, f"{what}: {reason}")
        if failure is not None:
            raise failure

    @staticmethod
    def _errors(data: bytes) -> list[tuple[int, int, str]]:
        found = []
        offset = 0
        while offset < len(data):
            length, kind, flags, sequence, _pid = struct.unpack_from("=IHHII", data, offset)
            if kind == NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", data, offset + 16)
                said = ""
                if flags & NLM_F_ACK_TLVS and flags & NLM_F_CAPPED:
                    said = Netlink._message(data[offset + 36 : offset + length])
                found.append((number, sequence, said))
            offset += (length + 3) & ~3
        return found

    @staticmethod
    def _message(attributes: bytes) -> str:
        while len(attributes) >= 4:
            length, kind = struct.unpack_from("=HH", attributes)
            if kind == NLMSGERR_ATTR_MSG:
                return attributes[4:length].rstrip(b"\0").decode(errors="replace")
            attributes = attributes[(length + 3) & ~3 :]
        return ""
