"""Nodes as hosts of testinfra: of a lab of ours, and of one that `ovs-harness up` keeps up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.lab import Lab
from harness.topology import Topology

from .conftest import MakeLab

RunPytest = Callable[..., subprocess.CompletedProcess[str]]
TOPOLOGY = """
name: infra
switches:
- name: s1
  bridges:
  - name: br0
    addresses: [192.0.2.1/24]
    ports: [{kind: host, name: h1, addresses: [192.0.2.2/24]}]
"""
CHECKS = """
def test_of_a_switch_or_a_host(host):
    own = "br0" if host.interface("br0").exists else "eth0"
    (address,) = host.interface(own).addresses
    print("address", host.backend.get_pytest_id(), address)
    assert host.file("/bin/sh").exists
    assert host.run("exit %s", "7").rc == 7
"""


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    topology = Topology("infra")
    topology.switch("s1").bridge("br0", addresses=["192.0.2.1/24"])
    return make_lab(topology)


def test_what_a_command_writes_arrives_as_it_was_written(lab: Lab) -> None:
    host = lab.switch("s1").host
    node = lab.node("s1")
    assert host.file("/bin/true").content == node.read_file("/bin/true")
    node.write_file("/root/a file; with 'odd' $name", "grün")
    assert host.file("/root/a file; with 'odd' $name").content_string == "grün"


def test_a_command_that_fails(lab: Lab) -> None:
    done = lab.switch("s1").host.run("echo out; echo %s >&2; exit 3", "err; $HOME")
    assert (done.rc, done.stdout, done.stderr) == (3, "out\n", "err; $HOME\n")


def test_its_commands_are_among_those_of_the_node(lab: Lab) -> None:
    lab.switch("s1").host.run("echo it was run")
    assert lab.commands[-1].argv == ("/bin/sh", "-c", "echo it was run")


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lab that is up, in a runtime directory of its own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    tool = [sys.executable, "-P", "-m", "harness.cli"]
    subprocess.run([*tool, "up", str(tmp_path / "topology.yaml")], check=True, timeout=120)
    yield
    subprocess.run([*tool, "down"], check=True, timeout=60)


@pytest.mark.usefixtures("ready", "up")
@pytest.mark.parametrize("lab_name", ["", "@infra"], ids=["the only lab", "a lab by its name"])
def test_a_lab_that_is_up_is_checked_from_the_command_line(
    tmp_path: Path, run_pytest: RunPytest, lab_name: str
) -> None:
    (tmp_path / "test_x.py").write_text(CHECKS)
    hosts = f"--hosts=agent://s1{lab_name},agent://h1{lab_name}"
    done = run_pytest(tmp_path, "-rP", hosts)
    assert "2 passed" in done.stdout
    assert f"address agent://s1{lab_name} 192.0.2.1\n" in done.stdout
    assert f"address agent://h1{lab_name} 192.0.2.2\n" in done.stdout


@pytest.mark.usefixtures("ready", "up")
def test_a_place_that_there_is_not(tmp_path: Path, run_pytest: RunPytest) -> None:
    (tmp_path / "test_x.py").write_text(CHECKS)
    done = run_pytest(tmp_path, "--hosts=agent://s9")
    assert "1 failed" in done.stdout
    assert "LiveError" in done.stdout
    assert "s9" in done.stdout


def test_no_lab_is_up(
    tmp_path: Path, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "test_x.py").write_text(CHECKS)
    done = run_pytest(tmp_path, "--hosts=agent://s1")
    assert "no lab is up: `ovs-harness up TOPOLOGY.yaml` builds one" in done.stdout
