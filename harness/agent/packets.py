"""Packet sockets (packet(7)): where they are bound, and what waits in those of others."""

from __future__ import annotations

import socket
import struct
from typing import Optional, Tuple

from .rtnetlink import NLM_REQUEST, NLMSG_ERROR

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_DUMP, NLMSG_DONE = 4, 20, 0x300, 3
PACKET_SHOW_INFO, PACKET_SHOW_MEMINFO = 0x01, 0x10
PACKET_DIAG_INFO, PACKET_DIAG_MEMINFO = 0, 6
MEMINFO_RMEM, MEMINFO_DROPS = 0, 8
"""sock_diag(7), linux/packet_diag.h"""

PacketSocket = Tuple[int, int, int, Optional[int]]
"""Inode, interface index, bytes that wait to be read, frames dropped (None: not known)."""


def attach(port: socket.socket, interface: str, protocol: int) -> None:
    """Bind a packet socket; raise OSError naming the interface."""
    try:
        port.bind((interface, protocol))
    except OSError as error:
        raise OSError(error.errno, f"{interface}: {error.strerror or error}") from None


def packet_sockets() -> list[PacketSocket]:
    """The packet sockets of this network namespace: inode, interface index, bytes that wait to be
    read, frames dropped for want of room (None where the kernel has no packet_diag)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        show = PACKET_SHOW_INFO | PACKET_SHOW_MEMINFO
        body = struct.pack("=BBHIIII", socket.AF_PACKET, 0, 0, 0, show, 0, 0)
        head = struct.pack(
            "=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, NLM_REQUEST | NLM_DUMP, 1, 0
        )
        diag.send(head + body)
        found: list[PacketSocket] = []
        while True:
            data = diag.recv(1 << 18)
            offset = 0
            while offset < len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    return packet_sockets_without_drops()
                (inode,) = struct.unpack_from("=I", data, offset + 20)
                index, waiting, drops = _diag_numbers(data[offset + 32 : offset + length])
                found.append((inode, index, waiting, drops))
                offset += (length + 3) & ~3


def _diag_numbers(attributes: bytes) -> tuple[int, int, int]:
    index = waiting = drops = 0
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == PACKET_DIAG_INFO:
            (index,) = struct.unpack_from("=I", attributes, 4)
        elif kind == PACKET_DIAG_MEMINFO:
            words = struct.unpack_from(f"={(length - 4) // 4}I", attributes, 4)
            waiting, drops = words[MEMINFO_RMEM], words[MEMINFO_DROPS]
        attributes = attributes[(length + 3) & ~3 :]
    return index, waiting, drops


def packet_sockets_without_drops() -> list[PacketSocket]:
    """The same from /proc/net/packet: sk RefCnt Type Proto Iface R Rmem User Inode."""
    with open("/proc/thread-self/net/packet") as file:
        lines = [line.split() for line in file][1:]
    return [(int(line[8]), int(line[4]), int(line[6]), None) for line in lines]
