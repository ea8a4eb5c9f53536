"""Interfaces and addresses of real nodes, and what the kernel says when it refuses one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from harness.lab.environment import Environment
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.polling import eventually


def links(node: NamespaceNode, host: str | None = None) -> dict[str, dict[str, Any]]:
    said = node.run(["ip", "-j", "-d", "address"], host=host).stdout
    return {link["ifname"]: link for link in json.loads(said)}


def addresses(link: dict[str, Any]) -> list[str]:
    return [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]


def veth(name: str, peer_space: str, **more: object) -> dict[str, object]:
    return {"do": "veth", "name": name, "peer": "eth0", "peer_space": peer_space, **more}


@pytest.fixture
def pair(node: NamespaceNode) -> NamespaceNode:
    """A node with the hosts ``a`` and ``b`` on a bridge ``br``."""
    node.add_spaces(["a", "b"]).result()
    changes: list[dict[str, Any]] = [{"do": "bridge", "name": "br"}]
    changes += [veth(name, name, peer_mac=f"02:00:00:00:00:0{name}") for name in ("a", "b")]
    node.change_links(changes).result()
    masters = [{"do": "set", "name": name, "master": "br"} for name in ("a", "b")]
    node.change_links(masters).result()
    return node


def test_a_pair_with_everything(node: NamespaceNode) -> None:
    node.add_spaces(["a"]).result()
    change = veth("a", "a", mac="02:00:00:00:00:01", peer_mac="02:00:00:00:00:02", mtu=9000)
    node.change_links([change]).result()
    here, there = links(node)["a"], links(node, "a")["eth0"]
    assert (here["address"], there["address"]) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert (here["mtu"], there["mtu"]) == (9000, 9000)
    assert {"UP", "LOWER_UP"} <= set(here["flags"]) & set(there["flags"])
    assert here["linkinfo"]["info_kind"] == "veth"


def test_a_new_interface_is_silent(node: NamespaceNode) -> None:
    """No address of its own, so no neighbour or multicast noise."""
    node.add_spaces(["a"]).result()
    node.change_links([veth("a", "a")]).result()
    assert addresses(links(node)["a"]) == addresses(links(node, "a")["eth0"]) == []
    assert "UP" in links(node, "a")["lo"]["flags"]


def test_namespaces_that_were_kept_are_as_others_are(node: NamespaceNode) -> None:
    node.keep_spaces(1).result()
    node.add_spaces(["kept", "made"]).result()
    node.change_links([veth("a", "kept"), veth("b", "made")]).result()
    for host in ("kept", "made"):
        assert list(links(node, host)) == ["lo", "eth0"]
        assert "UP" in links(node, host)["lo"]["flags"]
        assert addresses(links(node, host)["eth0"]) == []


def test_set_and_remove(pair: NamespaceNode) -> None:
    changes: list[dict[str, Any]] = [
        {"do": "set", "name": "a", "up": False, "mtu": 1400, "mac": "02:00:00:00:00:77"},
        {"do": "remove", "name": "b"},
    ]
    pair.change_links(changes).result()
    found = links(pair)
    assert ("UP" in found["a"]["flags"], found["a"]["mtu"]) == (False, 1400)
    assert found["a"]["address"] == "02:00:00:00:00:77"
    assert "b" not in found
    assert "eth0" not in links(pair, "b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (veth("a", "a"), r"veth a: .*[Ee]xists"),
        (veth("c", "nowhere"), r"no network namespace 'nowhere' in this node"),
        (veth("c", "a", peer="eth1", mtu=70000), r"veth c: "),
        ({"do": "set", "name": "nothing", "up": True}, r"set nothing: "),
        ({"do": "remove", "name": "nothing"}, r"remove nothing: "),
        ({"do": "set", "name": "a", "mtu": 10}, r"set a: "),
        ({"do": "set", "name": "a", "master": "nothing"}, r"no interface with this name"),
        ({"do": "bridge", "name": "a"}, r"bridge a: .*[Ee]xists"),
        ({"do": "bridge", "name": "a-name-too-long-for-it"}, r"bridge a-name-too-long-for-it: "),
        ({"do": "explode", "name": "a"}, r"knows no link action 'explode'"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value["name"]),
)
def test_what_the_kernel_refuses_is_named(
    pair: NamespaceNode, change: dict[str, object], said: str
) -> None:
    with pytest.raises(NodeError, match=said) as info:
        pair.change_links([change]).result()
    assert str(info.value).startswith("n1: cannot change interfaces (")
    assert "Traceback" not in str(info.value)
    assert set(links(pair)) == {"lo", "br", "a", "b"}


def test_500_links_in_one_request(node: NamespaceNode) -> None:
    names = [f"h{number}" for number in range(250)]
    node.add_spaces(names).result()
    node.change_links([veth(name, name) for name in names]).result()
    assert set(links(node)) == {"lo", *names}
    node.remove_spaces(names).result()


def test_of_many_changes_the_one_that_was_refused_is_named(node: NamespaceNode) -> None:
    names = [f"h{number}" for number in range(100)]
    node.add_spaces(names).result()
    changes = [veth(name, name) for name in names]
    changes[70] = veth("h3", "h70")
    with pytest.raises(NodeError, match=r"veth h3: .*[Ee]xists"):
        node.change_links(changes).result()


def test_addresses_of_both_families_work_at_once(pair: NamespaceNode) -> None:
    for number, name in enumerate("ab", 1):
        given = [("eth0", f"10.0.0.{number}/24"), ("eth0", f"fd00::{number}/64")]
        pair.add_addresses(given, name).result()
    assert addresses(links(pair, "a")["eth0"]) == ["10.0.0.1/24", "fd00::1/64"]
    for target in ("10.0.0.2", "fd00::2"):
        assert "1 received" in pair.run(["ping", "-c1", "-w5", target], host="a").stdout


def test_who_has_an_address_does_not_ask_again_after_its_neighbours(pair: NamespaceNode) -> None:
    pairs = [("eth0", "10.0.0.1/24"), ("eth0", "fd00::1/64")]
    pair.add_addresses(pairs, host="a").result()
    said = pair.run(["ip", "ntable", "show", "dev", "eth0"], host="a").stdout
    assert re.findall(r"^(\S+ \S+)|delay_probe (\d+)", said, re.MULTILINE) == [
        ("inet arp_cache", ""),
        ("", "86400000"),
        ("inet6 ndisc_cache", ""),
        ("", "86400000"),
    ]


def test_a_host_without_ipv6_address_has_no_ipv6(pair: NamespaceNode) -> None:
    pair.add_addresses([("eth0", "10.0.0.1/24")], "a").result()
    assert addresses(links(pair, "a")["eth0"]) == ["10.0.0.1/24"]


@pytest.mark.parametrize(
    ("interface", "address", "said"),
    [
        ("eth0", "10.0.0.1/24", "10.0.0.1/24 on eth0: .*(exists|assigned)"),
        ("eth0", "10.0.0.2/33", "10.0.0.2/33 on eth0"),
        ("eth9", "10.0.0.2/24", "no interface with this name"),
        ("eth9", "fd00::1/64", "no interface with this name"),
        ("eth0", "10.0.0.300/24", "10.0.0.300|illegal IP address"),
        ("eth0", "10.0.0.1", "10.0.0.1|invalid"),
        ("eth0", "nonsense", "nonsense|illegal"),
    ],
)
def test_an_address_that_is_refused_is_named(
    pair: NamespaceNode, interface: str, address: str, said: str
) -> None:
    pair.add_addresses([("eth0", "10.0.0.1/24")], "a").result()
    with pytest.raises(NodeError, match=said) as info:
        pair.add_addresses([(interface, address)], "a").result()
    assert str(info.value).startswith("n1: cannot add addresses: ")
    assert "Traceback" not in str(info.value)


def test_a_removed_host_takes_its_links_along(pair: NamespaceNode) -> None:
    pair.remove_spaces(["a"]).result()
    with pytest.raises(NodeError, match="no network namespace 'a'"):
        pair.run(["true"], host="a")
    gone = {"lo", "br", "b"}
    eventually(lambda: set(links(pair)), lambda now: now == gone, within=60, what="a has gone")


def test_nodes_do_not_see_each_other(fabric: Fabric, ready: Environment) -> None:
    one, other = (fabric.start_node(name, ready.image.lower) for name in ("one", "other"))
    try:
        one.change_links([{"do": "bridge", "name": "br"}]).result()
        assert set(links(one)) == {"lo", "br"}
        assert set(links(other)) == {"lo"}
        assert fabric.node.run(["ls", "/sys/class/net"]).status == 0
    finally:
        one.close()
        other.close()


def test_a_cable_between_two_nodes(fabric: Fabric, ready: Environment) -> None:
    one, other = (fabric.start_node(name, ready.image.lower) for name in ("one", "other"))
    try:
        cable = veth("wire", other.space, peer="wire", space=one.space)
        fabric.node.change_links([cable]).result()
        for number, node in enumerate((one, other), 1):
            node.change_links([{"do": "set", "name": "wire", "up": True}]).result()
            node.add_addresses([("wire", f"10.0.0.{number}/24")]).result()
        assert "1 received" in one.run(["ping", "-c1", "-w5", "10.0.0.2"]).stdout
    finally:
        one.close()
        other.close()
