"""A lab whose switches are virtual machines: what is different from one made of namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.faults import BadLink, PowerCut
from harness.lab import Lab, LabError, bundle
from harness.lab.environment import Environment
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.impairment import Impairment
from harness.polling import eventually
from harness.topology import Topology

SWITCHES = ("s1", "s2", "s3")


@pytest.fixture(scope="module")
def lab(machines: Environment) -> Iterator[Lab]:
    """Three switches on a hub, two of them joined by a wire as well, each with a host on either."""
    topo = Topology("machines")
    hub, wire = topo.underlay("hub"), topo.underlay("wire")
    for name in SWITCHES:
        switch = topo.switch(name)
        on_hub = switch.bridge("br-hub")
        on_hub.uplink(hub, name="to-hub")
        on_hub.host(f"hub-{name}")
        if name != "s3":
            on_wire = switch.bridge("br-wire")
            on_wire.uplink(wire, name="to-wire")
            on_wire.host(f"wire-{name}")
    with Lab(topo, machines, seed=7) as live:
        yield live


def values(lab: Lab, table: str, column: str) -> list[object]:
    return [row[column] for name in SWITCHES for row in lab.switch(name).db(table, [column])]


def test_the_agent_has_as_much_of_the_processor_as_the_daemons(lab: Lab) -> None:
    switch = lab.switch("s1")
    stats = [f"/proc/{pid}/stat" for pid in ("1", switch.pid(), "self")]
    niceness = switch.node.run(["cut", "-d", " ", "-f", "19", *stats]).stdout.split()
    assert niceness == ["-10", "-10", "0"]


def test_frames_go_where_the_underlays_lead(lab: Lab) -> None:
    reach = lab.probe_all().reach
    hub = {f"hub-{name}" for name in SWITCHES}
    assert {host: set(heard) for host, heard in reach.unicast.items()} == {
        **{host: hub - {host} for host in hub},
        "wire-s1": {"wire-s2"},
        "wire-s2": {"wire-s1"},
    }
    sent = lab.probe("hub-s1")
    # The hub hands each frame to the two others, and neither puts it on again.
    assert sent.heard_at == hub - {"hub-s1"}
    assert sent.count_at("hub") == 1


def test_no_switch_is_another_s_twin(lab: Lab) -> None:
    for table, column in (("Bridge", "datapath_id"), ("Bridge", "_uuid"), ("Port", "_uuid")):
        found = values(lab, table, column)
        assert len(set(map(str, found))) == len(found), (table, column)
    ids = values(lab, "Open_vSwitch", "external_ids")
    assert [(one["system-id"], one["hostname"]) for one in ids if isinstance(one, dict)] == [
        (name, name) for name in SWITCHES
    ]


def test_a_link_that_is_down_takes_the_carrier_from_the_other_end(lab: Lab) -> None:
    def carrier() -> str:
        return lab.node("s2").read_file("/sys/class/net/to-wire/carrier").decode().strip()

    assert carrier() == "1"
    lab.set_link("s1", "to-wire", up=False)
    eventually(carrier, lambda found: found == "0", within=60, what="no carrier at s2")
    assert lab.probe("wire-s1", to="wire-s2").heard_at == set()
    assert lab.probe("wire-s2", to="wire-s1").heard_at == set()
    lab.set_link("s1", "to-wire", up=True)
    eventually(carrier, lambda found: found == "1", within=60, what="a carrier at s2")
    # Nothing of what was sent meanwhile has been kept somewhere.
    assert lab.probe("wire-s1", to="wire-s2").heard_at == {"wire-s2"}


def test_no_frame_vanishes_between_a_link_that_comes_back_and_the_carrier(lab: Lab) -> None:
    with lab.traffic(rate=1000, pairs=[("wire-s1", "wire-s2")]) as traffic:
        for _ in range(8):
            for up in (False, True):
                lab.set_link("s1", "to-wire", up=up)
    # Frames were lost where that was counted: it would not be known otherwise.
    assert traffic.leaked == traffic.duplicates == []


def test_a_hub_s_other_ends_keep_their_carrier(lab: Lab) -> None:
    lab.set_link("s1", "to-hub", up=False)
    assert lab.probe("hub-s2").heard_at == {"hub-s3"}
    lab.set_link("s1", "to-hub", up=True)
    assert lab.probe("hub-s2").heard_at == {"hub-s1", "hub-s3"}
    with pytest.raises(LabError, match="s1 has no physical port 'br-hub'"):
        lab.set_link("s1", "br-hub", up=False)


def test_an_underlay_can_be_a_bad_wire(lab: Lab) -> None:
    lab.impair("wire", Impairment(loss=1))
    assert lab.probe("wire-s1", to="wire-s2").heard_at == set()
    lab.impair("wire", Impairment(delay=0.2))
    slow = lab.probe("wire-s1", to="wire-s2")
    # That it is still under way has kept the drain from saying that it was lost.
    assert slow.heard_at == {"wire-s2"}
    assert min(slow.latencies) > 150_000_000
    assert lab.probe("hub-s1").heard_at == {"hub-s2", "hub-s3"}
    lab.impair("wire", None)
    assert lab.probe("wire-s1", to="wire-s2").heard_at == {"wire-s2"}
    with pytest.raises(LabError, match="no underlay 'br-hub' joins switches"):
        lab.impair("br-hub", None)


def test_a_link_that_is_bad_in_a_context_is_afterwards_what_it_was(lab: Lab) -> None:
    def heard() -> int:
        return lab.probe("wire-s1", to="wire-s2").count_at("wire-s2")

    with lab.fault(BadLink("s1", "wire", loss=100)):
        assert heard() == 0
        with lab.fault(BadLink("s2", "wire", duplicate=100)):
            assert heard() == 2
        assert heard() == 0
    assert heard() == 1
    lab.expect("duplicates")
    (_outer, inner) = [one for one in lab.history().operations if one.name == "bad link"]
    assert (inner.subject, inner.arguments["duplicate"]) == ("s2", 100)


def test_a_node_without_power(lab: Lab) -> None:
    node, commands = lab.node("s1"), len(lab.commands)
    node.run(["sh", "-c", "echo 'a last word' >/dev/kmsg; echo '<0>loud' >/dev/kmsg; sync"])
    with lab.fault(PowerCut("s1", synced=False)):
        with pytest.raises(LabError, match="s1 has no power"):
            lab.host("wire-s1")
        with pytest.raises(LabError, match="s1 has no power"), lab.fault(PowerCut("s1")):
            pass
        with pytest.raises(NodeLost, match="^s1: closed"):
            node.run(["true"])
        assert lab.probe("hub-s2").heard_at == {"hub-s3"}
        assert lab.probe("wire-s2").heard_at == set()
        assert len(lab.commands) == commands + 1
        lab.verify()
    assert lab.node("s1") is node
    assert "loud\n" in node.kernel_said
    assert "\n[power cut]\n" in node.kernel_said
    # Nothing of what was sent meanwhile has been kept somewhere.
    assert lab.probe("wire-s1", to="wire-s2").heard_at == {"wire-s2"}
    lab.verify()
    with pytest.raises(LabError, match="s1 has power"):
        lab.boot("s1")


def test_what_is_sent_to_a_node_without_power_never_comes(lab: Lab) -> None:
    lab.announce()
    with lab.traffic(rate=200, pairs=[("wire-s2", "wire-s1")], size=1400) as traffic:
        counter = "/sys/class/net/to-wire/statistics/tx_packets"

        def sent() -> int:
            return int(lab.node("s2").read_file(counter))

        with lab.fault(PowerCut("s1")):
            pass
        before = sent()
        eventually(lambda: sent() > before + 100, within=60, what="frames are sent again")
    assert traffic.lost > 0
    assert max(max(flow.latencies, default=0) for flow in traffic.batch) < traffic.outage
    assert not traffic.leaked
    lab.expect("reordered")
    lab.verify()


def test_who_sends_in_the_background_keeps_his_power(lab: Lab) -> None:
    traffic = lab.traffic(rate=20, pairs=[("wire-s1", "wire-s2")])
    with traffic, pytest.raises(LabError, match="^wire-s1 would end with s1"):
        lab.cut_power("s1")
    assert traffic.lost == 0


def test_a_lab_ends_while_a_node_has_no_power(machines: Environment) -> None:
    topo = Topology("off")
    wire = topo.underlay("wire")
    for name in ("s1", "s2"):
        topo.switch(name).bridge("br0").uplink(wire)
    left = []
    for _ in range(2):
        with Lab(topo, machines, seed=7) as live:
            live.cut_power("s1")
        left.append(len(list(Path("/proc/self/fd").iterdir())))
    # The first one has taken hold of the template for as long as the process lives.
    assert left[0] == left[1]


def test_a_node_gets_another_root_and_boots_with_it(lab: Lab) -> None:
    node, pid = lab.node("s3"), lab.switch("s3").pid()
    node.run(["touch", "/usr/of-before", "/etc/openvswitch/kept", "/run/kept"])
    assert lab.change_image("s3", "trixie", ["/etc/openvswitch"]) == "trixie"
    assert not node.exists("/usr/of-before")
    for path in ("/etc/openvswitch/kept", "/run/kept"):
        assert node.exists(path)
    # What ran goes on; the kernel's modules are still those of the kernel.
    assert lab.switch("s3").pid() == pid
    lab.verify()
    node.run(["modprobe", "--dry-run", "vxlan"])
    assert lab.probe("hub-s3").heard_at == {"hub-s1", "hub-s2"}
    with lab.fault(PowerCut("s3")):
        pass
    assert node.exists("/etc/openvswitch/kept")
    assert not node.exists("/run/kept")
    assert lab.probe("hub-s3").heard_at == {"hub-s1", "hub-s2"}


def test_a_root_that_can_not_be_put_together_leaves_the_one_before(lab: Lab) -> None:
    node = lab.node("s3")
    before = node.read_file("/proc/1/mounts")
    with pytest.raises(NodeError, match="/no/such: "):
        lab.change_image("s3", "trixie", ["/etc/openvswitch", "/no/such"])
    assert node.read_file("/proc/1/mounts") == before
    assert node.run(["sh", "-c", "echo /.root-*"]).stdout == "/.root-*\n"


def test_trouble_of_a_kernel_fails_a_scenario_and_lands_in_the_bundle(
    lab: Lab, tmp_path: Path
) -> None:
    # The last test of this lab: a kernel that was in trouble stays so.
    lab.verify()
    lab.node("s2").run(["sh", "-c", "echo '<0>BUG: just a test' >/dev/kmsg"])

    def verdict() -> str:
        try:
            lab.verify()
        except NodeError as error:
            return str(error)
        return ""

    said = eventually(verdict, within=60, what="a verdict on the kernel")
    assert said.startswith("s2: its kernel is broken: ")
    assert "BUG: just a test" in said.splitlines()[0]
    written = bundle.write(lab, tmp_path, "trouble", rerun=["pytest"], failure="as planned")
    assert "BUG: just a test" in (written / "s2" / "console.txt").read_text(encoding="utf-8")
    quiet = written / "s1" / "console.txt"
    assert not quiet.exists() or "BUG" not in quiet.read_text(encoding="utf-8")
