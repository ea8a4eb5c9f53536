"""A developer's own installation, laid over an image, on machines with the image's kernel."""

from __future__ import annotations

import shutil

import pytest

from harness import images
from harness.faults import PowerCut, Upgrade
from harness.lab import Lab
from harness.lab.environment import Environment, environment
from harness.lab.target import Target
from harness.topology import Topology

SCRIPTS = "usr/share/openvswitch/scripts"
VERSION = "3.5.90"
LOCAL = "/usr/local/etc /usr/local/var"
"""Where what was installed in /usr/local has its database and its logs."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Open vSwitch's scripts, with a version of our own, and its daemon: the image's. As `make
    install` does, it makes a directory of what is a link in the image."""
    (base,) = images.resolve("trixie").lower
    tree = tmp_path_factory.mktemp("installation")
    shutil.copytree(base / SCRIPTS, tree / SCRIPTS)
    library = tree / SCRIPTS / "ovs-lib"
    library.write_text(library.read_text().replace("VERSION='3.5.0'", f"VERSION='{VERSION}'"))
    (tree / "usr/sbin").mkdir()
    (tree / "usr/sbin/ovs-vswitchd").symlink_to("/usr/lib/openvswitch-switch/ovs-vswitchd")
    (tree / "var/run/openvswitch").mkdir(parents=True)
    (tree / "usr/local/var").mkdir(parents=True)
    return f"prefix:{tree}@trixie"


@pytest.fixture(scope="module")
def machines_of_our_own(machines: Environment, installation: str) -> Environment:
    del machines  # it says what lacks where machines can't run
    return environment(Target.parse(f"{installation}/vm/kernel"))


def network() -> Topology:
    topo = Topology("own")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("a")
    bridge.host("b")
    return topo


def version(lab: Lab) -> str:
    library = lab.node("s1").read_file(f"/{SCRIPTS}/ovs-lib").decode()
    return next(line for line in library.splitlines() if line.startswith("VERSION="))


def test_it_runs_on_a_machine_and_is_there_after_a_power_cut(
    machines_of_our_own: Environment,
) -> None:
    assert machines_of_our_own.image.version == VERSION
    with Lab(network(), machines_of_our_own, seed=1) as lab:
        assert version(lab) == f"VERSION='{VERSION}'"
        assert lab.node("s1").run(["readlink", "/var/run"]).stdout == "/run\n"
        assert lab.probe("a").heard_at == {"b"}
        node = lab.node("s1")
        node.run(["sh", "-c", f"for d in {LOCAL}; do echo kept >$d/kept; done; sync"])
        with lab.fault(PowerCut("s1")):
            pass
        kept = node.run(["sh", "-c", f"for d in {LOCAL}; do cat $d/kept; done"]).stdout
        assert kept == "kept\n" * 2
        assert version(lab) == f"VERSION='{VERSION}'"
        assert lab.probe("a").heard_at == {"b"}
        lab.verify()


def test_a_machine_can_be_upgraded_to_it(machines: Environment, installation: str) -> None:
    with Lab(network(), machines, seed=1) as lab:
        state = lab.switch("s1").state()
        with lab.fault(Upgrade("s1", installation)):
            assert version(lab) == f"VERSION='{VERSION}'"
            assert lab.node("s1").run(["readlink", "/var/run"]).stdout == "/run\n"
            assert lab.switch("s1").state() == state
            assert lab.probe("a").heard_at == {"b"}
        assert version(lab) == "VERSION='3.5.0'"
        lab.verify()
