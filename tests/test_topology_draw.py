"""Pictures: well-formed, the same every time, everything shown, and no word upon another."""

from __future__ import annotations

import itertools
import time
from xml.etree import ElementTree as ET

import msgspec
import pytest

from harness.topology import Topology, TopologySpec
from harness.topology.draw import metrics, to_dot, to_mermaid, to_svg, words
from harness.topology.draw.layout import plan
from harness.topology.draw.links import tunnel_links
from harness.topology.draw.stacks import stacks
from harness.topology.model import Mirror, TunnelPort, Vlan

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def everything() -> TopologySpec:
    topo = Topology("everything")
    wire, other = topo.underlay("wire", mtu=1600), topo.underlay("other")
    topo.underlay("unused")
    for n in (1, 2, 3):
        switch = topo.switch(f"hypervisor-{n}")
        br = switch.bridge("br-int", fail_mode="secure", protocols=["OpenFlow13", "OpenFlow15"])
        pif = switch.bridge("br-pif", addresses=[f"172.16.0.{n}/24"])
        br.patch(pif, trunks=range(100, 200, 3))
        pif.uplink(wire)
        pif.bond("bond0", [wire, other], mode="balance-tcp", lacp="active")
        web = br.host(f"web{n}", tag=100, addresses=[f"10.0.0.{n}/24", f"fd00::{n}/64"])
        db = br.host(f"db{n}", vlan_mode="dot1q-tunnel", tag=7, cvlans=[1, 2, 3])
        br.host(f"plain{n}")
        mon = br.internal("mon0", tag=5)
        br.mirror("span", select_src_port=[web, db], select_dst_port=[web], output_port=mon)
        for remote in {1, 2, 3} - {n}:
            br.tunnel("vxlan", remote=f"172.16.0.{remote}", key=5000)
        br.flow("actions=normal")
    br.tunnel("geneve", remote="flow", key="flow")
    br.tunnel("gre", remote="192.0.2.9", in_key=1, out_key=2)
    pif.dangling_patch("to-nobody", "nobody")
    return topo.freeze()


def many(switches: int, hosts: int) -> TopologySpec:
    topo = Topology("many")
    fabric, mgmt = topo.underlay("fabric"), topo.underlay("mgmt")
    for n in range(switches):
        switch = topo.switch(f"leaf{n + 1}")
        br_int = switch.bridge("br-int")
        br_pif = switch.bridge("br-pif", addresses=[f"172.16.0.{n + 1}/24"])
        br_int.patch(br_pif)
        br_pif.uplink(fabric)
        br_pif.uplink(mgmt, tag=7)
        for h in range(hosts):
            br_int.host(f"h{n}-{h}", tag=h + 1, addresses=[f"10.0.{n}.{h + 1}/24"])
        for peer in {(n - 1) % switches, (n + 1) % switches}:
            br_int.tunnel("geneve", remote=f"172.16.0.{peer + 1}", key=77)
    return topo.freeze()


def rows_of_patches() -> TopologySpec:
    topo = Topology("rows")
    switch = topo.switch("s1")
    bridges = [switch.bridge(f"br{n}") for n in range(5)]
    for near, far in itertools.combinations(bridges, 2):
        near.patch(far)
    for n, bridge in enumerate(bridges[:3]):
        bridge.host(f"h{n}", tag=n)
    return topo.freeze()


def loops() -> TopologySpec:
    """Patches from a bridge to itself, beside one that leads to the bridge below."""
    topo = Topology("loops")
    switch = topo.switch("s1")
    upper, lower = switch.bridge("br-int", tag=9, protected=True), switch.bridge("br-pif")
    upper.patch(upper)
    upper.patch(upper)
    upper.patch(lower)
    upper.host("h", tag=5, protected=True)
    lower.patch(lower)
    lower.patch(lower)
    lower.uplink(topo.underlay("wire"))
    return topo.freeze()


SPECS = {
    "everything": everything(),
    "many": many(8, 5),
    "ring of three": many(3, 2),
    "patches": rows_of_patches(),
    "loops": loops(),
    "empty": Topology("empty").freeze(),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def text_boxes(picture: str) -> list[tuple[str, Box]]:
    boxes = []
    for found in ET.fromstring(picture).iter(f"{SVG}text"):
        size, text = float(found.attrib["font-size"]), found.text or ""
        width = metrics.width(text, size, bold="font-weight" in found.attrib)
        x, y = float(found.attrib["x"]), float(found.attrib["y"])
        if "transform" in found.attrib:
            boxes.append((text, (x - size * 0.75, y - width / 2, x + 2, y + width / 2)))
            continue
        left = x - width / 2 if found.attrib["text-anchor"] == "middle" else x
        boxes.append((text, (left, y - size * 0.75, left + width, y + 2)))
    return boxes


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@every_spec
def test_no_word_lies_on_another_or_outside(spec: TopologySpec) -> None:
    picture = to_svg(spec)
    root = ET.fromstring(picture)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = text_boxes(picture)
    for (one, box), (other, next_box) in itertools.combinations(boxes, 2):
        assert not overlap(box, next_box), (one, box, other, next_box)
    for text, (left, top, right, bottom) in boxes:
        assert left >= 0 and top >= 0 and right <= width and bottom <= height, text  # noqa: PT018


@every_spec
def test_every_box_lies_within_another_or_beside_it(spec: TopologySpec) -> None:
    boxes = []
    for found in list(ET.fromstring(to_svg(spec)).iter(f"{SVG}rect"))[1:]:
        x, y, w, h = (float(found.attrib[name]) for name in ("x", "y", "width", "height"))
        boxes.append((x, y, x + w, y + h))
    for one, other in itertools.combinations(boxes, 2):
        if overlap(one, other):
            inner, outer = sorted((one, other), key=lambda box: box[2] - box[0])
            assert outer[0] <= inner[0], (inner, outer)
            assert inner[2] <= outer[2], (inner, outer)


@every_spec
def test_every_patch_stays_within_its_switch(spec: TopologySpec) -> None:
    for switch in plan(spec).switches:
        for link in switch.links:
            assert switch.y < link.lane < switch.y + switch.h


@every_spec
def test_the_same_data_gives_the_same_picture(spec: TopologySpec) -> None:
    again = msgspec.convert(msgspec.to_builtins(spec), TopologySpec)
    for draw in (to_svg, to_dot, to_mermaid):
        assert draw(spec) == draw(again)


def test_everything_is_in_the_picture() -> None:
    shown = {text for text, _ in text_boxes(to_svg(SPECS["everything"]))}
    assert {
        "hypervisor-1", "br-int", "br-pif", "web1", "db2", "plain3", "10.0.0.1/24", "fd00::2/64",
        "access 100", "dot1q-tunnel 7", "cvlans 1-3", "bond0", "balance-tcp", "LACP active",
        "vxlan, key 5000", "172.16.0.1 ↔ 172.16.0.2", "geneve, key flow", "remote set by flows",
        "gre, in 1, out 2", "remote 192.0.2.9", "fail mode secure", "1 flow", "no peer nobody",
        "wire, MTU 1600", "unused", "output of span", "172.16.0.3/24", "int-to-pif",
    } <= shown  # fmt: skip
    assert any(text.startswith("mirror span: from web1, db1") for text in shown)
    assert any(text.startswith("trunk 100, 103") for text in shown)


def test_what_is_protected_and_what_the_local_port_is_set_to_is_shown() -> None:
    spec = SPECS["loops"]
    assert {"access 5", "protected", "local port: access 9, protected"} <= {
        text for text, _ in text_boxes(to_svg(spec))
    }
    for text in (to_dot(spec), to_mermaid(spec)):
        assert "local port: access 9, protected" in text
        assert "br-int" in text
        assert "int-to-int" in text


def test_every_port_and_underlay_is_in_the_texts() -> None:
    spec = SPECS["everything"]
    for text in (to_dot(spec), to_mermaid(spec)):
        for name in ("hypervisor-1", "br-int", "web1", "db2", "mon0", "wire", "other", "unused",
                     "bond0", "int-to-pif", "access 100", "vxlan, key 5000", "192.0.2.9",
                     "no peer nobody"):  # fmt: skip
            assert name in text


def hostile() -> TopologySpec:
    """Not valid, but a picture has to survive it: it may be drawn while it is being mended."""
    nasty = '<script>"&\\;#'
    switch = msgspec.structs.replace(SPECS["many"].switches[0], name=nasty)
    return msgspec.structs.replace(SPECS["many"], name=nasty, switches=(switch,))


def test_text_is_escaped() -> None:
    picture = to_svg(hostile())
    assert "<script" not in picture
    assert ET.fromstring(picture).findtext(f"{SVG}title") == '<script>"&\\;#'
    assert '"<script>\\"&\\\\;#"' in to_dot(hostile())
    assert "#60;script#62;#34;#38;#92;#59;#35;" in to_mermaid(hostile())


def test_hundreds_of_hosts_are_drawn_quickly() -> None:
    spec = many(32, 8)
    before = time.monotonic()
    ET.fromstring(to_svg(spec))
    assert time.monotonic() - before < 30


def test_a_bridge_stands_below_the_one_whose_only_way_down_it_is() -> None:
    columns = [[number for number, _ in column] for column in stacks(SPECS["many"].switches[0])]
    assert columns == [[0, 1]]
    columns = [[number for number, _ in column] for column in stacks(SPECS["loops"].switches[0])]
    assert columns == [[0, 1]]
    columns = [[number for number, _ in column] for column in stacks(SPECS["patches"].switches[0])]
    assert sorted(number for column in columns for number in column) == [0, 1, 2, 3, 4]
    assert all(len(column) == 1 for column in columns)


def test_tunnels_that_face_each_other_are_one_link() -> None:
    links = tunnel_links(SPECS["ring of three"])
    assert [(link.near[0], (link.far or (9,))[0]) for link in links] == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ({"key": "1"}, {"key": "2"}),
        ({"type": "gre"}, {"type": "vxlan"}),
        ({"local_ip": "10.0.0.9", "detached": True}, {}),
        ({"remote_ip": "flow"}, {}),
        ({"in_key": "1"}, {"in_key": "1"}),
    ],
)
def test_tunnels_that_contradict_each_other_are_two(
    near: dict[str, str], far: dict[str, str]
) -> None:
    topo = Topology("two")
    wire = topo.underlay("wire")
    for n in (1, 2):
        br = topo.switch(f"s{n}").bridge("br0", addresses=[f"10.0.0.{n}/24"])
        br.uplink(wire)
        br.tunnel("vxlan", remote=f"10.0.0.{3 - n}")
    spec = topo.freeze()
    switches = []
    for switch, changes in zip(spec.switches, (near, far), strict=True):
        (bridge,) = switch.bridges
        uplink, tunnel = bridge.ports
        assert isinstance(tunnel, TunnelPort)
        ports = (uplink, msgspec.structs.replace(tunnel, **changes))
        bridges = (msgspec.structs.replace(bridge, ports=ports),)
        switches.append(msgspec.structs.replace(switch, bridges=bridges))
    links = tunnel_links(msgspec.structs.replace(spec, switches=tuple(switches)))
    assert [link.far for link in links] == [None, None]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([], ""),
        ([5], "5"),
        ([3, 1, 2, 7], "1-3, 7"),
        (range(10, 4000), "10-3999"),
        (range(0, 40, 2), "0, 2, 4, 6, 8, 10, … (20 VLANs)"),
    ],
)
def test_ranges(numbers: list[int], said: str) -> None:
    assert words.ranges(numbers) == said


@pytest.mark.parametrize(
    ("vlan", "said"),
    [
        (Vlan(), []),
        (Vlan(mode="trunk"), ["trunk, all VLANs"]),
        (Vlan(trunks=(1, 2)), ["trunk 1-2"]),
        (Vlan(tag=0), ["access 0"]),
        (Vlan(tag=9, mode="native-untagged"), ["native-untagged 9"]),
        (Vlan(tag=9, mode="native-tagged", trunks=(1,)), ["native-tagged 9", "trunks 1"]),
        (Vlan(tag=9, mode="dot1q-tunnel", cvlans=(1,)), ["dot1q-tunnel 9", "cvlans 1"]),
    ],
)
def test_vlans_in_words(vlan: Vlan, said: list[str]) -> None:
    assert words.vlan(vlan) == said


def test_mirrors_in_words() -> None:
    assert words.mirror(Mirror(name="m", output_vlan=9)) == "mirror m: nothing selected → VLAN 9"
    every = Mirror(
        name="m", select_all=True, select_vlan=(1, 2), filter="tcp,tp_dst=80", output_port="p"
    )
    assert words.mirror(every) == "mirror m: all ports, VLAN 1-2, tcp,tp_dst=80 → p"
