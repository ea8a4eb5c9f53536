"""Labs on remote machines, that a real ssh leads to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab import Lab, LabError, Target, crossing, remote
from harness.lab.environment import Environment, TargetUnavailable, environment
from harness.nodes import clock
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.ssh import client
from harness.nodes.ssh.client import SshNode
from harness.ovs.errors import ModuleError
from harness.topology import Topology

from .sshd import Machines, after, below
from .topologies import three_ends

ONE, TWO = "ssh://root@hv1/netdev", "ssh://hv1,root@hv2:22/netdev"
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"
LINK_LOCAL = ["01:80:c2:00:00:02", "01:80:c2:00:00:0e", "01:00:5e:00:00:fb"]
LIBRARY = "/usr/share/openvswitch/scripts/ovs-lib"
OWNER = """
import sys
from harness.lab import Lab, Target
from harness.lab.environment import environment
from tests.test_lab_remote import two_switches

with Lab(two_switches("doomed"), environment(Target.parse(sys.argv[1]))) as lab:
    with lab.traffic(rate=1000, pairs=[("h1", "h2")]):
        lab.switch("s1").node.run(["sh", "-c", "setsid sleep 86398 & exit 0"])
        print("flows", flush=True)
        sys.stdin.read()
"""


def two_switches(name: str = "remote") -> Topology:
    """Two switches, each with a host outside VLAN 7 and two in it, joined by a wire."""
    topology = Topology(name)
    wire = topology.underlay("wire")
    for number in (1, 2):
        bridge = topology.switch(f"s{number}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"h{number}", tag=0)
        bridge.host(f"g{number}", tag=7)
        bridge.host(f"v{number}", tag=7)
    return topology


@pytest.fixture(scope="module", params=[ONE, TWO])
def ready_remotes(request: pytest.FixtureRequest, remotes: Machines) -> Environment:
    """One machine that has all switches, and two."""
    del remotes
    return environment(Target.parse(request.param))


@pytest.fixture
def lab(ready_remotes: Environment, remotes: Machines) -> Iterator[Lab]:
    """Of nothing is left when the test ends."""
    with Lab(two_switches(), ready_remotes, seed=7) as made:
        yield made
        made.verify()
    remotes.be_untouched()


@pytest.fixture(scope="module")
def both(remotes: Machines) -> Environment:
    del remotes
    return environment(Target.parse(TWO))


def test_frames_cross_the_underlay(lab: Lab) -> None:
    assert lab.probe("h1").heard_at == {"h2"}
    crossing = lab.probe("g1")
    assert crossing.heard_at == {"v1", "g2", "v2"}
    assert crossing.seen_on("wire").vlan_ids == [7]
    # More than the machines' own network carries at once.
    assert lab.probe("h1", to="h2", size=1514).heard_at == {"h2"}


def test_switches_are_dealt_to_the_machines_in_turn(both: Environment) -> None:
    topology = Topology("dealt")
    for number in (1, 2, 3):
        topology.switch(f"s{number}").bridge("br0").host(f"h{number}")
    with Lab(topology, both) as lab:
        nodes = [lab.node(f"s{number}") for number in (1, 2, 3)]
        assert all(isinstance(node, SshNode) for node in nodes)
        where = [node.machine for node in nodes if isinstance(node, SshNode)]
        assert where == ["hv1", "root@hv2:22", "hv1"]


def test_more_switches_than_are_started_at_the_same_time(
    both: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "AT_ONCE", 1)
    topology = Topology("many")
    hub = topology.underlay("hub")
    for number in range(5):
        bridge = topology.switch(f"s{number}").bridge("br0")
        bridge.uplink(hub)
        bridge.host(f"h{number}")
    with Lab(topology, both) as lab:
        assert lab.probe("h0").heard_at == {"h1", "h2", "h3", "h4"}


@pytest.mark.parametrize("mac", LINK_LOCAL)
def test_the_wire_keeps_nothing_to_itself(both: Environment, mac: str) -> None:
    """LACP's frames, LLDP's (802.1Q, 8.6.3), and groups that nobody has joined."""
    with Lab(two_switches(), both, seed=7) as lab:
        for switch in ("s1", "s2"):
            lab.switch(switch).vsctl("set", "Bridge", "br0", "other_config:forward-bpdu=true")
        assert lab.probe("h1", mac=mac).heard_at == {"h2"}


def test_an_end_that_is_down_takes_the_carrier_from_the_other(lab: Lab) -> None:
    carrier = "/sys/class/net/wire/carrier"
    assert lab.node("s2").read_file(carrier) == b"1\n"
    lab.set_link("s1", "wire", up=False)
    assert lab.node("s2").read_file(carrier) == b"0\n"
    assert lab.probe("h1").heard_at == set()
    lab.set_link("s1", "wire", up=True)
    assert lab.probe("h1").heard_at == {"h2"}


def test_ends_of_one_underlay_at_one_switch(ready_remotes: Environment) -> None:
    """Three: two of them at the same switch."""
    with Lab(three_ends("remote-ends"), ready_remotes, seed=7) as lab:
        for name in lab.hosts:
            assert lab.probe(name).heard_at == lab.hosts.keys() - {name}


def test_two_labs_beside_each_other(both: Environment) -> None:
    """Their underlays share the machines' network, and its UDP ports."""
    with Lab(two_switches("one"), both) as one, Lab(two_switches("other"), both) as other:
        assert one.probe("h1").heard_at == {"h2"}
        assert other.probe("h1").heard_at == {"h2"}


def test_an_interface_may_be_called_as_the_machines_own(both: Environment) -> None:
    topology = Topology("remote-names")
    wire = topology.underlay("wire")
    for number in (1, 2):
        bridge = topology.switch(f"s{number}").bridge("br0")
        bridge.uplink(wire, name="eth0")
        bridge.host(f"h{number}")
    with Lab(topology, both) as lab:
        assert lab.probe("h1").heard_at == {"h2"}


def test_a_node_has_nothing_of_the_machines_network(lab: Lab) -> None:
    names = lab.node("s1").run(["ls", "/sys/class/net"]).stdout.split()
    assert set(names) == {"lo", "h1", "g1", "v1", "wire", "br0", "ovs-netdev"}


# -- clocks

SECOND = 1_000_000_000


@pytest.fixture
def far_apart(both: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose machines' clocks seem to be ahead of ours by one and by five seconds."""
    seem = {"s1": SECOND, "s2": 5 * SECOND}
    monkeypatch.setattr(clock, "ahead", lambda channel: seem[channel.name])
    with Lab(two_switches(), both) as made:
        yield made


@pytest.mark.parametrize(("source", "to", "seconds"), [("h1", "h2", -4), ("h2", "h1", 4)])
def test_times_are_of_the_harness_clock(far_apart: Lab, source: str, to: str, seconds: int) -> None:
    """As the clocks in truth are the same, taking them for others shows."""
    now = time.time_ns()
    sent = far_apart.probe(source, to=to)
    assert [round(ns / SECOND) for ns in sent.latencies] == [seconds]
    wire = {"h1": "s1:wire", "h2": "s2:wire"}[source]
    crossing = sent.seen_on("wire")
    assert crossing.port == wire
    assert round((crossing.time_ns - now) / SECOND) == {"h1": -1, "h2": -5}[source]


def test_times_of_traffic_too(far_apart: Lab) -> None:
    with far_apart.traffic(rate=500, pairs=[("h1", "h2")]):
        far_apart.node("s1").run(["true"])
    (sent,) = far_apart.batches[-1].sent
    assert {round(ns / SECOND) for ns in sent.latencies} == {-4}


def test_nodes_of_one_machine_have_one_clock(ready_remotes: Environment) -> None:
    with Lab(two_switches(), ready_remotes) as lab:
        clocks = {lab.node(name).clock for name in ("s1", "s2")}
    assert clocks == set(ready_remotes.target.machines)


# -- what can't be


def test_what_takes_a_kernel_of_ones_own(lab: Lab) -> None:
    with pytest.raises(LabError, match="s1 has no power of its own to cut"):
        lab.cut_power("s1")
    with pytest.raises(LabError, match="underlay wire can't be made bad"):
        lab.impair("wire", None)
    with pytest.raises(ModuleError, match="the kernel is not this node's own"):
        lab.switch("s1").force_reload_kmod()


def test_a_machine_has_the_system_that_it_has(both: Environment) -> None:
    with (
        Lab(two_switches(), both) as lab,
        pytest.raises(LabError, match="s1 runs what is installed on hv1, and can't become trixie"),
    ):
        lab.change_image("s1", "trixie", [])


def test_underlays_take_root(remotes: Machines) -> None:
    remotes.answer("hv-ordinary", "hv1", NOBODY)
    lab = Lab(two_switches(), environment(Target.parse("ssh://hv-ordinary/dummy")))
    with pytest.raises(NodeError, match="which only root can make: log in as root"):
        lab.start()
    remotes.be_untouched()


def test_what_needs_no_underlay_needs_no_root(remotes: Machines) -> None:
    remotes.answer("hv-ordinary", "hv1", NOBODY)
    topology = Topology("alone")
    bridge = topology.switch("s1").bridge("br0")
    bridge.host("h1")
    bridge.host("h2")
    with Lab(topology, environment(Target.parse("ssh://hv-ordinary/dummy"))) as lab:
        assert lab.probe("h1").heard_at == {"h2"}


def test_machines_that_do_not_reach_each_other(
    both: Environment, remotes: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is not to be taken for a switch that loses frames."""
    monkeypatch.setattr(crossing, "BOUND", 0.5)
    down = {"do": "set", "name": "eth0", "up": False}
    remotes.nodes["hv2"].change_links([down]).result()
    try:
        with pytest.raises(LabError, match=r"underlay wire does not carry frames to s\d: do the"):
            Lab(two_switches(), both).start()
    finally:
        remotes.nodes["hv2"].change_links([down | {"up": True}]).result()
    remotes.be_untouched()


def test_a_kernel_that_takes_a_short_cut(
    remotes: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before Linux 6.5 do not know that they are told not to."""
    sent = client.modules()
    name = "harness/agent/underlays.py"
    sent[name] = sent[name].replace(b"IFLA_VXLAN_LOCALBYPASS = 31", b"IFLA_VXLAN_LOCALBYPASS = 99")
    monkeypatch.setattr(client, "modules", lambda: sent)
    monkeypatch.setattr(crossing, "BOUND", 0.5)
    with pytest.raises(LabError, match="underlay wire changes frames with VLAN tags on their way"):
        Lab(two_switches(), environment(Target.parse(ONE))).start()
    remotes.be_untouched()


LACKING = {
    "no Open vSwitch": (
        "mount -n -t tmpfs none /usr/share/openvswitch",
        "netdev",
        "hv-bare has no Open vSwitch: `sudo apt-get install openvswitch-switch` there",
    ),
    "no ping": (
        "mount -n --bind /dev/null /usr/bin/ping",
        "netdev",
        "hv-bare has no ping: `sudo apt-get install iputils-ping` there",
    ),
    "no tun": ("mount -n -t tmpfs none /dev/net", "netdev", "can't be opened on hv-bare"),
    "no module": (":", "kernel", "needs the module openvswitch in the kernel of hv-bare"),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_machine_that_lacks_something(remotes: Machines, lacking: str) -> None:
    script, datapath, said = LACKING[lacking]
    remotes.answer("hv-bare", "hv1", after(script))
    # What was found out about a target is not looked at again.
    target = Target.parse(f"ssh://hv-bare:{22 + len(lacking)}/{datapath}")
    with pytest.raises(TargetUnavailable) as caught:
        environment(target)
    assert said.replace("hv-bare", target.machines[-1]) in str(caught.value)


def test_machines_have_to_have_the_same_version(remotes: Machines) -> None:
    change = (
        f"sed s/^VERSION=.*/VERSION=9.9.9/ {LIBRARY} >/tmp/own; mount -n --bind /tmp/own {LIBRARY}"
    )
    remotes.answer("hv-new", "hv2", after(f"mount -n -t tmpfs none /tmp; {change}"))
    with pytest.raises(TargetUnavailable, match=r"hv1 has 3\.5\.0.*, hv-new has 9\.9\.9"):
        environment(Target.parse("ssh://hv1,hv-new/netdev"))


# -- the end


def test_nothing_outlives_a_process_that_is_killed(remotes: Machines) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, TWO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"flows\n"
        assert below(process.pid, "ssh")
        process.kill()
    remotes.be_untouched()


def test_a_machine_that_is_lost(both: Environment, remotes: Machines) -> None:
    with Lab(two_switches(), both) as lab:
        node = lab.node("s2")
        assert isinstance(node, SshNode)
        os.kill(node.process, signal.SIGKILL)
        with pytest.raises(NodeLost, match=r"the ssh to root@hv2:22 was ended by SIGKILL"):
            lab.probe("h1")
    remotes.be_untouched()
