"""internal_interfaces, ovs_save, restore_flows, save_interfaces, restore_interfaces: what is put
aside before the daemons stop, and put back.

Source: ovs-lib, the comments in ``internal_interfaces``; ovs-ctl(8), "The restart command", "The
force-reload-kmod command".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import Lab, Topology
from harness.ovs import Options

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

FLOW = "cookie=0x5, hard_timeout=9000, priority=7,ip actions=drop"


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("saving")
    switch = topo.switch("s1")
    br0, br1 = switch.bridge("br0"), switch.bridge("br1", addresses=["192.0.2.1/24"])
    br0.patch(br1)
    br0.internal("in0")
    br0.host("h1")
    br0.flow(FLOW.replace(" actions", ",actions"))
    return topo


# -- internal_interfaces


def test_internal_interfaces_are_bridges_and_internal_ports(library: Library) -> None:
    done = library.run("internal_interfaces")
    assert done.stdout.split() == ["br0", "br1", "in0"]


def test_internal_interfaces_of_fake_bridges(library: Library) -> None:
    library.switch.vsctl("add-br", "fake9", "br0", "9")
    assert library.run("internal_interfaces").stdout.split() == ["br0", "br1", "fake9", "in0"]
    library.switch.vsctl("del-br", "fake9")
    assert library.run("internal_interfaces").stdout.split() == ["br0", "br1", "in0"]


def test_internal_interfaces_that_are_not_there_are_left_out(
    lab: Lab, own_library: Library
) -> None:
    """One has gone, another was never made."""
    assert own_library.run("internal_interfaces").stdout.split() == ["br0", "br1", "in0"]
    lab.switch("s1").stop(Options(ovsdb_server=False))
    code = "ovs-vsctl --no-wait add-port br0 in1 -- set interface in1 type=internal"
    own_library.shell(code)
    # One of the kernel's datapath goes by way of that only.
    own_library.shell("ip link del br1 2> /dev/null || ovs-dpctl del-if ovs-system br1")
    assert own_library.run("internal_interfaces").stdout.split() == ["br0", "in0"]


# -- flows


def flows(library: Library) -> list[str]:
    said = library.switch.ofctl("--no-stats", "dump-flows", "br0")
    return [line.strip() for line in said.splitlines() if "actions=" in line]


def test_flows_are_saved_as_a_script_that_restores_them(library: Library) -> None:
    before = flows(library)
    assert FLOW in before
    script = f"{library.top}/flows"
    assert library.run('ovs_save save-flows "$1"', script).status == 0
    library.switch.ofctl("del-flows", "br0")
    restored = library.run("script_flows=$1; restore_flows", script)
    assert (restored.status, restored.stdout) == (0, "Restoring saved flows.\n")
    assert flows(library) == before


def test_nothing_is_saved_without_bridges(library: Library) -> None:
    script = f"{library.top}/flows"
    without = "ovs_vsctl () { :; }\n"
    assert library.run(without + 'ovs_save save-flows "$1"', script).status == 0
    assert library.file(script) is None
    assert library.run('ovs_save save-flows "$1"', script).status == 0
    assert "replace-flows br0" in (library.file(script) or "")


def test_saving_that_fails_leaves_nothing_to_be_run(library: Library) -> None:
    library.node.run(["mkdir", "-p", f"{library.top}/data/scripts"])
    library.node.write_file(f"{library.top}/data/scripts/ovs-save", "#!/bin/sh\nexit 1\n", 0o755)
    library.env["OVS_PKGDATADIR"] = f"{library.top}/data"
    script = f"{library.top}/flows"
    save = "script_flows=$1; save_flows_if_required; echo $?; restore_flows; echo $?"
    said = library.run(save, script).stdout.splitlines()
    assert said == ["Saving flows ... failed!", "1", "1"]


@pytest.mark.parametrize(("delete", "said"), [("no", ["Saving flows."]), ("yes", [])])
def test_flows_of_bridges_that_will_go_are_not_saved(
    library: Library, delete: str, said: list[str]
) -> None:
    script = f"{library.top}/flows"
    code = f"DELETE_BRIDGES={delete}; script_flows=$1; save_flows_if_required"
    assert library.run(code, script).stdout.splitlines() == said
    assert (library.file(script) is not None) == (delete == "no")


def test_scripts_go_with_whoever_made_them(library: Library) -> None:
    code = 'init_restore_scripts; ls "$script_flows" "$script_interfaces"'
    made = library.run(code).stdout.split()
    assert len(set(made)) == 2
    assert [library.file(path) for path in made] == [None, None]


# -- interfaces

LOOK = "ip -o address show dev in0; ip link show dev in0; ip route show dev in0"


@pytest.fixture
def saved(library: Library) -> Library:
    """An internal port with an address, a route, an MTU and a MAC address of its own, saved."""
    library.shell(
        "ip link set in0 address 02:00:00:00:00:77 mtu 1400 up;"
        "ip address replace 198.51.100.1/24 dev in0; ip route replace 203.0.113.0/24 dev in0"
    )
    save = 'ifaces=in0; script_interfaces=$1; save_interfaces && chmod +x "$1"'
    assert library.run(save, f"{library.top}/interfaces").status == 0
    return library


def test_interface_is_restored(saved: Library) -> None:
    before = saved.shell(LOOK)
    assert "203.0.113.0/24" in before
    saved.shell("ip address flush dev in0; ip link set in0 down mtu 1500")
    assert saved.shell(LOOK) != before
    done = saved.run("script_interfaces=$1; restore_interfaces", f"{saved.top}/interfaces")
    assert (done.status, done.stdout) == (0, "Restoring interface configuration.\n")
    assert saved.shell(LOOK) == before


def test_interfaces_that_were_not_saved_are_not_restored(library: Library) -> None:
    path = f"{library.top}/interfaces"
    library.node.write_file(path, f"echo ran > {library.top}/ran\n")
    code = 'script_interfaces=$1; restore_interfaces; echo $?; chmod +x "$1"; restore_interfaces'
    said = library.run(code, path).stdout.splitlines()
    assert said == ["0", "Restoring interface configuration."]
    assert library.file(f"{library.top}/ran") == "ran\n"


@pytest.mark.parametrize(("status", "level"), [(0, "debug"), (3, "err")])
def test_script_and_its_status_go_to_the_system_log(
    library: Library, status: int, level: str
) -> None:
    library.program(
        "logger", f'echo "$@" >> {library.top}/logged; cat "$6" >> {library.top}/logged'
    )
    path = f"{library.top}/interfaces"
    library.node.write_file(path, f"#!/bin/sh\nexit {status}\n", mode=0o755)
    library.run("script_interfaces=$1; restore_interfaces", path)
    assert library.node.read_file(f"{library.top}/logged").decode().splitlines() == [
        f"-p daemon.{level} -t ovs-save interface restore script exited with status {status}:",
        f"-p daemon.{level} -t ovs-save -f {path}",
        "#!/bin/sh",
        f"exit {status}",
    ]


def test_saving_no_interfaces_is_no_failure(library: Library) -> None:
    code = "script_interfaces=$1; save_interfaces; echo $?; ifaces=in0; save_interfaces"
    assert library.run(code, f"{library.top}/interfaces").stdout == "0\n"
    assert "in0" in library.node.read_file(f"{library.top}/interfaces").decode()
