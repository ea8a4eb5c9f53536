"""What a kernel does by itself, turned off: the frames of a node are those that it is told to send,
and those that its switch forwards."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from .rtnetlink import IFF_UP

SIOCSIFFLAGS, SIOCETHTOOL = 0x8914, 0x8946
ETHTOOL_STXCSUM, ETHTOOL_SGRO = 0x17, 0x2C


def quieten() -> None:
    """Loopback up and IPv6 off in the network namespace the thread is in.

    Internal ports and veth would otherwise make neighbour and multicast noise of their own.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
    settle("all/disable_ipv6", "1")


def enable_ipv6(interface: str) -> None:
    """Let one interface have IPv6 addresses, and only those it is given: no link-local one, no
    router solicitation, no duplicate address detection, so that an address works at once. Those
    that are made from now on too: a reload of the kernel module makes a switch's anew."""
    for name, value in (
        ("addr_gen_mode", "1"),
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("router_solicitations", "0"),
        ("disable_ipv6", "0"),
    ):
        settle(f"default/{name}", value)
        settle(f"{interface}/{name}", value)


def settle(name: str, value: str) -> None:
    """Write an IPv6 setting, where the kernel has IPv6."""
    try:
        with open("/proc/sys/net/ipv6/conf/" + name, "w") as file:
            file.write(value)
    except FileNotFoundError:
        pass


def be_a_node() -> None:
    """Turn off what the kernel does by itself in a network namespace that is all a node's."""
    quieten()
    ignore_what_ports_hear()


def turn_off(interface: str, setting: int) -> None:
    """Turn a setting of ethtool's off (linux/ethtool.h)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        value = ctypes.create_string_buffer(struct.pack("II", setting, 0))
        request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def ignore_what_ports_hear() -> None:
    """Keep the node's kernel from answering what arrives at interfaces that are a switch's ports.

    A user-space datapath reads a copy of each frame, and the kernel hears it as well: without this
    it answers ARP for any of the node's addresses on any port, past the switch (ip-sysctl,
    ``arp_ignore`` and ``rp_filter``).
    """
    for name in ("arp_ignore", "rp_filter"):
        with open(f"/proc/sys/net/ipv4/conf/all/{name}", "w") as file:
            file.write("1")
