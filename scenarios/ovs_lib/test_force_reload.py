"""force_reload_kmod in a node that has no kernel module: all but the reload itself.

Source: ovs-lib; ovs-ctl(8), "The force-reload-kmod command". What it does to a module is for nodes
with a kernel of their own.
"""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from harness import Lab, Topology
from harness.lab import Target
from harness.nodes.base import Completed
from harness.ovs.switch import Switch

FLOW = "priority=9,in_port=a actions=output:b"


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("reload")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", addresses=["192.0.2.1/24"])
    bridge.internal("in0")
    for name in "ab":
        bridge.host(name)
    bridge.flow(FLOW.replace(" actions", ",actions"))
    return topo


NO_RMMOD = """\
#!/bin/sh
echo "rmmod: the modules of this kernel are the machine's: $*" >&2
exit 1
"""


@pytest.fixture
def switch(lab: Lab, target: Target) -> Switch:
    """A switch that can't get at the machine's kernel modules."""
    if target.backend != "namespace":
        pytest.skip("this is about nodes that share the machine's kernel")
    lab.node("s1").write_file("/usr/local/sbin/rmmod", NO_RMMOD, mode=0o755)
    return lab.switch("s1")


def reload(switch: Switch, *words: str) -> Completed:
    """Run ovs-ctl force-reload-kmod; the switch takes the daemons that then run for its own."""
    # Where the system does not say which version it is, ovs-ctl asks for it.
    options = replace(switch.options, system_version="1").words
    argv = [switch.layout.ovs_ctl, *options, *words, "force-reload-kmod"]
    done = switch.node.run(argv, check=False, timeout=60)
    switch.adopt()
    return done


def steps(done: Completed) -> list[str]:
    """What it printed, without pids, and without what is about modules that the machine has."""
    lines = [line.partition(" (")[0].rstrip(". ") for line in done.stdout.splitlines()]
    about_modules = re.compile("Kernel has no|(Forcing removal of|Removing|Inserting) .* module")
    return [line for line in lines if line and not about_modules.match(line)]


BEFORE = [
    "Detected internal interfaces: br0 in0",
    "Saving flows",
    "Exiting ovsdb-server",
    "Starting ovsdb-server",
    "Configuring Open vSwitch system IDs",
    "Exiting ovs-vswitchd",
]


def test_order_of_a_reload(lab: Lab, switch: Switch) -> None:
    done = reload(switch)
    assert done.status == 0
    assert steps(done)[:-1] == [
        *BEFORE,
        "Saving interface configuration",
        "Starting ovs-vswitchd",
        "Restoring saved flows",
        "Enabling remote OVSDB managers",
        "Restoring interface configuration",
    ]
    # It fails where there is no Python, which is no failure of the whole.
    assert steps(done)[-1].startswith("Finding processes on dead interfaces")
    assert lab.probe("a", to="b").heard_at == {"b"}


def lose_on_reload(switch: Switch, lose: str) -> None:
    """Have interfaces lose what the module would take with it, were there one."""
    wrapped = f'#!/bin/sh\ntest "$1" = remove && {{ {lose}; }}\nexit 0\n'
    switch.node.write_file(f"{switch.layout.datadir}/scripts/ovs-kmod-ctl", wrapped, mode=0o755)


def test_reload_gives_interfaces_back_what_they_had(switch: Switch) -> None:
    # Whether a link is UP or UNKNOWN the kernel says as it likes.
    show = "ip -o address show dev br0; ip -o link show dev in0 | sed 's/ state [A-Z]*//'"
    look = ["sh", "-c", show]
    change = "ip link set in0 address 02:00:00:00:00:77 mtu 1400 up"
    switch.node.run(["sh", "-c", change])
    before = switch.node.run(look).stdout
    assert "192.0.2.1/24" in before
    lose_on_reload(switch, "ip address flush dev br0; ip link set in0 mtu 1500 down")
    assert "Restoring interface configuration" in steps(reload(switch))
    assert switch.node.run(look).stdout == before


def test_reload_gives_interfaces_back_their_routes(switch: Switch) -> None:
    look = ["ip", "route", "show", "dev", "br0"]
    switch.node.run(["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.9"])
    before = switch.node.run(look).stdout
    assert "203.0.113.0/24 via 192.0.2.9" in before
    lose_on_reload(switch, "ip route flush dev br0 proto boot")
    assert "Exiting ovs-vswitchd" in steps(reload(switch))
    assert switch.node.run(look).stdout == before


def test_reload_that_deletes_bridges_saves_no_flows(switch: Switch) -> None:
    said = steps(reload(switch, "--delete-bridges"))
    assert "Saving flows" not in said
    assert "Restoring saved flows" not in said
    assert "Starting ovs-vswitchd" in said
    assert switch.vsctl("list-br") == ""


def test_reload_without_ovs_vswitchd_is_an_error(switch: Switch) -> None:
    pids = switch.pid("ovsdb-server"), switch.pid()
    done = reload(switch, "--no-ovs-vswitchd")
    assert done.status == 1
    assert steps(done) == ["Reloading of kmod without ovs-vswitchd is an error ... failed!"]
    assert (switch.pid("ovsdb-server"), switch.pid()) == pids


HIDE_IP = "rm -f /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip"


def test_reload_is_called_off_when_interfaces_cannot_be_saved(switch: Switch) -> None:
    """ovs-save has no ip(8), which it asks for what they have."""
    switch.node.run(["sh", "-c", HIDE_IP])
    done = reload(switch)
    assert done.status == 1
    assert steps(done) == [
        *BEFORE,
        "Saving interface configuration ... failed!",
        "Failed to save configuration, not replacing kernel module",
        "Starting ovs-vswitchd",
        "Enabling remote OVSDB managers",
    ]


def test_flows_outlive_a_reload_that_is_called_off(switch: Switch) -> None:
    switch.node.run(["sh", "-c", HIDE_IP])
    said = steps(reload(switch))
    assert "Saving flows" in said
    assert FLOW in switch.ofctl("--no-stats", "--names", "dump-flows", "br0")
