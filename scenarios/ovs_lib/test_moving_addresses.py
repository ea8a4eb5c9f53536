"""move_ip_address, move_ip_routes: commands that give one interface what another has.

Source: ovs-lib, the comments in both; ``ovs-save save-interfaces`` restores an interface with them
after the kernel module was reloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.polling import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.ovs_lib.conftest import Library

MAKE = """
for end in old new; do
    ip link add $end type veth peer name $end-far
    echo 0 > /proc/sys/net/ipv6/conf/$end/disable_ipv6
    # No address that nobody gave it.
    ip link set $end addrgenmode none
    ip link set $end up
    ip link set $end-far up
done
"""


@pytest.fixture
def links(library: Library) -> Iterator[Library]:
    """Interfaces ``old`` and ``new`` with a carrier and without addresses."""
    library.shell(MAKE)
    yield library
    library.shell("ip link del old; ip link del new")


def addresses(library: Library, link: str) -> list[str]:
    """What an interface has, without how long it will keep it."""
    lines = library.shell('ip address show dev "$1"', link).splitlines()
    return [line.strip() for line in lines if line.lstrip().startswith("inet")]


def move(library: Library, what: str, *more: str) -> list[str]:
    """The commands that are printed to move addresses or routes, after the first, which flushes.

    They are carried out where ``more`` says so.
    """
    done = library.run(f"{what} old new")
    assert done.status == 0
    flush, *commands = done.stdout.splitlines()
    family = "addr flush dev old" if what == "move_ip_address" else "route flush dev old proto boot"
    # Suppresses "Nothing to flush".
    assert flush == f"ip {family} 2>/dev/null"
    if "do it" in more:
        library.node.run(["sh", "-e"], stdin=done.stdout)
    return commands


# -- addresses

MOVED = {
    "10.0.0.1/24": "inet addr add 10.0.0.1/24 scope global label new",
    "10.0.0.1/24 brd +": "inet addr add 10.0.0.1/24 brd 10.0.0.255 scope global label new",
    "10.0.0.1 peer 10.0.0.2": "inet addr add 10.0.0.1 peer 10.0.0.2/32 scope global label new",
    "10.0.0.1/24 label old:one": "inet addr add 10.0.0.1/24 scope global label new:one",
    "10.0.0.1/32 scope host": "inet addr add 10.0.0.1/32 scope host label new",
    "10.0.0.1/24 noprefixroute": "inet addr add 10.0.0.1/24 scope global noprefixroute label new",
    "2001:db8::1/64 nodad": "inet6 addr add 2001:db8::1/64 scope global nodad",
    "fe80::1/64 nodad": "inet6 addr add fe80::1/64 scope link nodad",
}


@pytest.mark.parametrize("given", MOVED)
def test_address_is_moved(links: Library, given: str) -> None:
    links.shell(f"ip address add {given} dev old")
    (before,) = addresses(links, "old")
    assert move(links, "move_ip_address", "do it") == [f"ip -f {MOVED[given]} dev new"]
    assert addresses(links, "old") == []
    assert addresses(links, "new") == [before.replace("old", "new")]


@pytest.mark.parametrize(
    "given",
    [
        "10.0.0.1/24 scope link",
        # From router advertisements, which will come again.
        "2001:db8::1/64 valid_lft 1000 preferred_lft 500 nodad",
    ],
    ids=["inet-link", "inet6-dynamic"],
)
def test_address_that_the_kernel_will_make_again_is_left_out(links: Library, given: str) -> None:
    links.shell(f"ip address add {given} dev old; ip address add 10.9.0.1/24 dev old")
    moved = "ip -f inet addr add 10.9.0.1/24 scope global label new dev new"
    assert move(links, "move_ip_address") == [moved]


def test_leased_address_is_moved_for_good(links: Library) -> None:
    """The DHCP client renews its lease, if it is still there."""
    links.shell("ip address add 10.0.0.1/24 valid_lft 1000 preferred_lft 500 dev old")
    moved = "ip -f inet addr add 10.0.0.1/24 scope global label new dev new"
    assert move(links, "move_ip_address", "do it") == [moved]
    assert "valid_lft forever" in links.shell("ip address show dev new")


def test_several_addresses_of_one_network_stay_in_order(links: Library) -> None:
    links.shell("for n in 1 2 3; do ip address add 10.0.0.$n/24 dev old; done")
    before = addresses(links, "old")
    move(links, "move_ip_address", "do it")
    assert addresses(links, "new") == [line.replace("old", "new") for line in before]


def test_interface_gets_its_own_addresses_back(links: Library) -> None:
    """This is what saving and restoring an interface is."""
    links.shell("ip address add 10.0.0.1/24 brd + label old:x dev old")
    links.shell("ip address add 2001:db8::1/64 nodad dev old")
    before = addresses(links, "old")
    commands = links.run("move_ip_address old old").stdout
    links.shell("ip address flush dev old")
    links.node.run(["sh", "-e"], stdin=commands)
    assert addresses(links, "old") == before


def test_deprecated_address_stays_deprecated(links: Library) -> None:
    links.shell("ip address add 2001:db8::1/64 preferred_lft 0 nodad dev old")
    move(links, "move_ip_address", "do it")
    assert "deprecated" in addresses(links, "new")[0]


# -- routes

ROUTES = {
    "default via 10.0.0.9": "default via 10.0.0.9",
    "10.1.0.0/16 via 10.0.0.9 metric 5": "10.1.0.0/16 via 10.0.0.9 metric 5",
    "10.1.0.0/16": "10.1.0.0/16 scope link",
    "10.1.0.0/16 src 10.0.0.1 mtu 1400": "10.1.0.0/16 scope link src 10.0.0.1 mtu 1400",
    "10.1.0.0/16 via 10.9.0.9 onlink": "10.1.0.0/16 via 10.9.0.9 onlink",
    "10.1.0.0/16 via 10.0.0.9 proto static": "10.1.0.0/16 via 10.0.0.9 proto static",
}


def routes(library: Library, link: str) -> list[str]:
    """The IPv4 routes of the main table by an interface that the kernel did not make itself."""
    shown = library.shell('ip route show dev "$1"', link)
    whole = shown.replace("\n\t", " ").splitlines()
    return [" ".join(line.split()) for line in whole if "proto kernel" not in line]


def change_over(library: Library) -> None:
    """Move routes, with the address that they go by."""
    commands = library.run("move_ip_routes old new").stdout
    library.shell("ip address flush dev old; ip address add 10.0.0.1/24 dev new")
    # As restoring does: one that fails keeps none of the others back.
    library.node.run(["sh"], stdin=commands, check=False)


@pytest.mark.parametrize("given", ROUTES)
def test_route_is_moved(links: Library, given: str) -> None:
    links.shell(f"ip address add 10.0.0.1/24 dev old; ip route add {given} dev old")
    before = routes(links, "old")
    assert move(links, "move_ip_routes") == [f"ip route add {ROUTES[given]} dev new"]
    change_over(links)
    assert routes(links, "new") == before


@pytest.mark.parametrize(
    "given",
    ["10.1.0.0/16 dev old table 7", "2001:db8:1::/48 dev old", "blackhole 10.1.0.0/16"],
    ids=["other-table", "inet6", "no-interface"],
)
def test_only_ipv4_routes_of_the_main_table_by_this_interface(links: Library, given: str) -> None:
    links.shell(f"ip address add 10.0.0.1/24 dev old; ip route add {given}")
    links.shell("ip route add 10.2.0.0/16 dev old")
    # The one to 10.0.0.0/24 is the kernel's.
    assert move(links, "move_ip_routes") == ["ip route add 10.2.0.0/16 scope link dev new"]
    links.shell("ip route flush 10.1.0.0/16")


def test_routes_are_moved_by_the_commands_alone(links: Library) -> None:
    """The ones of the old interface go: they are flushed first."""
    links.shell("ip address add 10.0.0.1/24 dev old; ip route add 10.1.0.0/16 dev old")
    move(links, "move_ip_routes", "do it")
    assert (routes(links, "old"), routes(links, "new")) == ([], ["10.1.0.0/16 scope link"])


def test_route_with_several_gateways_keeps_them(links: Library) -> None:
    links.shell("ip address add 10.0.0.1/24 dev old")
    gateways = "nexthop via 10.0.0.8 dev old nexthop via 10.0.0.9 dev old"
    links.shell(f"ip route add 10.1.0.0/16 {gateways}")
    show = "ip route show 10.1.0.0/16"
    before = links.shell(show)
    assert before.count("nexthop") == 2
    change_over(links)
    assert links.shell(show) == before.replace("old", "new")


def test_route_whose_gateway_has_a_route_of_its_own(links: Library) -> None:
    links.shell("ip address add 10.0.0.1/24 dev old; ip route add 10.9.0.9 dev old")
    links.shell("ip route add default via 10.9.0.9 dev old")
    before = routes(links, "old")
    change_over(links)
    assert routes(links, "new") == before


def test_route_of_an_interface_without_carrier(links: Library) -> None:
    links.shell("ip address add 10.0.0.1/24 dev old; ip route add 10.1.0.0/16 via 10.0.0.9")
    links.shell("ip link set old-far down; ip link set new-far down")
    eventually(
        lambda: routes(links, "old"), lambda seen: "linkdown" in seen[0], within=60, what="link"
    )
    change_over(links)
    assert routes(links, "new") == ["10.1.0.0/16 via 10.0.0.9 linkdown"]


@pytest.mark.parametrize("function", ["move_ip_address", "move_ip_routes"])
@pytest.mark.parametrize("names", ["", "old", "'' new"])
def test_nothing_without_both_names(links: Library, function: str, names: str) -> None:
    links.shell("ip address add 10.0.0.1/24 dev old; ip route add 10.1.0.0/16 dev old")
    done = links.run(f"{function} {names}; echo end; {function} old new")
    assert (done.stdout.splitlines()[0], len(done.stdout.splitlines())) == ("end", 3)
