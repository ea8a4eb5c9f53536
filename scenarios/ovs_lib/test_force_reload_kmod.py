"""force_reload_kmod in a node that has a kernel of its own: what is done to modules.

Source: ovs-lib and ovs-kmod-ctl; ovs-ctl(8), "The force-reload-kmod command". What is about the
interfaces and flows of the switch itself is in test_force_reload.py and in scenarios/restart.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from harness import Lab, Topology
from harness.nodes.remote import RemoteNode
from harness.ovs import ModuleError, kmod
from harness.ovs.switch import Switch
from harness.ovs.tasks import Task

pytestmark = pytest.mark.requires("kernel module")


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("reload")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", addresses=["192.0.2.1/24"])
    for name in "ab":
        bridge.host(name)
    bridge.flow("in_port=a,actions=output:b")
    return topo


@pytest.fixture
def node(lab: Lab) -> RemoteNode:
    return lab.node("s1")


@pytest.fixture
def switch(lab: Lab) -> Switch:
    return lab.switch("s1")


def loaded(node: RemoteNode) -> set[str]:
    """The modules that the kernel has loaded."""
    return set(node.run(["ls", "/sys/module"]).stdout.split())


def which(node: RemoteNode) -> int:
    """What tells the loaded module openvswitch from a later one."""
    found = Task(kmod.inode(node)).result()
    assert found is not None
    return found


def links(node: RemoteNode) -> set[str]:
    """The interfaces of the node."""
    return set(node.run(["ls", "/sys/class/net"]).stdout.split())


def test_gre_is_removed_too(lab: Lab, node: RemoteNode, switch: Switch) -> None:
    """Open vSwitch needs it for itself, so whoever had it loaded has to do without."""
    node.run(["modprobe", "ip_gre"])
    assert loaded(node) >= {"gre", "ip_gre"}
    said = switch.force_reload_kmod().stdout
    assert "Forcing removal of ip_gre module." in said
    assert "Forcing removal of gre module." in said
    assert not loaded(node) & {"gre", "ip_gre"}
    assert lab.probe("a", to="b").heard_at == {"b"}


def test_modules_that_are_not_loaded_are_not_removed(node: RemoteNode, switch: Switch) -> None:
    assert not loaded(node) & {"gre", "ip_gre", "vxlan"}
    said = switch.force_reload_kmod().stdout
    removed = [line for line in said.splitlines() if "emov" in line and "module" in line]
    assert removed == ["Removing openvswitch module."]


def test_gre_that_another_module_needs_stays(lab: Lab, node: RemoteNode, switch: Switch) -> None:
    """That it can't be removed stops nothing: openvswitch itself is reloaded all the same."""
    node.run(["modprobe", "ip6_gre"])
    said = switch.force_reload_kmod().stdout
    assert "Forcing removal of gre module ... failed!" in said
    assert "gre" in loaded(node)
    assert lab.probe("a", to="b").heard_at == {"b"}


OTHERS = {
    "gretap": "local 192.0.2.1 remote 192.0.2.9 key 5",
    "vxlan": "id 5 dstport 4790 remote 192.0.2.9",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_tunnels_of_others_go_with_their_module(
    lab: Lab, node: RemoteNode, switch: Switch, kind: str
) -> None:
    """The kernel removes a module's devices with it, whoever made them, and a reload brings back
    only those of Open vSwitch: one reason to think twice before a reload on a router."""
    node.run(["ip", "link", "add", "other", "type", kind, *OTHERS[kind].split()])
    assert "other" in links(node)
    switch.force_reload_kmod()
    assert "other" not in links(node)
    assert lab.probe("a", to="b").heard_at == {"b"}


def test_devices_on_other_modules_stay(node: RemoteNode, switch: Switch) -> None:
    node.run(["ip", "link", "add", "other", "type", "dummy"])
    switch.force_reload_kmod()
    assert "other" in links(node)


def test_a_module_that_another_network_namespace_uses_stays(
    lab: Lab, node: RemoteNode, switch: Switch
) -> None:
    """A datapath there is not among those that ovs-dpctl finds and removes. ovs-ctl exits 0."""
    node.run(["ip", "netns", "add", "other"])
    node.run(["ip", "netns", "exec", "other", "ovs-dpctl", "add-dp", "dp0"])
    before = which(node)
    with pytest.raises(ModuleError, match="the same one is still there") as caught:
        switch.force_reload_kmod()
    assert "Removing openvswitch module ... failed!" in str(caught.value)
    assert which(node) == before
    assert lab.probe("a", to="b").heard_at == {"b"}


def test_without_ovs_vswitchd_it_stays(node: RemoteNode, switch: Switch) -> None:
    before = which(node)
    argv = [switch.layout.ovs_ctl, "--no-ovs-vswitchd", "force-reload-kmod"]
    done = node.run(argv, check=False, timeout=60)
    assert done.status == 1
    assert "Reloading of kmod without ovs-vswitchd is an error" in done.stdout
    assert which(node) == before


def test_while_interfaces_cannot_be_saved_it_stays(node: RemoteNode, switch: Switch) -> None:
    before = which(node)
    # ovs-save asks ip(8) for what interfaces have.
    node.run(["sh", "-c", "rm -f /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip"])
    options = replace(switch.options, system_version="1").words
    argv = [switch.layout.ovs_ctl, *options, "force-reload-kmod"]
    done = node.run(argv, check=False, timeout=60)
    switch.adopt()
    assert done.status == 1
    assert "Failed to save configuration, not replacing kernel module" in done.stdout
    assert "Removing openvswitch module" not in done.stdout
    assert which(node) == before
