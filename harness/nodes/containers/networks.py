"""The networks of an engine that underlays run over: internal ones, with subnets of our choice."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import docker
from docker.types import IPAMConfig, IPAMPool

RANGE = ipaddress.IPv4Network("198.18.0.0/15")
"""For benchmarks of networks (RFC 2544, C.2.2; RFC 6890): nobody's addresses are from it."""
SMALLEST = 28
ATTEMPTS = 64
HEADROOM = 100
"""Bytes that a frame of an underlay gets in front of it on its way, and its VLAN tags."""
_TAKEN = ("overlap", "already used", "already in use")
"""What engines say of a subnet that some network has."""


class Network(NamedTuple):
    """A network, and the addresses in it for containers, with their length: ``198.18.3.2/28``."""

    id: str
    addresses: tuple[str, ...]


def make(
    client: docker.APIClient, name: str, *, mtu: int, ends: int, labels: Mapping[str, str]
) -> Network:
    """Make a network for so many containers, whose underlay carries frames of ``mtu`` bytes. Raise
    what the SDK raises."""
    refused: docker.errors.APIError | None = None
    for subnet in _subnets(ends):
        gateway, *addresses = islice(subnet.hosts(), ends + 1)
        pool = IPAMPool(subnet=str(subnet), gateway=str(gateway))
        try:
            made = client.create_network(
                name,
                driver="bridge",
                internal=True,
                ipam=IPAMConfig(pool_configs=[pool]),
                labels=dict(labels),
                options={"com.docker.network.driver.mtu": str(min(mtu + HEADROOM, 65535))},
            )
        except docker.errors.APIError as error:
            if not any(word in str(error).lower() for word in _TAKEN):
                raise
            refused = error
            continue
        return Network(made["Id"], tuple(f"{one}/{subnet.prefixlen}" for one in addresses))
    assert refused is not None
    raise refused


def _subnets(ends: int) -> Iterator[ipaddress.IPv4Network]:
    """Some that have room for a gateway and so many more, any of them first."""
    length = min(SMALLEST, 32 - (ends + 2).bit_length())
    choice = random.SystemRandom()
    for _ in range(ATTEMPTS):
        number = choice.randrange(1 << (length - RANGE.prefixlen))
        yield ipaddress.IPv4Network((int(RANGE[0]) + (number << (32 - length)), length))


def endpoint(client: docker.APIClient, address: str) -> dict[str, Any]:
    """How a container is to be connected: with this address."""
    settings: dict[str, Any] = client.create_endpoint_config(ipv4_address=address.partition("/")[0])
    return settings
