"""Ends of underlays over a network that is not ours and no wire: one that learns addresses, keeps
some group addresses to itself, and has addresses of its own.

Each end is a VXLAN device (RFC 7348) that learns nothing, and sends each frame to all other ends.
It does so from a network namespace that also has the node's interfaces to those networks: in the
node's own are the devices' upper sides, and nothing more.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from typing import Iterator

from .quiet import ETHTOOL_SGRO, ETHTOOL_STXCSUM, turn_off
from .requests import Fields, Operations, Request
from .rtnetlink import (
    IFLA_NET_NS_FD,
    NLM_CREATE,
    NLM_EXCL,
    RTM_NEWADDR,
    RTM_NEWLINK,
    LinkMessage,
    attribute,
    link_info,
    link_message,
    mac_bytes,
)
from .spaces import Spaces

SPACE = "(underlays)"
"""No host has this name."""
VNI = 1
IFLA_PROTO_DOWN = 39
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 4, 7, 15
IFLA_VXLAN_LOCALBYPASS = 31
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTM_NEWNEIGH, NLM_APPEND = 28, 0x800
NUD_NOARP, NUD_PERMANENT, NTF_SELF = 0x40, 0x80, 0x02
NDA_DST, NDA_LLADDR, NDA_PORT = 1, 2, 6
SIOCGIFADDR, SIOCGIFHWADDR = 0x8915, 0x8927


class Underlays:
    """Makes ends of underlays, and lets them have a carrier or none."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._interfaces: dict[str, str] = {}
        """To the networks, by the address there."""
        self.operations: Operations = {
            "underlay_networks": self.take_networks,
            "underlay_ends": self.make_ends,
            "underlay_carrier": self.set_carrier,
        }

    def take_networks(self, request: Request) -> None:
        """Take the interfaces that have ``addresses`` (IPv4, with their lengths) out of the node's
        own network namespace. Answer with their MAC addresses."""
        found = [(text, *_having(text.partition("/")[0])) for text in request["addresses"]]
        self._interfaces = {text.partition("/")[0]: name for text, name, _mac in found}
        self._spaces.create(SPACE)
        there = attribute(IFLA_NET_NS_FD, struct.pack("=I", self._spaces.descriptor(SPACE)))
        away: list[LinkMessage] = [
            (RTM_NEWLINK, 0, link_message(name, more=there), f"move {name}")
            for _text, name, _mac in found
        ]
        self._spaces.netlink(None).request(away)
        with self._spaces.inside(SPACE):
            # What is moved to another namespace loses its addresses.
            messages = [message for text, name, _mac in found for message in _set_up(name, text)]
        self._spaces.netlink(SPACE).request(messages)
        request.reply([mac for _text, _name, mac in found])

    def make_ends(self, request: Request) -> None:
        """Make ``ends``, each with its ``name``, ``mtu``, ``local`` address and UDP ``port``, and
        the ``others`` of its underlay: address, MAC address and port of each. Where the network is
        to find out who has an address, there is None for the MAC address."""
        ends: list[Fields] = request["ends"]
        home = attribute(IFLA_NET_NS_FD, struct.pack("=I", self._spaces.home))
        made: dict[str, LinkMessage] = {}
        with self._spaces.inside(SPACE):
            for end in ends:
                body = link_message(end["name"], mtu=end["mtu"], more=home) + _vxlan(end)
                what = f"end {end['name']} of an underlay"
                made[end["name"]] = (RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body, what)
                for address, mac, _port in end["others"]:
                    if mac is not None and address != end["local"]:
                        made[address] = _neighbour(address, mac, self._interfaces[end["local"]])
        self._spaces.netlink(SPACE).request(list(made.values()))
        flooding = [_flood(end["name"], other) for end in ends for other in end["others"]]
        self._spaces.netlink(None).request(flooding)
        for end in ends:
            # What is captured and forwarded is what was on the wire: each segment by itself.
            turn_off(end["name"], ETHTOOL_SGRO)
            turn_off(end["name"], ETHTOOL_STXCSUM)
        request.reply()

    def set_carrier(self, request: Request) -> None:
        """Let an end have a carrier (``up``), or none."""
        down = attribute(IFLA_PROTO_DOWN, struct.pack("=B", not request["up"]))
        body, what = link_message(request["name"], more=down), f"carrier of {request['name']}"
        self._spaces.netlink(None).request([(RTM_NEWLINK, 0, body, what)])
        request.reply()


def ipv4_addresses() -> Iterator[tuple[str, bytes]]:
    """Interfaces and their first IPv4 addresses (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _index, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("40s", name.encode()))
            except OSError:
                # It has none.
                continue
            yield name, found[20:24]


def _having(address: str) -> tuple[str, str]:
    """The interface that has an IPv4 address, and its MAC address. Raise OSError where there is
    none."""
    packed = socket.inet_aton(address)
    for name, found in ipv4_addresses():
        if found == packed:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                request = struct.pack("40s", name.encode())
                mac = fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)[18:24]
            return name, ":".join(f"{byte:02x}" for byte in mac)
    raise OSError(errno.EADDRNOTAVAIL, f"no interface has the address {address}")


def _set_up(name: str, address: str) -> list[LinkMessage]:
    """Set an interface up with an address."""
    text, _, length = address.partition("/")
    packed = socket.inet_aton(text)
    body = struct.pack("=BBBBI", socket.AF_INET, int(length), 0, 0, socket.if_nametoindex(name))
    body += attribute(IFA_ADDRESS, packed) + attribute(IFA_LOCAL, packed)
    return [
        (RTM_NEWADDR, NLM_CREATE | NLM_EXCL, body, f"{address} on {name}"),
        (RTM_NEWLINK, 0, link_message(name, up=True), f"set {name} up"),
    ]


def _vxlan(end: Fields) -> bytes:
    """What kind of interface an end is (linux/if_link.h)."""
    info = attribute(IFLA_VXLAN_ID, struct.pack("=I", VNI))
    info += attribute(IFLA_VXLAN_LOCAL, socket.inet_aton(end["local"]))
    info += attribute(IFLA_VXLAN_LEARNING, b"\0")
    info += attribute(IFLA_VXLAN_PORT, struct.pack("!H", end["port"]))
    # Between ends at one address a kernel takes a short cut, on which frames with VLAN tags that
    # came from a packet socket are cut in pieces. Since Linux 6.5 it can be told not to.
    info += attribute(IFLA_VXLAN_LOCALBYPASS, b"\0")
    return link_info(b"vxlan", info)


def _neighbour(address: str, mac: str, interface: str) -> LinkMessage:
    """Who has an address: nobody has to ask then, and the first frame has not to wait."""
    index = socket.if_nametoindex(interface)
    body = struct.pack("=BxHiHBB", socket.AF_INET, 0, index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, socket.inet_aton(address)) + attribute(NDA_LLADDR, mac_bytes(mac))
    return (RTM_NEWNEIGH, NLM_CREATE, body, f"neighbour {address}")


def _flood(name: str, other: tuple[str, str, int]) -> LinkMessage:
    """Has an end send all frames to another one too (bridge(8), ``fdb append``)."""
    address, _mac, port = other
    index, state = socket.if_nametoindex(name), NUD_NOARP | NUD_PERMANENT
    body = struct.pack("=BxHiHBB", socket.AF_BRIDGE, 0, index, state, NTF_SELF, 0)
    body += attribute(NDA_LLADDR, bytes(6)) + attribute(NDA_DST, socket.inet_aton(address))
    body += attribute(NDA_PORT, struct.pack("!H", port))
    return (RTM_NEWNEIGH, NLM_CREATE | NLM_APPEND, body, f"{name} sends to {address}")
