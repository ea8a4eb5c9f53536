"""Nodes on remote machines: real ssh and sshd, and what goes wrong between them."""

from __future__ import annotations

import ast
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.images.image import OWN_DIRECTORIES, OWN_LINKS
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.ssh import client, there
from harness.nodes.ssh.client import Order, SshNode, Starting
from harness.nodes.ssh.words import explained

from .sshd import Machines, after, below

ORDER = Order(OWN_DIRECTORIES, OWN_LINKS, {"/usr/local/sbin/own": "#!/bin/sh\necho own\n"})
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"
POWERLESS = "setpriv --bounding-set=-all --inh-caps=-all"

Start = Callable[[str], SshNode]


@pytest.fixture
def start(remotes: Machines) -> Iterator[Start]:
    """Starts nodes that end with the test."""
    del remotes
    with ExitStack() as nodes:

        def start(machine: str) -> SshNode:
            node = Starting("n1", machine, ORDER).result()
            nodes.callback(node.wait)
            nodes.callback(node.close)
            return node

        yield start


@pytest.mark.parametrize("name", sorted(client.modules()))
def test_what_is_sent_needs_nothing_but_the_standard_library(name: str) -> None:
    """And what is sent with it; and it is written as Python 3.9 reads it."""
    sent = {path.removesuffix(".py").replace("/", ".") for path in client.modules()}
    tree = ast.parse(client.modules()[name], feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = str(node.module)
            names = {module, *(f"{module}.{alias.name}" for alias in node.names)}
            assert module.partition(".")[0] in sys.stdlib_module_names or names & sent


def test_a_node_is_a_sandbox_with_the_machines_own_system(start: Start) -> None:
    node = start("root@hv1")
    assert node.run(["hostname"]).stdout == "n1\n"
    assert node.run(["own"]).stdout == "own\n"
    assert node.run(["ls", "/sys/class/net"]).stdout == "lo\n"
    assert node.run(["ls", "/var/lib/openvswitch", "/var/log/openvswitch"]).status == 0
    assert node.read_file("/proc/1/comm").startswith(b"python3")
    node.write_file("/usr/own", "x")
    node.write_file("/etc/own", "x")


def test_programs_in_a_node_have_nothing_of_ours_open(start: Start) -> None:
    assert start("hv1").run(["ls", "/proc/self/fd"]).stdout.split() == ["0", "1", "2", "3"]


def test_what_a_node_writes_stays_its_own(start: Start, remotes: Machines) -> None:
    node, other = start("hv1"), start("hv1")
    for path in ("/etc/own", "/usr/own", "/tmp/own", "/root/own", "/var/log/openvswitch/own"):
        node.write_file(path, "x")
        assert not remotes.nodes["hv1"].exists(path)
        assert not other.exists(path)


def test_root_is_not_needed(start: Start, remotes: Machines) -> None:
    remotes.answer("hv-nobody", "hv1", NOBODY)
    node = start("hv-nobody")
    assert node.run(["id", "-u"]).stdout == "0\n"
    node.write_file("/etc/own", "x")
    with pytest.raises(NodeError, match="which only root can make: log in as root"):
        node.find_places(1).result()


def test_places_for_ends_of_underlays(start: Start) -> None:
    found = start("hv2").find_places(20).result()
    assert found["address"] == "192.0.2.2"
    assert len(set(found["ports"])) == 20


@pytest.mark.parametrize(
    ("connection", "addresses", "expected"),
    [
        ("10.0.0.9 50000 10.0.0.1 22", ["127.0.0.1", "192.0.2.1"], "10.0.0.1"),
        ("127.0.0.1 50000 127.0.0.1 22", ["127.0.0.1", "192.0.2.1"], "192.0.2.1"),
        ("fe80::9 50000 fe80::1 22", ["127.0.0.1", "169.254.0.1", "192.0.2.1"], "192.0.2.1"),
        ("UNKNOWN 65535 UNKNOWN 65535", ["192.0.2.1", "192.0.2.2"], "192.0.2.1"),
        ("", ["127.0.0.1"], "127.0.0.1"),
        ("", [], "127.0.0.1"),
    ],
)
def test_the_address_by_which_others_reach_a_machine(
    connection: str, addresses: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [("eth0", socket.inet_aton(address)) for address in addresses]
    monkeypatch.setattr(there, "ipv4_addresses", lambda: found)
    assert there.own_address(connection) == expected


# -- the end


def test_nothing_is_left_of_a_node(remotes: Machines) -> None:
    node = Starting("n1", "hv1", ORDER).result()
    node.run(["sh", "-c", "setsid sleep 86397 & exit 0"])
    process = node.process
    node.close()
    node.wait()
    assert not Path(f"/proc/{process}").exists()
    remotes.be_untouched()


@pytest.mark.parametrize("who", ["ssh", "sshd"])
def test_a_connection_that_is_cut(start: Start, remotes: Machines, who: str) -> None:
    node = start("hv1")
    ended: list[bool] = []
    node.on_end(lambda: ended.append(True))
    victims = [node.process] if who == "ssh" else below(node.process, "sshd")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    said = "ssh to hv1 was ended by SIGKILL" if who == "ssh" else "hv1: "
    with pytest.raises(NodeLost, match=said):
        node.run(["sleep", "60"])
    assert ended == [True]
    remotes.be_untouched()


def test_a_machine_that_does_not_answer_any_more(
    start: Start, stopped: Callable[[int], None]
) -> None:
    node = start("hv1")
    for pid in below(node.process, "sshd"):
        stopped(pid)
    with pytest.raises(NodeLost, match=r"hv1: Timeout, server hv1 not responding\."):
        node.run(["true"])


def test_an_agent_that_has_stopped_ends_with_its_stream(remotes: Machines) -> None:
    node = Starting("n1", "hv1", ORDER).result()
    node.run(["sh", "-c", "setsid sleep 86396 & exit 0"])
    # The first process of a PID namespace can't be stopped from inside.
    (agent,) = [pid for pid in below(node.process, "python3") if not below(pid, "python3")]
    os.kill(agent, signal.SIGSTOP)
    node.close()
    node.wait()
    remotes.be_untouched()


# -- what goes wrong at the beginning

LACKING = {
    "no python3": (after("PATH=/nowhere"), "it has no python3 (3.9 or"),
    "no namespaces": (POWERLESS, "this user may make no sandbox there (no namespaces: unshare: Op"),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_machine_that_lacks_something(start: Start, remotes: Machines, lacking: str) -> None:
    within, said = LACKING[lacking]
    remotes.answer("hv-lacking", "hv1", within)
    with pytest.raises(NodeError) as caught:
        start("hv-lacking")
    assert f"hv-lacking: {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shell_that_prints_something_by_itself(start: Start, remotes: Machines) -> None:
    remotes.answer("hv-loud", "hv1", after("echo Welcome to hv1"))
    with pytest.raises(
        NodeError, match=r"hv-loud: what came .*b'Welcome to hv1\\n'; does a start-up"
    ):
        start("hv-loud")
    remotes.be_untouched()


def test_nobody_answers(start: Start) -> None:
    with pytest.raises(NodeError, match=r"^nobody: .*Connection refused: no ssh server answers"):
        start("nobody")


def test_a_name_that_nobody_has(start: Start) -> None:
    with pytest.raises(NodeError, match=r"^nowhere: .*Could not resolve hostname.*is the name"):
        start("nowhere")


def test_a_host_key_that_nobody_knows(start: Start, remotes: Machines) -> None:
    known = remotes.place / "known"
    text = known.read_text()
    known.write_text("")
    try:
        with pytest.raises(NodeError, match="^hv1: its host key is not known here: log in once"):
            start("hv1")
    finally:
        known.write_text(text)


def test_no_key(start: Start, remotes: Machines) -> None:
    (remotes.place / "hv-strict.conf").write_text(
        (remotes.place / "hv1.conf").read_text().replace("/key.pub", "/none.pub")
    )
    with (remotes.place / "known").open("a") as known:
        known.write(f"hv-strict {(remotes.place / 'host.pub').read_text()}")
    with pytest.raises(NodeError, match=r"me@hv-strict: .*Permission denied.*ssh-copy-id me@hv-st"):
        start("me@hv-strict")


def test_no_ssh(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NodeError, match="hv1 is reached by ssh, which is not installed here"):
        start("hv1")


def test_what_ssh_is_started_with_is_missing(
    start: Start, remotes: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(remotes.bin))
    with pytest.raises(NodeError, match="cannot start setpriv for hv1: No such file or directory"):
        start("hv1")


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        (
            "Warning: x\nssh: connect to host hv1 port 22: No route to host\n",
            255,
            "root@hv1: ssh: connect to host hv1 port 22: No route to host: is the machine up, and "
            "is there a firewall in between?",
        ),
        (
            "Connection timed out during banner exchange",
            255,
            "root@hv1: Connection timed out during banner exchange: is the machine up, and is "
            "there a firewall in between?",
        ),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            255,
            "root@hv1: its host key is not the one that is known: if it may be another, "
            "`ssh-keygen -R hv1`",
        ),
        ("", 127, "root@hv1: there is no python3 (3.9 or later), which the agent needs"),
        ("", 1, "root@hv1: the ssh to it ended with status 1"),
        ("Welcome\n\nwhatever else\n", 1, "root@hv1: whatever else"),
        (
            "its python3 is 3.7, and the agent needs 3.9 or later",
            1,
            "root@hv1: its python3 is 3.7, and the agent needs 3.9 or later",
        ),
    ],
)
def test_words(said: str, status: int, expected: str) -> None:
    assert explained("root@hv1", said, status) == expected


def test_how_to_log_in_at_another_port() -> None:
    said = explained("me@hv1:2222", "Host key verification failed.", 255)
    assert said.endswith("`ssh ssh://me@hv1:2222`")
