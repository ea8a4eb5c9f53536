"""ovs-check-dead-ifs: who still listens on interfaces that a reload of the module took away.

Source: ovs-check-dead-ifs, ``--help``. It is the last thing that ``force_reload_kmod`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

pytestmark = pytest.mark.requires("program:python3")

LISTEN = """
import socket, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as listener:
    listener.bind((sys.argv[1], 3))
    print("listens", flush=True)
    time.sleep(1000)
"""


def listen(library: Library, link: str) -> int:
    """Have a process listen on a new interface; its pid."""
    library.shell(f"ip link add {link} up type veth peer name {link}-far")
    said = f"{library.top}/{link}"
    pid = library.shell(f'python3 -c "$1" {link} > {said} 2>&1 & echo $!', LISTEN)
    eventually(
        lambda: library.file(said), lambda text: text == "listens\n", within=60, what="a listener"
    )
    return int(pid)


def listed(said: str) -> list[int]:
    """The processes that are named, as ps(1) does."""
    first = [line.split()[0] for line in said.splitlines() if line.strip()]
    return [int(word) for word in first if word.isdigit()]


def test_processes_that_listen_on_interfaces_that_are_gone(library: Library) -> None:
    check = [f"{library.scripts}/ovs-check-dead-ifs"]
    stays, goes = listen(library, "stays"), listen(library, "goes")
    assert library.node.run(check).stdout == ""
    library.shell("ip link del goes")
    said = library.node.run(check).stdout
    assert "listening for packets to arrive on network devices\nthat no longer exist" in said
    assert listed(said) == [goes]
    library.shell("ip link del stays")
    assert sorted(listed(library.node.run(check).stdout)) == sorted([stays, goes])
    library.shell('kill "$@"', str(stays), str(goes))


def test_arguments_are_refused(library: Library) -> None:
    check = f"{library.scripts}/ovs-check-dead-ifs"
    done = library.node.run([check, "br0"], check=False)
    assert (done.status, done.stdout) == (1, "")
    assert "no arguments or options accepted" in done.stderr
