"""Network interfaces and their addresses: made, changed, moved, removed."""

from __future__ import annotations

import errno
import socket
import struct
from itertools import groupby
from operator import itemgetter
from typing import List, Tuple

from .quiet import ETHTOOL_STXCSUM, enable_ipv6, turn_off
from .requests import Fields, Operations, Request
from .rtnetlink import (
    IFLA_MASTER,
    IFLA_NET_NS_FD,
    NLM_CREATE,
    NLM_EXCL,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_SETNEIGHTBL,
    VETH_INFO_PEER,
    LinkMessage,
    attribute,
    link_info,
    link_message,
    text,
)
from .spaces import Spaces

IFLA_BR_GROUP_FWD_MASK, IFLA_BR_MCAST_SNOOPING = 9, 23
NDTA_NAME, NDTA_PARMS, NDTPA_IFINDEX, NDTPA_DELAY_PROBE_TIME = 1, 6, 1, 7
A_DAY = 24 * 3600 * 1000
"""In milliseconds."""

Placed = Tuple["str | None", LinkMessage]
"""A message, and in which namespace it is to be sent."""


class Interfaces:
    """Carries out changes to interfaces."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self.operations: Operations = {
            "link": self.change,
            "address": self.give_addresses,
            "no_offload": self.stop_offloading,
        }

    def change(self, request: Request) -> None:
        """Carry out a list of changes to interfaces in one namespace."""
        space = request.get("netns")
        found: List[Placed] = []
        for change in request["changes"]:
            found += self._messages(change, space)
        for place, messages in groupby(found, itemgetter(0)):
            self._spaces.netlink(place).request([message for _place, message in messages])
        request.reply()

    def _messages(self, change: Fields, space: str | None) -> List[Placed]:
        """What makes a change in a namespace."""
        if change["do"] == "veth":
            return self._veth(change, space)
        return [(space, _change_message(change))]

    def _veth(self, change: Fields, space: str | None) -> List[Placed]:
        """A pair: ``peer`` is made where it belongs and set up; ``name`` stays here and is set up,
        or goes to ``space``, where somebody else sets it up."""
        mtu = change.get("mtu")
        what = f"veth {change['name']}"
        # The driver can't set up the end that VETH_INFO_PEER names: the pair is not joined yet.
        own = link_message(change["name"], mac=change.get("mac"), mtu=mtu)
        there = self._spaces.descriptor(change.get("space", space))
        own += attribute(IFLA_NET_NS_FD, struct.pack("=I", there))
        peer = link_message(change["peer"], mac=change.get("peer_mac"), mtu=mtu, up=True)
        peer += link_info(b"veth", attribute(VETH_INFO_PEER, own))
        # To be sent where the peer goes: kernels before 6.15 look there, where the socket is, for
        # another interface of that name.
        made = (RTM_NEWLINK, NLM_CREATE | NLM_EXCL, peer, what)
        messages: List[Placed] = [(change["peer_space"], made)]
        if "space" not in change:
            up = link_message(change["name"], up=True)
            messages.append((space, (RTM_NEWLINK, 0, up, what)))
        return messages

    def give_addresses(self, request: Request) -> None:
        """Give addresses (``10.0.0.1/24``) to interfaces: changes of name and address."""
        messages = []
        with self._spaces.inside(request.get("netns")):
            for name, address in request["addresses"]:
                ip, _, length = address.partition("/")
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                if family == socket.AF_INET6:
                    enable_ipv6(name)
                packed, index = socket.inet_pton(family, ip), socket.if_nametoindex(name)
                body = struct.pack("=BBBBI", family, int(length), 0x02, 0, index)
                body += attribute(1, packed) + attribute(2, packed)
                what = f"{address} on {name}"
                messages.append((RTM_NEWADDR, NLM_CREATE | NLM_EXCL, body, what))
                messages.append(neighbours_believed(family, index, what))
        self._spaces.netlink(request.get("netns")).request(messages)
        request.reply()

    def stop_offloading(self, request: Request) -> None:
        """Turn transmit checksumming off: a frame then carries its real checksum on the wire."""
        with self._spaces.inside(request.get("netns")):
            for name in request["names"]:
                turn_off(name, ETHTOOL_STXCSUM)
        request.reply()


def _change_message(change: Fields) -> LinkMessage:
    action, name = change["do"], change["name"]
    what = f"{action} {name}"
    if action == "bridge":
        info = attribute(IFLA_BR_MCAST_SNOOPING, b"\0")
        # The most that a bridge forwards of the reserved group addresses (802.1Q 8.6.3).
        info += attribute(IFLA_BR_GROUP_FWD_MASK, struct.pack("=H", 0xFFF8))
        body = link_message(name, mtu=change.get("mtu"), up=True)
        body += link_info(b"bridge", info)
        return (RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body, what)
    if action == "remove":
        return (RTM_DELLINK, 0, link_message(name), what)
    if action == "set":
        body = link_message(name, mac=change.get("mac"), mtu=change.get("mtu"), up=change.get("up"))
        if "master" in change:
            master = socket.if_nametoindex(change["master"])
            body += attribute(IFLA_MASTER, struct.pack("=I", master))
        return (RTM_NEWLINK, 0, body, what)
    raise OSError(errno.EINVAL, f"the agent knows no link action {action!r}")


def neighbours_believed(family: int, index: int, what: str) -> LinkMessage:
    """Has an interface use what it knows of its neighbours for a day before it asks whether they
    are still there (arp(7), ``delay_first_probe_time``). It would otherwise ask five seconds after
    it has last heard of them, in the middle of something else."""
    cache = "arp_cache" if family == socket.AF_INET else "ndisc_cache"
    parameters = attribute(NDTPA_IFINDEX, struct.pack("=I", index))
    parameters += attribute(NDTPA_DELAY_PROBE_TIME, struct.pack("=Q", A_DAY))
    body = struct.pack("=Bxxx", family) + attribute(NDTA_NAME, text(cache))
    return (RTM_SETNEIGHTBL, 0, body + attribute(NDTA_PARMS, parameters), what)
