"""Whom a switch's own network stack hands a packet to, by its addresses and its given routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from itertools import pairwise

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DROPPING = frozenset(["throw", "unreachable", "prohibit", "blackhole"])


def next_hop(remote: str, own: Iterable[str], routes: Iterable[str]) -> str | None:
    """The address that a packet for ``remote`` is sent to: its own in a network that the stack is
    part of, else that of a router; None where there is no way.

    ``own`` are the stack's addresses with prefix length, ``routes`` as in ``ip route add …``.
    """
    address = ipaddress.ip_address(remote)
    ways: list[tuple[_Network, str | None]] = [
        (ipaddress.ip_interface(text).network, str(address)) for text in own
    ]
    ways += [_way(text, str(address)) for text in routes]
    matching = [(network, hop) for network, hop in ways if address in network]
    return max(matching, key=lambda way: way[0].prefixlen, default=(None, None))[1]


def _way(route: str, remote: str) -> tuple[_Network, str | None]:
    """The network that a route is for, and the next hop to it. A default route is for whatever
    ``remote`` is, unless its router is of another IP version."""
    words = route.split()
    via = next((after for word, after in pairwise(words) if word == "via"), None)
    drops = words[0] in _DROPPING
    target = words[1] if drops or words[0] == "unicast" else words[0]
    if target == "default":
        target = "::/0" if ":" in (via or remote) else "0.0.0.0/0"
    hop = remote if via is None else str(ipaddress.ip_address(via))
    return ipaddress.ip_network(target), None if drops else hop
