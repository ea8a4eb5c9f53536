"""Subnets for underlays: out of one range, and others when those are taken."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from harness.nodes.containers import networks


class Engine:
    """Takes networks, but for subnets that it says somebody has."""

    def __init__(self, refusals: list[str]) -> None:
        self.refusals = refusals
        self.subnets: list[str] = []
        self.options: dict[str, Any] = {}

    def create_network(self, name: str, **options: Any) -> dict[str, str]:
        (pool,) = options["ipam"]["Config"]
        self.subnets.append(pool["Subnet"])
        if self.refusals:
            raise docker.errors.APIError(self.refusals.pop())
        self.options = options
        return {"Id": f"id of {name}"}


def make(engine: Engine, ends: int = 2, mtu: int = 1500) -> networks.Network:
    client: Any = engine
    return networks.make(client, "wire", mtu=mtu, ends=ends, labels={"whose": "ours"})


@pytest.mark.parametrize("ends", [1, 2, 13, 14, 300])
def test_each_end_has_an_address_of_its_own(ends: int) -> None:
    engine = Engine([])
    made = make(engine, ends)
    (text,) = engine.subnets
    subnet = ipaddress.IPv4Network(text)
    assert subnet[0] in networks.RANGE
    assert subnet[-1] in networks.RANGE
    addresses = [ipaddress.IPv4Interface(address) for address in made.addresses]
    (pool,) = engine.options["ipam"]["Config"]
    taken = {ipaddress.IPv4Address(pool["Gateway"]), *(one.ip for one in addresses)}
    assert len(taken) == ends + 1
    assert taken <= set(subnet.hosts())
    assert {one.network for one in addresses} == {subnet}


def test_a_network_is_internal_and_ours_and_has_room_for_what_is_put_around_frames() -> None:
    engine = Engine([])
    make(engine, mtu=9000)
    assert engine.options["internal"] is True
    assert engine.options["labels"] == {"whose": "ours"}
    assert int(engine.options["options"]["com.docker.network.driver.mtu"]) >= 9000 + 50 + 8
    make(engine, mtu=65535)
    assert int(engine.options["options"]["com.docker.network.driver.mtu"]) == 65535


@pytest.mark.parametrize(
    "said",
    [
        "Pool overlaps with other one on this address space",
        "networks have overlapping IPv4",
        "subnet 198.18.0.0/28 is already used on the host",
    ],
)
def test_a_subnet_that_somebody_has_is_passed_over(said: str) -> None:
    engine = Engine([said, said])
    assert make(engine).id == "id of wire"
    assert len(engine.subnets) == 3


def test_any_other_refusal_is_told() -> None:
    with pytest.raises(docker.errors.APIError, match="no room"):
        make(Engine(["no room on the device"]))


def test_that_all_are_taken_is_told_in_the_end() -> None:
    engine = Engine(["Pool overlaps"] * 1000)
    with pytest.raises(docker.errors.APIError, match="overlaps"):
        make(engine)
    assert len(set(engine.subnets)) > 1


def test_an_endpoint_has_the_address_without_its_length() -> None:
    client: Any = SimpleNamespace(create_endpoint_config=lambda **settings: settings)
    assert networks.endpoint(client, "198.18.3.2/28") == {"ipv4_address": "198.18.3.2"}
