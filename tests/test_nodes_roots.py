"""A node gets another root while it runs: all but what it is to keep is that of the new one, and
what runs goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab.environment import Environment
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.polling import eventually
from tests.test_nodes_machine import as_nobody, environment, interpreter

MINE = {"/usr/local/sbin/mine": "#!/bin/sh\necho mine\n"}


@pytest.fixture
def node(fabric: Fabric, ready: Environment) -> Iterator[NamespaceNode]:
    made = fabric.start_node("n1", ready.image.lower, MINE)
    yield made
    made.close()


@pytest.fixture
def lower(ready: Environment, tmp_path: Path) -> tuple[Path, ...]:
    """The image with a layer of its own on it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/debian_version").write_text("the other\n")
    return (tmp_path, *ready.image.lower)


def said(node: NamespaceNode, *argv: str) -> str:
    return node.run(argv).stdout


def test_the_new_root_is_all_that_there_is(
    node: NamespaceNode, lower: tuple[Path, ...], ready: Environment
) -> None:
    before = said(node, "cat", "/etc/debian_version")
    node.write_file("/root/mine", "mine")
    node.change_root(lower, [])
    assert said(node, "cat", "/etc/debian_version") == "the other\n" != before
    assert not node.exists("/root/mine")
    roots = said(node, "ls", "-A", "/").split()
    assert {"proc", "sys", "dev", "run", "tmp", "usr"} <= set(roots)
    assert not [name for name in roots if name.startswith(".")]
    places = [line.split()[4] for line in said(node, "cat", "/proc/self/mountinfo").splitlines()]
    assert len(set(places)) == len(places)
    assert said(node, "/usr/local/sbin/mine") == "mine\n"
    node.write_file("/root/other", "can be written")
    node.change_root(ready.image.lower, [])
    assert said(node, "cat", "/etc/debian_version") == before
    assert not node.exists("/root/other")


def test_what_is_kept_and_what_is_mounted_stays(
    node: NamespaceNode, lower: tuple[Path, ...]
) -> None:
    for path in ("/etc/kept/file", "/run/file", "/tmp/file", "/dev/shm/file"):
        node.run(["mkdir", "-p", str(Path(path).parent)])
        node.write_file(path, "kept")
    node.run(["mkdir", "-p", "/var/kept"])
    node.run(["mount", "-t", "tmpfs", "small", "/var/kept"])
    node.write_file("/var/kept/file", "kept")
    for _ in range(8):
        node.change_root(lower, ["/etc/kept", "/var/kept", "/var/run/sub"])
    for path in ("/etc/kept/file", "/var/kept/file", "/run/file", "/tmp/file", "/dev/shm/file"):
        assert node.read_file(path) == b"kept", path
    node.run(["umount", "/var/kept"])
    assert said(node, "ls", "/var/kept") == ""
    assert said(node, "sh", "-c", "echo here > /dev/null && ls /proc/self/ns/net")


def test_what_runs_goes_on(node: NamespaceNode, lower: tuple[Path, ...]) -> None:
    code = """
        exec >> /var/log/kept/log
        cd /
        echo began
        read line < /run/fifo
        cat /etc/debian_version
    """
    node.run(["mkdir", "/var/log/kept"])
    node.run(["mkfifo", "/run/fifo"])
    running = node.run_soon(["sh", "-c", code])
    log = ["/var/log/kept/log"]
    eventually(lambda: node.read_files(log)[0], within=60, what="it has begun")
    node.change_root(lower, ["/var/log/kept"])
    node.run(["sh", "-c", "echo > /run/fifo"])
    assert running.result().status == 0
    # It writes to the file that it has open, and finds others where it now is.
    assert node.read_file(*log) == b"began\nthe other\n"


def test_what_cannot_be_leaves_the_root_as_it_was(node: NamespaceNode, tmp_path: Path) -> None:
    node.write_file("/root/mine", "mine")
    before = said(node, "cat", "/proc/self/mountinfo")
    with pytest.raises(NodeError, match=rf"open_tree {tmp_path}/missing: No such file"):
        node.change_root([tmp_path / "missing"], [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NodeError, match=r"mount  on /\.root-\w+/root/nowhere: No such file"):
        node.change_root([tmp_path / "empty"], ["/nowhere"])
    assert node.read_file("/root/mine") == b"mine"
    assert said(node, "cat", "/proc/self/mountinfo") == before
    assert not [name for name in said(node, "ls", "-A", "/").split() if name.startswith(".")]


SCRIPT = """
import json, sys
from pathlib import Path
from harness.nodes.namespace import Fabric

top, other = map(Path, sys.argv[1:])
fabric = Fabric()
node = fabric.start_node("n1", [top, Path("/")])
node.write_file("/own/file", "kept")
node.change_root([other], ["/own"])
found = node.read_files(["/marker", "/own/file", "/etc/passwd", "/proc/1/comm"])
print(json.dumps([content is not None for content in found]))
node.close()
fabric.close()
"""


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_it_takes_no_privilege(user: bool) -> None:
    before = as_nobody() if user else []
    if not user and os.geteuid() != 0:
        pytest.skip("needs root")
    # Not below pytest's own directory, which only the user that runs it may enter.
    place = Path(f"/var/tmp/roots-{os.getpid()}")
    try:
        (place / "top/own").mkdir(parents=True)
        (place / "other").mkdir()
        (place / "other/marker").touch()
        done = subprocess.run(
            [*before, interpreter(before), "-c", SCRIPT, f"{place}/top", f"{place}/other"],
            cwd="/",
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        shutil.rmtree(place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True, False, True]
