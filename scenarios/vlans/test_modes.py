"""Access, trunk and native ports: which VLAN a frame is in, and how it leaves again.

Source: ovs-vswitchd.conf.db(5), table Port, "VLAN Configuration". As there, two steps: the port
that a frame enters by, and the tags that it has, say which VLAN it is in; the VLAN, and the port
that it leaves by, say which tags it has then.

A frame is written as its VLAN ID, ``-`` for none, ``p5`` for a priority, ``ad`` for an 802.1ad
tag instead of an 802.1Q one. A ``.`` is a frame that is dropped.
"""

import re

import pytest

from harness import Lab, Topology
from harness.traffic import Tag

PORTS = ("t", "t2", "t-some", "a10", "b10", "c20", "nt", "nt-some", "nu", "nu-some")

FRAMES = ("-", "0", "0p5", "10", "10p5", "20", "30", "10ad")
ENTERS = {
    # "A packet that ingresses on a trunk port is in the VLAN specified in its 802.1Q header, or
    # VLAN 0 if the packet has no 802.1Q header." It is dropped where the port does not trunk it.
    "t": ("0", "0", "0p5", "10", "10p5", "20", "30", "10ad"),
    "t2": ("0", "0", "0p5", "10", "10p5", "20", "30", "10ad"),
    "t-some": (".", ".", ".", "10", "10p5", "20", ".", "10ad"),
    # "Any packet with an 802.1Q header with a nonzero VLAN ID that ingresses on an access port is
    # dropped, regardless of whether the VLAN ID in the header is the access port's VLAN ID."
    "a10": ("10", "10", "10p5", ".", ".", ".", ".", "."),
    "b10": ("10", "10", "10p5", ".", ".", ".", ".", "."),
    "c20": ("20", "20", "20p5", ".", ".", ".", ".", "."),
    # "A native-tagged port resembles a trunk port, with the exception that a packet without an
    # 802.1Q header that ingresses on a native-tagged port is in the 'native VLAN'."
    "nt": ("10", "10", "10p5", "10", "10p5", "20", "30", "10ad"),
    # It "always trunks its native VLAN, regardless of whether trunks includes that VLAN".
    "nt-some": ("10", "10", "10p5", "10", "10p5", "20", ".", "10ad"),
    "nu": ("10", "10", "10p5", "10", "10p5", "20", "30", "10ad"),
    "nu-some": ("10", "10", "10p5", "10", "10p5", "20", ".", "10ad"),
}
LEAVES = {
    # t       t2      t-some  a10  b10  c20  nt      nt-some nu      nu-some
    "0": ("-", "-", ".", ".", ".", ".", ".", ".", ".", "."),
    "0p5": ("-", "-", ".", ".", ".", ".", ".", ".", ".", "."),
    "10": ("10", "10", "10", "-", "-", ".", "10", "10", "-", "-"),
    "10p5": ("10p5", "10p5", "10p5", "-", "-", ".", "10p5", "10p5", "-", "-"),
    "20": ("20", "20", "20", ".", ".", "-", "20", "20", "20", "20"),
    "20p5": ("20p5", "20p5", "20p5", ".", ".", "-", "20p5", "20p5", "20p5", "20p5"),
    "30": ("30", "30", ".", ".", ".", ".", "30", ".", "30", "."),
    "10ad": ("10ad", "10ad", "10ad", "-", "-", ".", "10ad", "10ad", "-", "-"),
    ".": (".", ".", ".", ".", ".", ".", ".", ".", ".", "."),
}


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("vlan-modes")
    bridge = topo.switch("sw").bridge("br0")
    bridge.host("t")
    bridge.host("t2", vlan_mode="trunk")
    bridge.host("t-some", trunks=[10, 20])
    bridge.host("a10", tag=10)
    bridge.host("b10", tag=10, vlan_mode="access")
    bridge.host("c20", tag=20)
    bridge.host("nt", vlan_mode="native-tagged", tag=10)
    bridge.host("nt-some", vlan_mode="native-tagged", tag=10, trunks=[20])
    bridge.host("nu", vlan_mode="native-untagged", tag=10)
    bridge.host("nu-some", vlan_mode="native-untagged", tag=10, trunks=[20])
    return topo


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("port", PORTS)
def test_frame_leaves_by_the_ports_of_its_vlan(module_lab: Lab, port: str, frame: str) -> None:
    vlan = ENTERS[port][FRAMES.index(frame)]
    leaves = dict(zip(PORTS, LEAVES[vlan], strict=True))
    leaves[port] = "."  # never back to where it came from
    expected = {host: tags(as_what) for host, as_what in leaves.items() if as_what != "."}

    sent = module_lab.probe(port, vlan=tags(frame))

    assert sent.heard_at == set(expected)
    assert {host: sent.seen_on(host).tags for host in expected} == expected


def tags(text: str) -> tuple[Tag, ...]:
    """The tags of a frame that is written as above."""
    if text == "-":
        return ()
    found = re.fullmatch(r"(\d+)(?:p(\d))?(ad)?", text)
    assert found, text
    vid, priority, ad = found.groups()
    return (Tag.of(int(vid), pcp=int(priority or 0), tpid=0x88A8 if ad else 0x8100),)
