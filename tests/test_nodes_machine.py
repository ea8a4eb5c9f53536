"""Nodes on the machine's own root: its programs are seen, its data is not, and neither is changed;
as root, as an ordinary user, and where file systems are mounted below the system directories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.nodes.machine import mount_points, own_places

NOBODY = 65534

SCRIPT = """
import json, sys
from contextlib import closing
from harness.nodes.namespace import Fabric
layer, taken = sys.argv[1:]
with closing(Fabric()) as fabric:
    node = fabric.start_node("n1", [layer, "/"], {"/usr/local/sbin/modprobe": "mine"})
    def sh(script):
        done = node.run(["sh", "-c", script], check=False)
        return done.stdout + done.stderr
    print(json.dumps({
        "root": sh("ls -A /").split(),
        "empty": sh(f"find {taken} /own /run /tmp /var -mindepth 1").split(),
        "written": sh(f"echo x >{taken}/f; echo y >/own/a/f; cat {taken}/f /own/a/f").split(),
        "modprobe": node.read_file("/usr/local/sbin/modprobe").decode(),
        "hosts": node.read_file("/etc/hosts").decode(),
        "passwd": node.read_file("/etc/passwd").decode(),
        "link": sh("readlink /own/link").strip(),
        "mounted": sh("cat /etc/ovs-harness-mounted 2>/dev/null"),
    }))
"""


def test_mount_points_are_read_with_their_escapes() -> None:
    text = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "23 22 0:5 / /mnt/a\\040b\\134c rw - tmpfs none rw\n"
        "24 22 0:5 / /mnt/ü rw - tmpfs none rw\n"
    )
    assert mount_points(text) == {"/", "/mnt/a b\\c", "/mnt/ü"}
    assert mount_points("") == set()


def test_the_empty_directories_and_links_of_a_layer_are_a_node_s_own(tmp_path: Path) -> None:
    for place in ("etc/one", "var/a/b", "linked"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "linked/dir").symlink_to("/etc")
    directories, links = own_places(str(tmp_path))
    assert sorted(directories) == ["etc/one", "var/a/b"]
    assert links == {"var/run": "/run", "linked/dir": "/etc"}


def test_an_empty_layer_has_nothing(tmp_path: Path) -> None:
    assert own_places(str(tmp_path)) == ([], {})


@pytest.fixture(scope="module")
def taken() -> str:
    """A directory of the machine's that holds something, and that the node has for itself."""
    for path in sorted(Path("/etc").iterdir()):
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            return str(path)
    pytest.skip("there is no directory in /etc that holds anything")


@pytest.fixture
def layer(taken: str) -> Iterator[Path]:
    # Not below pytest's own directory, which only the user that runs it may enter.
    top = Path(f"/var/tmp/machine-layer-{os.getpid()}")
    for place in (taken, "/own/a", "/var/lib"):
        (top / place[1:]).mkdir(parents=True)
    (top / "own/link").symlink_to("/etc")
    yield top
    shutil.rmtree(top)


def as_nobody() -> list[str]:
    """How an ordinary user is become; skips where that can't be."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv here: `sudo apt-get install util-linux`")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


def environment() -> dict[str, str]:
    modules = os.pathsep.join(path for path in sys.path if path and Path(path).is_dir())
    return {"PATH": os.environ["PATH"], "PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1"}


def interpreter(before: Sequence[str]) -> str:
    """This interpreter, or the system's of the same version, where the user may run it."""
    # setpriv itself may still do what root may: what counts is a program that the user starts.
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    found = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    for candidate in found:
        argv = [*before, candidate, "-c", f"{again}; import harness.nodes.namespace"]
        if subprocess.run(argv, cwd="/", env=environment(), capture_output=True).returncode == 0:
            return candidate
    pytest.skip(f"an ordinary user can run the harness with none of {', '.join(found)}")


def what_a_node_sees(before: Sequence[str], layer: Path, taken: str) -> dict[str, Any]:
    done = subprocess.run(
        [*before, interpreter(before), "-c", SCRIPT, str(layer), taken],
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(params=["root", "user", "root, mounts below", "user, mounts below"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """What is put before a command so that it runs as a user, or with a file system in /etc."""
    found = as_nobody() if request.param.startswith("user") else []
    if request.param.startswith("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param.endswith("mounts below"):
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount something in /etc")
        # A container has files such as /etc/resolv.conf mounted from outside.
        (tmp_path / "mounted").write_text("from outside\n")
        place = "/etc/ovs-harness-mounted"
        script = f"""
            set -e
            cd {tmp_path}
            mount -t tmpfs all /mnt
            mkdir /mnt/upper /mnt/work
            mount -t overlay all -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
            touch {place}
            mount --bind mounted {place}
            exec "$@"
        """
        found = ["unshare", "--mount", "sh", "-c", script, "sh", *found]
    return found


def test_a_node_sees_the_machine_s_programs_and_none_of_its_data(
    before: list[str], layer: Path, taken: str
) -> None:
    inside = {path: sorted(path.iterdir()) for path in (Path(taken), Path("/usr/local/sbin"))}
    hosts, passwd = Path("/etc/hosts").read_bytes(), Path("/etc/passwd").read_text()
    seen = what_a_node_sees(before, layer, taken)
    assert {"home", "root", "srv", "mnt", "boot"}.isdisjoint(seen["root"])
    assert {"bin", "etc", "own", "proc", "run", "sys", "tmp", "usr"} <= set(seen["root"])
    assert sorted(seen["empty"]) == ["/own/a", "/own/link", "/var/lib"]
    assert seen["written"] == ["x", "y"]
    assert seen["modprobe"] == "mine"
    assert seen["hosts"] == "127.0.0.1 localhost\n127.0.1.1 n1\n"
    assert seen["passwd"] == passwd
    assert seen["link"] == "/etc"
    assert seen["mounted"] == ("from outside\n" if "unshare" in before else "")
    # Nothing of it has come out.
    assert {path: sorted(path.iterdir()) for path in inside} == inside
    assert Path("/etc/hosts").read_bytes() == hosts
    assert not Path("/own").exists()
