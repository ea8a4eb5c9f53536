"""Labs whose switches are containers: real ones, of a real engine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import docker
import pytest
from scapy.layers.l2 import Ether

from harness.images import engines
from harness.images.engine_names import reference
from harness.lab import Lab, Target
from harness.lab.containers import SHARED
from harness.lab.environment import Environment, TargetUnavailable, broker, environment
from harness.lab.errors import LabError
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.containers import labels
from harness.nodes.containers.client import Broker, DockerNode
from harness.nodes.containers.engine import Engine
from harness.polling import eventually
from harness.topology import Topology

from .conftest import made_ready
from .topologies import three_ends

GONE = 60.0
"""Seconds within which a busy engine has removed something."""


@pytest.fixture(scope="module")
def containers() -> Environment:
    return made_ready("trixie/docker/netdev")


@pytest.fixture(scope="module")
def client(containers: Environment) -> docker.APIClient:
    """The engine itself."""
    del containers
    return Engine().client()


def two_switches(name: str = "containers") -> Topology:
    """Two switches with two hosts each, joined by a wire."""
    topology = Topology(name)
    wire = topology.underlay("wire")
    for number in (1, 2):
        bridge = topology.switch(f"s{number}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"h{number}")
        bridge.host(f"g{number}")
    return topology


@pytest.fixture
def lab(containers: Environment) -> Iterator[Lab]:
    with Lab(two_switches(), containers, seed=7) as made:
        yield made


def left_of(client: docker.APIClient, topology: str) -> list[str]:
    """The names of an engine's containers, networks and volumes of labs of a topology."""
    wanted = {"label": labels.LAB}
    found = client.containers(all=True, filters=wanted) + client.networks(filters=wanted)
    found += client.volumes(filters=wanted)["Volumes"] or []
    return [
        str(one.get("Names") or one.get("Name"))
        for one in found
        if (one["Labels"] or {})[labels.LAB].startswith(f"{topology}-")
    ]


def test_frames_cross_the_underlay(lab: Lab) -> None:
    assert lab.probe("h1").heard_at == {"g1", "h2", "g2"}
    assert lab.probe("h2", to="h1").heard_at == {"h1"}


@pytest.mark.parametrize("mac", ["01:80:c2:00:00:02", "01:80:c2:00:00:0e", "01:00:5e:00:00:fb"])
def test_the_wire_keeps_nothing_to_itself(lab: Lab, mac: str) -> None:
    """A Linux bridge, which carries an engine's network, would: LACP's frames, LLDP's (802.1Q,
    8.6.3), and groups that nobody has joined."""
    lab.switch("s1").vsctl("--", "set", "Bridge", "br0", "other_config:forward-bpdu=true")
    lab.switch("s2").vsctl("--", "set", "Bridge", "br0", "other_config:forward-bpdu=true")
    assert lab.probe("h1", mac=mac).heard_at == {"g1", "h2", "g2"}


def test_the_wire_learns_nothing(lab: Lab) -> None:
    """The same source address on both sides of it, in turns."""
    for _ in range(3):
        for source in ("h1", "h2"):
            frame = Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:98", type=0x88B5)
            others = {"h1", "g1", "h2", "g2"} - {source}
            assert lab.send(source, frame / bytes(50), to=others).heard_at == others


@pytest.mark.parametrize("size", [1514, 1518])
def test_the_largest_frames_with_and_without_tags(lab: Lab, size: int) -> None:
    vlan = [7] if size == 1518 else []
    assert lab.probe("h1", to="h2", size=size, vlan=vlan).heard_at >= {"h2"}


def test_an_end_that_is_down_takes_the_carrier_from_the_other(lab: Lab) -> None:
    carrier = "/sys/class/net/wire/carrier"
    assert lab.node("s2").read_file(carrier) == b"1\n"
    lab.set_link("s1", "wire", up=False)
    assert lab.node("s2").read_file(carrier) == b"0\n"
    assert lab.probe("h1").heard_at == {"g1"}
    lab.set_link("s1", "wire", up=True)
    assert lab.node("s2").read_file(carrier) == b"1\n"
    assert lab.probe("h1").heard_at == {"g1", "h2", "g2"}


def test_ends_of_one_underlay_at_one_switch(containers: Environment) -> None:
    """Three: two of them at the same switch."""
    with Lab(three_ends("containers-ends"), containers, seed=7) as lab:
        for name in lab.hosts:
            assert lab.probe(name).heard_at == lab.hosts.keys() - {name}


def test_a_node_has_the_network_of_no_engine(lab: Lab) -> None:
    """What the engine connects it to is out of the switch's sight."""
    names = lab.node("s1").run(["ls", "/sys/class/net"]).stdout.split()
    assert set(names) == {"lo", "h1", "g1", "wire", "br0", "ovs-netdev"}


def test_a_node_s_kernel_says_nothing_by_itself(lab: Lab) -> None:
    """Nor does it answer for any of its addresses at any port, past the switch."""
    read = lab.node("s1").read_files(
        [
            "/proc/sys/net/ipv6/conf/wire/disable_ipv6",
            "/proc/sys/net/ipv4/conf/all/arp_ignore",
            "/proc/sys/net/ipv4/conf/all/rp_filter",
        ]
    )
    assert read == [b"1\n"] * 3


def test_no_privileges_but_those_that_are_named(lab: Lab, client: docker.APIClient) -> None:
    node = lab.node("s1")
    assert isinstance(node, DockerNode)
    found = client.inspect_container(node.container)
    config = found["HostConfig"]
    assert not config["Privileged"]
    assert not config["Binds"]
    assert {one["Type"] for one in found["Mounts"]} == {"volume"}
    assert config["NetworkMode"] not in ("host", "bridge")
    assert config["CapDrop"] == ["ALL"]
    owner = found["Config"]["Labels"]
    assert owner[labels.SWITCH] == "s1"
    assert owner[labels.OWNER].partition("@")[0]


def test_two_labs_beside_each_other(containers: Environment) -> None:
    topologies = [two_switches(f"containers-{name}") for name in ("one", "other")]
    with Lab(topologies[0], containers) as one, Lab(topologies[1], containers) as other:
        assert one.probe("h1", to="h2").heard_at >= {"h2"}
        assert other.probe("h1", to="h2").heard_at >= {"h2"}


def test_nothing_is_left_of_a_lab(containers: Environment, client: docker.APIClient) -> None:
    with Lab(two_switches("containers-left"), containers):
        # A network, two containers, and the volumes of each.
        assert len(left_of(client, "containers-left")) == 3 + 2 * len(SHARED)
    eventually(
        lambda: left_of(client, "containers-left"),
        lambda left: not left,
        within=GONE,
        what="the lab is gone",
    )


def test_a_switch_goes_on_in_another_container(lab: Lab) -> None:
    """An upgrade: programs and libraries are another container's, while hosts, captures and what
    runs stay."""
    node, switch = lab.node("s1"), lab.switch("s1")
    assert isinstance(node, DockerNode)
    node.write_file("/usr/local/own", "of the first")
    node.write_file("/etc/openvswitch/kept", "of both")
    before, pid = switch.state(), switch.pid()
    lab.change_image("s1", "trixie", ["/etc/openvswitch"])
    assert not node.exists("/usr/local/own")
    assert node.read_file("/etc/openvswitch/kept") == b"of both"
    assert switch.pid() == pid
    assert lab.probe("h1").heard_at == {"g1", "h2", "g2"}
    switch.restart()
    assert switch.pid() != pid
    assert switch.state() == before
    assert lab.probe("h1").heard_at == {"g1", "h2", "g2"}
    node.run(["ip", "link", "show", "eth0"], host="h1")


def test_what_containers_do_not_share_cannot_be_kept(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"can be kept, but not /srv/database$"):
        lab.change_image("s1", "trixie", ["/etc/openvswitch", "/srv/database"])


def test_a_container_that_somebody_kills(lab: Lab, client: docker.APIClient) -> None:
    node = lab.node("s1")
    assert isinstance(node, DockerNode)
    client.kill(node.container)
    with pytest.raises(NodeLost, match=r"s1: the node has ended, .*status 137: it was killed"):
        node.run(["true"])


KILLED = """\
import sys
from harness.lab import Lab, Target
from harness.lab.environment import broker, environment
from tests.test_lab_containers import two_switches
found = environment(Target.parse("trixie/docker/netdev"))
print(broker().pid, flush=True)
while True:
    with Lab(two_switches(sys.argv[1]), found) as lab:
        lab.probe("h1", to="h2")
"""


@contextmanager
def harness_at_work(name: str, client: docker.APIClient) -> Iterator[tuple[int, int]]:
    """Another harness, which makes labs of a topology; its process id and its broker's."""
    argv = [sys.executable, "-c", KILLED, name]
    here = Path(__file__).parents[1]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=here) as process:
        try:
            assert process.stdout is not None
            its_broker = int(process.stdout.readline())
            eventually(lambda: left_of(client, name), within=GONE, what="it has begun")
            yield process.pid, its_broker
        finally:
            process.kill()


@pytest.mark.parametrize("attempt", range(4))
def test_nothing_is_left_by_a_harness_that_is_killed(
    containers: Environment, client: docker.APIClient, attempt: int
) -> None:
    """At a moment that nobody has chosen: while networks or containers are made, or while frames
    are sent."""
    del containers
    name = f"containers-killed-{attempt}"
    with harness_at_work(name, client) as (_, its_broker):
        time.sleep(random.Random(attempt).uniform(0, 3))
    eventually(
        lambda: (left_of(client, name), Path(f"/proc/{its_broker}").exists()),
        lambda left: left == ([], False),
        within=GONE,
        what="nothing is left, and no broker",
    )


def test_what_a_killed_broker_leaves_the_next_removes(
    containers: Environment, client: docker.APIClient
) -> None:
    del containers
    name = "containers-brokerless"
    with harness_at_work(name, client) as (its_harness, its_broker):
        # In this order: a broker that is not there any more is not asked to tidy up.
        os.kill(its_broker, signal.SIGKILL)
        os.kill(its_harness, signal.SIGKILL)
    another = Broker()
    assert another.engine
    eventually(
        lambda: left_of(client, name),
        lambda left: not left,
        within=GONE,
        what="the next broker has removed it",
    )
    another.close()


class Proxy:
    """Stands between the harness and the engine, and can stop passing anything on."""

    def __init__(self, directory: Path, engine: str) -> None:
        self.path = directory / "proxy.sock"
        self._engine = engine
        self._passing = threading.Event()
        self._passing.set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen(100)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._server.accept()
                self._threads.append(threading.Thread(target=self._serve, args=[ours]))
                self._threads[-1].start()

    def _serve(self, ours: socket.socket) -> None:
        with ours, socket.socket(socket.AF_UNIX) as theirs:
            theirs.connect(self._engine)
            back = threading.Thread(target=self._pass, args=[theirs, ours])
            back.start()
            self._pass(ours, theirs)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._passing.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        self._passing.clear()

    def go_on(self) -> None:
        self._passing.set()

    def close(self) -> None:
        """Once nobody is connected any more."""
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.close()


def test_an_engine_that_stops_answering(
    containers: Environment,
    client: docker.APIClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = broker().engine.url
    if not url.startswith("unix://"):
        pytest.skip(f"the engine is at {url}, and this test's proxy is for unix sockets")
    proxy = Proxy(tmp_path, url.removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{proxy.path}")
    through = Broker()
    site: Any = partial(containers.site, broker=through)  # type: ignore[call-arg]
    with Lab(two_switches("containers-silent"), containers._replace(site=site)) as lab:
        node = lab.node("s1")
        assert node.run(["true"]).status == 0
        proxy.stop()
        silent = r"s1: no answer after .*; .*proxy\.sock does not answer either"
        with pytest.raises(NodeLost, match=silent):
            node.run_soon(["true"]).result(1)
        proxy.go_on()
    through.close()
    proxy.close()
    assert not left_of(client, "containers-silent")


def test_an_image_that_there_is_not(containers: Environment) -> None:
    del containers
    with pytest.raises(TargetUnavailable, match=r"has no image no/such:one: `docker pull`"):
        environment(Target.parse("no/such:one/docker/netdev"))


@contextmanager
def image(client: docker.APIClient, name: str, dockerfile: str) -> Iterator[str]:
    """An image that is built from the text of a Dockerfile, with nothing beside it."""
    text = BytesIO(dockerfile.encode())
    said = client.build(fileobj=text, tag=name, forcerm=True, network_mode="none", decode=True)
    assert not [line["error"] for line in said if "error" in line]
    try:
        yield name
    finally:
        # Containers of it are being removed just now.
        used = {"ancestor": name}
        eventually(
            lambda: [one["Names"] for one in client.containers(all=True, filters=used)],
            lambda left: not left,
            within=GONE,
            what=f"nothing uses {name} any more",
        )
        client.remove_image(name)


def test_the_machines_own_system_is_no_image_for_containers() -> None:
    """Nor is it looked for at the engine."""
    with pytest.raises(TargetUnavailable, match="image host"):
        environment(Target.parse("host/docker/netdev"))


def test_an_image_without_python(client: docker.APIClient) -> None:
    with (
        image(client, "ovs-harness-test/empty:1", "FROM scratch\nLABEL empty=1\n") as name,
        pytest.raises(TargetUnavailable, match="has no python3 .*, which the agent needs"),
    ):
        environment(Target.parse(f"{name}/docker/netdev"))


def test_an_image_without_open_vswitch(client: docker.APIClient, containers: Environment) -> None:
    """It is told, with where it was looked for."""
    text = f"FROM {reference(containers.image)}\nRUN rm -r /usr/share/openvswitch\n"
    with (
        image(client, "ovs-harness-test/none:1", text) as name,
        pytest.raises(TargetUnavailable, match="is none for a switch: .*no ovs-ctl in"),
    ):
        environment(Target.parse(f"{name}/docker/netdev"))


def test_an_image_of_somebody_elses(client: docker.APIClient, containers: Environment) -> None:
    """Built from ours, say, with something put in."""
    text = f"FROM {reference(containers.image)}\nRUN touch /etc/theirs\n"
    with image(client, "ovs-harness-test/theirs:1", text) as name:
        theirs = environment(Target.parse(f"{name}/docker/netdev"))
        assert theirs.image.version == containers.image.version
        with Lab(two_switches("containers-theirs"), theirs) as lab:
            assert lab.node("s1").exists("/etc/theirs")
            assert lab.probe("h1", to="h2").heard_at >= {"h2"}


def test_an_image_says_what_is_in_it_and_how_it_is(
    client: docker.APIClient, containers: Environment
) -> None:
    name = reference(containers.image)
    found = client.inspect_image(name)["Config"]["Labels"]
    assert found[engines.OVS] == containers.image.version
    assert "openvswitch-switch=" in found[engines.PACKAGES]
    config = client.create_host_config(
        cap_add=["NET_ADMIN", "NET_RAW", "SYS_NICE", "IPC_LOCK"], network_mode="none"
    )
    check = {"Interval": 10**9}
    made = client.create_container(name, host_config=config, healthcheck=check)["Id"]
    try:
        client.start(made)
        eventually(
            lambda: client.inspect_container(made)["State"]["Health"]["Status"],
            lambda status: status == "healthy",
            within=GONE,
            what="the switch is healthy",
        )
    finally:
        client.remove_container(made, force=True, v=True)


def test_an_image_is_built_of_a_base_and_a_tree(
    client: docker.APIClient, containers: Environment, tmp_path: Path
) -> None:
    """By the recipe that users edit. The base has all packages, for an engine of CI's has no
    network; and its labels, which are overridden."""
    if shutil.which("docker") is None:
        pytest.skip("containers/build runs the command docker, which is not installed")
    scripts = "usr/share/openvswitch/scripts"
    (tmp_path / scripts).mkdir(parents=True)
    (tmp_path / scripts / "ovs-lib").write_text("VERSION='9.9.9'\n")
    (tmp_path / "var/run/openvswitch").mkdir(parents=True)
    name = "ovs-harness-test/tree:1"
    script = Path(__file__).parents[1] / "containers/build"
    what = ["--base", reference(containers.image), "--tree", str(tmp_path), name]
    done = subprocess.run(
        [script, *what, "--network", "none"],
        env={**os.environ, "DOCKER_HOST": broker().engine.url},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith(f"{name}: Open vSwitch 9.9.9, Python 3.")
    try:
        found = client.inspect_image(name)["Config"]
        assert found["Labels"][engines.OVS] == "9.9.9"
        assert found["Healthcheck"]["Test"][0] == "CMD-SHELL"
    finally:
        client.remove_image(name)


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    alone = Broker()
    with pytest.raises(NodeError, match=r"nobody answers there .*: start it"):
        _ = alone.engine
    alone.close()
