"""flow_restore_wait, flow_restore_complete, restart: nothing is forwarded until the flows are back.

Source: ovs-vswitchd.conf.db(5), Open_vSwitch ``other_config:flow-restore-wait``; ovs-ctl(8), "The
restart command".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from harness import Lab, Topology
from harness.nodes.channel import Answer
from harness.ovs.options import Options
from harness.ovs.switch import Switch
from harness.polling import eventually

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

KEY = "flow-restore-wait"
FLOW = "cookie=0x7, priority=9,in_port=a actions=output:c"


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("restart")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure")
    for name in "abc":
        bridge.host(name)
    bridge.flow(FLOW.replace(" actions", ",actions"))
    return topo


@pytest.fixture
def switch(lab: Lab) -> Switch:
    return lab.switch("s1")


def settings(switch: Switch) -> dict[str, str]:
    (root,) = switch.db("Open_vSwitch", ["other_config"])
    found: dict[str, str] = root["other_config"]
    return found


def flows(switch: Switch) -> list[str]:
    said = switch.ofctl("--no-stats", "--names", "dump-flows", "br0")
    return [line.strip() for line in said.splitlines() if "actions=" in line]


# -- the key


def test_wait_and_complete_set_and_remove_one_key(switch: Switch, own_library: Library) -> None:
    switch.vsctl("set", "open_vswitch", ".", "other_config:other=1")
    assert own_library.run("flow_restore_wait").status == 0
    assert settings(switch) == {KEY: "true", "other": "1"}
    assert own_library.run("flow_restore_complete").status == 0
    assert settings(switch) == {"other": "1"}
    # It may have been removed by somebody else.
    assert own_library.run("flow_restore_complete").status == 0
    assert settings(switch) == {"other": "1"}


@pytest.mark.parametrize(("daemon", "waits"), [("yes", True), ("no", False), ("", True)])
def test_nobody_waits_when_only_the_database_restarts(
    switch: Switch, own_library: Library, daemon: str, waits: bool
) -> None:
    own_library.run(f"OVS_VSWITCHD={daemon}; flow_restore_wait")
    assert (KEY in settings(switch)) == waits
    own_library.run("OVS_VSWITCHD=no; flow_restore_complete")
    assert (KEY in settings(switch)) == waits


def test_nothing_is_forwarded_until_the_restore_is_complete(
    lab: Lab, switch: Switch, own_library: Library
) -> None:
    # No frame before: what is in the kernel's datapath stays there.
    switch.stop(Options(ovsdb_server=False))
    own_library.run("flow_restore_wait")
    switch.start(replace(switch.options, ovsdb_server=False))
    switch.ofctl("add-flow", "br0", FLOW.replace(" actions", ",actions"))
    assert flows(switch) == [FLOW]
    assert lab.probe("a", to="b").heard_at == set()
    own_library.run("flow_restore_complete")
    forwards(lab)


def forwards(lab: Lab) -> None:
    """Wait until frames go as the flow says: that the key has gone is seen a moment later."""
    eventually(
        lambda: lab.probe("a", to="b").heard_at,
        lambda heard: heard == {"c"},
        within=60,
        what="frames go as the flow says",
    )


# -- restart


def said(switch: Switch, *words: str) -> list[str]:
    """What ovs-ctl restart prints, without pids; the switch takes the new daemons for its own."""
    # Where the system does not say which version it is, ovs-ctl asks for it.
    options = replace(switch.options, system_version="1").words
    argv = [switch.layout.ovs_ctl, *options, *words, "restart"]
    done = switch.node.run(argv)
    switch.adopt()
    lines = [line.partition(" (")[0].rstrip(".") for line in done.stdout.splitlines()]
    return [line for line in lines if not line.startswith("Kernel has no")]


def test_order_of_a_restart(lab: Lab, switch: Switch) -> None:
    pids = switch.pid("ovsdb-server"), switch.pid()
    assert said(switch) == [
        "Saving flows",
        "Exiting ovsdb-server",
        "Starting ovsdb-server",
        "Configuring Open vSwitch system IDs",
        "Exiting ovs-vswitchd",
        "Starting ovs-vswitchd",
        "Restoring saved flows",
        "Enabling remote OVSDB managers",
    ]
    assert switch.pid("ovsdb-server") != pids[0]
    assert switch.pid() != pids[1]
    assert (flows(switch), settings(switch)) == ([FLOW], {})
    assert lab.probe("a", to="b").heard_at == {"c"}


def test_restart_that_deletes_bridges_saves_nothing(switch: Switch) -> None:
    lines = said(switch, "--delete-bridges")
    assert "Saving flows" not in lines
    assert "Restoring saved flows" not in lines
    assert lines[-1] == "Enabling remote OVSDB managers"
    assert (switch.vsctl("list-br"), settings(switch)) == ("", {})


@pytest.mark.parametrize("dead", ["ovsdb-server", "ovs-vswitchd"])
def test_restart_without_both_daemons_saves_nothing(switch: Switch, dead: str) -> None:
    """It asks one for the flows, and the other for the bridges."""
    only = Options(ovsdb_server=dead == "ovsdb-server", ovs_vswitchd=dead == "ovs-vswitchd")
    switch.stop(only)
    lines = said(switch)
    assert "Saving flows" not in lines
    assert "Restoring saved flows" not in lines
    assert f"{dead} is not running" in lines
    assert (flows(switch), settings(switch)) == ([], {})


@pytest.mark.parametrize(
    ("only", "left"), [("--no-ovs-vswitchd", "ovs-vswitchd"), ("--no-ovsdb-server", "ovsdb-server")]
)
def test_restart_of_one_daemon_leaves_the_other(switch: Switch, only: str, left: str) -> None:
    pids = {name: switch.pid(name) for name in ("ovsdb-server", "ovs-vswitchd")}
    lines = said(switch, only)
    assert f"Exiting {left}" not in lines
    after = {name: switch.pid(name) for name in pids}
    assert {name for name in pids if after[name] == pids[name]} == {left}
    assert (flows(switch), settings(switch)) == ([FLOW], {})


# -- a restart that does not come to its end


@pytest.fixture
def interrupted(lab: Lab, switch: Switch, own_library: Library) -> Library:
    """A restart that was killed while it restored the flows, with all that it had started but the
    daemons."""
    restart = begin_restart_that_stops(lab, own_library)
    lab.node("s1").end_followed(restart).result()
    own_library.shell("rm /usr/local/bin/ovs-ofctl")
    switch.adopt()
    return own_library


def begin_restart_that_stops(lab: Lab, library: Library) -> Answer:
    """Begin a restart whose ``ovs-ofctl`` never ends once it is to restore flows."""
    switch, reached = library.switch, f"{library.top}/reached"
    real = library.shell("command -v ovs-ofctl").strip()
    stop = f'case "$*" in *replace-flows*) touch {reached}; exec sleep 1000 ;; esac'
    code = f'#!/bin/sh\n{stop}\nexec {real} "$@"\n'
    library.node.write_file("/usr/local/bin/ovs-ofctl", code, mode=0o755)
    argv = [switch.layout.ovs_ctl, *switch.options.words, "restart"]
    restart = lab.node("s1").follow(argv, lambda _descriptor, _said: None)
    eventually(lambda: library.file(reached), lambda at: at == "", within=60, what="a restart")
    return restart


def test_interrupted_restart_forwards_nothing_until_somebody_helps(
    lab: Lab, switch: Switch, interrupted: Library
) -> None:
    assert settings(switch) == {KEY: "true"}
    switch.ofctl("add-flow", "br0", FLOW.replace(" actions", ",actions"))
    assert lab.probe("a", to="b").heard_at == set()
    interrupted.run("flow_restore_complete")
    forwards(lab)


def test_interrupted_restart_is_mended_by_another(
    lab: Lab, switch: Switch, interrupted: Library
) -> None:
    """The key is taken away at its end. The flows were lost with the first."""
    del interrupted
    switch.restart()
    assert (flows(switch), settings(switch)) == ([], {})
    switch.ofctl("add-flow", "br0", FLOW.replace(" actions", ",actions"))
    forwards(lab)


def test_interrupted_restart_is_not_mended_by_stop_and_start(
    lab: Lab, switch: Switch, interrupted: Library
) -> None:
    del interrupted
    switch.stop()
    switch.start()
    assert settings(switch) == {KEY: "true"}
    switch.ofctl("add-flow", "br0", FLOW.replace(" actions", ",actions"))
    assert lab.probe("a", to="b").heard_at == set()
