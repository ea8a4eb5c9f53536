"""Frames that arrive while no batch is under way, on real switches: a late one or one that nobody
sent fails a scenario, and what kernels say to each other never does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether

from harness.lab import Lab, LabError, SurpriseError, bundle
from harness.nodes.namespace import Fabric
from harness.polling import eventually
from harness.topology import Topology
from harness.traffic import Flow, pcapng
from harness.traffic.batch import Unknown
from harness.traffic.frames import probe_frame

NOBODY, ALL = "02:66:66:66:66:66", "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Two switches over a wire, and a network in VLAN 10 that an internal port has a place in."""
    return make_lab(network())


def network() -> Topology:
    topo = Topology("gaps")
    wire = topo.underlay("wire")
    for n in (1, 2):
        bridge = topo.switch(f"s{n}").bridge("br0")
        bridge.uplink(wire)
        bridge.host(f"a{n}", tag=10, addresses=[f"10.0.0.{n}/24"])
        bridge.host(f"b{n}", tag=20)
    bridge.internal("mgmt", tag=10, addresses=["10.0.0.9/24"])
    return topo


def packet_out(lab: Lab, host: str, frame: bytes) -> None:
    """Have a host's switch emit a frame to it, of its own accord."""
    switch, bridge, port = lab.place_of(host)
    switch.ofctl("packet-out", bridge, "LOCAL", f"output:{port}", frame.hex())


def put_on_wire(lab: Lab, *frames: bytes) -> None:
    """Put frames on the wire at s1, past its switch."""
    node = lab.node("s1")
    (port,) = node.open_ports([(None, "wire")]).result()
    node.send_frames([(port, [len(frame) for frame in frames])], b"".join(frames)).result()


def surprises(lab: Lab) -> list[str]:
    """What ``lab.verify()`` complains of."""
    with pytest.raises(SurpriseError) as caught:
        lab.verify()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


# -- what fails


def test_a_frame_from_nobody_before_the_first_batch(lab: Lab) -> None:
    packet_out(lab, "a1", probe_frame(NOBODY, ALL))
    lab.announce()
    (line,) = surprises(lab)
    assert line.startswith("strays: before the first batch, ")
    assert " ms after the lab was up: in a1: untagged, 64 bytes: 02:66:66:66:66:66 > " in line
    assert line.endswith("[carries no identity]")


def test_a_frame_from_nobody_between_batches_and_after_the_last(lab: Lab) -> None:
    lab.announce()
    packet_out(lab, "b1", probe_frame(NOBODY, ALL))
    lab.announce()
    packet_out(lab, "b2", probe_frame(NOBODY, ALL))
    between, after = surprises(lab)
    assert between.startswith("strays: between batches 1 and 2, ")
    assert " ms after batch 1 ended: in b1: " in between
    assert after.startswith("strays: after batch 2, ")
    assert "in b2: " in after
    # Judged once.
    lab.verify()


def test_a_frame_that_was_put_on_the_wire_behind_the_lab_s_back(lab: Lab) -> None:
    put_on_wire(lab, probe_frame(NOBODY, ALL, vlan=20))
    assert ["in b2: " in line for line in surprises(lab)] == [True]


@pytest.mark.parametrize("excuse", ["", "strays", "ping"])
def test_a_frame_of_an_earlier_batch_that_comes_late(lab: Lab, excuse: str) -> None:
    """Frames that nobody sent may be expected, or a kernel's: that is no excuse for a late one."""
    if excuse == "strays":
        lab.expect("strays")
    elif excuse:
        lab.host("a1").run("ping -c1 10.0.0.2")
    old = lab.probe("a1", to="a2")
    lab.verify()
    packet_out(lab, "b2", old.frame())
    lab.probe("b1", to="b2")
    (line,) = surprises(lab)
    assert line.startswith("late: between batches 1 and 2, ")
    assert "in b2 #0: untagged, 64 bytes" in line
    assert line.endswith(
        f"[carries the identity of flow {old.flow} from a1 to a2, sent in an earlier batch]"
    )


def test_a_late_frame_on_a_wire_that_no_host_hears(lab: Lab) -> None:
    old = lab.probe("b1", to="b2", vlan=30)
    put_on_wire(lab, old.frame())
    (line,) = surprises(lab)
    assert line.startswith("late: after batch 1, ")
    assert "out wire (s1:wire) #0: vlan 30" in line


def test_a_late_frame_in_the_next_batch_is_no_stray_that_may_be_expected(lab: Lab) -> None:
    lab.expect("strays")
    old = lab.probe("a1", to="a2")
    with lab.traffic(rate=500, pairs=[("a1", "a2")]):
        packet_out(lab, "b2", old.frame())
    (line,) = surprises(lab)
    assert line.startswith("late: in b2 #0: ")


@pytest.mark.parametrize("ended", [False, True], ids=["it goes on", "its node ended since"])
def test_a_capture_that_dropped_a_frame_between_batches_makes_it_unknown(
    ended: bool,
    make_lab: Callable[..., Lab],
    own_fabric: Fabric,
    outside_pid: Callable[[Fabric, int], int],
    stopped: Callable[[int], None],
) -> None:
    lab = make_lab(network(), fabric=own_fabric)
    lab.expect("strays")
    agent = outside_pid(own_fabric, lab.node("s2").pid)
    frame = probe_frame(NOBODY, ALL, size=1500, vlan=20)

    def crossed() -> int:
        return int(lab.node("s1").read_file("/sys/class/net/wire/statistics/tx_packets"))

    before = crossed()
    stopped(agent)
    for hundreds in range(1, 21):
        put_on_wire(lab, *[frame] * 100)
        arrived = 100 * hundreds + before
        eventually(crossed, lambda now: now >= arrived, within=60, what="100 frames more")  # noqa: B023
    os.kill(agent, signal.SIGCONT)
    if ended:
        # As when its power is cut: what the capture had counted by then is not forgotten with it.
        lab.engine.take_leave("s2")
        lab.engine.lose("s2")
    with pytest.raises(Unknown, match=r"not known what arrived without any batch: the capture at "):
        lab.verify()


def test_a_bundle_has_what_came_between_batches(lab: Lab, tmp_path: Path) -> None:
    old = lab.probe("a1", to="a2")
    packet_out(lab, "b2", old.frame())
    (line,) = surprises(lab)
    directory = bundle.write(lab, tmp_path, "late", rerun=["pytest"], failure=line)
    with (directory / "frames.pcapng").open("rb") as file:
        interfaces, packets = pcapng.read(file)
    (late,) = (packet for packet in packets if packet.comment.startswith("late: "))
    assert (interfaces[late.interface].name, late.data) == ("b2", old.frame())


# -- what does not


def test_hosts_kernels_may_talk(lab: Lab) -> None:
    lab.host("a1").run("ping -c1 10.0.0.2")
    pinging = lab.host("a2").start("ping -c 5 -i 0.01 10.0.0.1")
    lab.verify()
    pinging.result().check()
    lab.verify()


def test_hosts_kernels_may_talk_through_flows_that_rewrite_addresses(lab: Lab) -> None:
    rewrite = f"priority=9,in_port=a2,actions=mod_dl_src:{NOBODY},NORMAL"
    lab.switch("s2").ofctl("add-flow", "br0", rewrite)
    lab.host("a1").run("ping -c1 10.0.0.2")
    lab.verify()


def test_a_switch_s_own_kernel_may_talk(lab: Lab) -> None:
    lab.node("s2").run(["ping", "-c1", "10.0.0.1"])
    heard = [seen.point for gap in lab.engine.gaps.found for seen in gap.strays(())]
    lab.verify()
    heard += [seen.point for gap in lab.engine.gaps.found for seen in gap.strays(())]
    assert {"a1", "a2", "s2:mgmt"} == set(heard)


def test_a_switch_s_own_frames_may_be_expected(lab: Lab) -> None:
    packet_out(lab, "a1", probe_frame(NOBODY, ALL))
    lab.expect("strays")
    lab.verify()


# -- batches that end badly, or not at all


def test_after_a_batch_that_broke_off_nothing_is_late(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody proved that its frames had arrived. The next batch does not take them for its own."""

    def broken(bound: float) -> str:
        raise LabError(f"no drain within {bound}")

    with monkeypatch.context() as patch:
        patch.setattr(lab.engine.drain, "finish", broken)
        with pytest.raises(LabError, match="no drain"):
            lab.probe("a1", to="a2")
    packet_out(lab, "b2", probe_frame(NOBODY, ALL))
    sent = lab.probe("a1", to="b2")
    assert sent.flow == 2
    assert sent.heard_at == {"a2", "s2:mgmt"}
    lab.verify()
    packet_out(lab, "b2", sent.frame())
    assert len(surprises(lab)) == 1


def test_a_batch_within_another_is_refused(lab: Lab) -> None:
    within = pytest.raises(LabError, match="a batch is under way")
    with lab.traffic(rate=500, pairs=[("a1", "a2")]) as traffic, within:
        lab.probe("a1", to="a2")
    assert (traffic.lost, traffic.batch.strays) == (0, [])


def test_traffic_that_cannot_begin_leaves_no_batch_open(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(flow: Flow, rate: float) -> int:
        raise LabError(f"no {flow.what} at {rate}")

    with monkeypatch.context() as patch:
        patch.setattr(lab.engine, "start_stream", broken)
        with pytest.raises(LabError, match="no flow"), lab.traffic(rate=9, pairs=[("a1", "a2")]):
            pass
    assert lab.probe("a1", to="a2").heard_at == {"a2"}


def test_what_is_kept_of_gaps_can_be_let_go(lab: Lab) -> None:
    lab.announce()
    packet_out(lab, "a1", bytes(Ether(src=NOBODY, dst=ALL) / bytes(60)))
    lab.announce()
    assert len(lab.engine.gaps.found) == 1
    lab.forget()
    assert (lab.batches, lab.engine.gaps.found) == ([], [])
    lab.verify()
