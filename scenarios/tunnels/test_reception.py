"""Which packets a tunnel end takes: frames written by hand, put on the underlay by a host there.

Sources: ovs-vswitchd.conf.db(5), Interface, "Tunnel Options": ``remote_ip``, ``local_ip`` ("the
tunnel destination IP that received packets must match"), ``in_key``, and ``csum`` ("checksums
present on incoming packets will be validated regardless of this setting; incoming packets without
a checksum will also be accepted"); ovs-fields(7) for the VXLAN header, whose I bit must be set.
"""

from typing import Any

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from harness import Lab, Topology
from harness.topology.model import TunnelType
from harness.traffic.batch import Sent

KEY = 42
SENDER, END = "02:00:00:00:00:01", "02:00:00:00:00:02"
REMOTE, LOCAL = "172.31.0.1", "172.31.0.2"
OTHER_REMOTE, OTHER_LOCAL = "172.31.0.11", "172.31.0.12"
KINDS: tuple[TunnelType, ...] = ("vxlan", "geneve", "gre")
INSTANCE = 0x08
"""The I bit alone: for a frame inside, scapy would also say that a protocol is named."""
HEADERS: dict[str, Any] = {
    "vxlan": UDP(dport=4789, chksum=0) / VXLAN(vni=KEY, flags=INSTANCE),
    "geneve": UDP(dport=6081, chksum=0) / GENEVE(vni=KEY, proto=0x6558),
    "gre": GRE(proto=0x6558, key_present=1, key=KEY),
}

every_type = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def topology() -> Topology:
    topo = Topology("reception")
    wire = topo.underlay("wire")
    near = topo.switch("near").bridge("br0")
    near.uplink(wire)
    near.host("sender", mac=SENDER)
    far = topo.switch("far")
    addresses = [f"{LOCAL}/24", f"{OTHER_LOCAL}/24"]
    far.bridge("br-phy", mac=END, addresses=addresses).uplink(wire)
    for kind in KINDS:
        br_int = far.bridge(f"br-{kind}")
        br_int.host(f"{kind}-vm")
        br_int.tunnel(kind, remote=REMOTE, local=LOCAL, key=KEY)
    return topo


def put(lab: Lab, header: Packet, *, remote: str = REMOTE, local: str = LOCAL) -> Sent:
    """Put a broadcast inside ``header`` on the wire, as if ``remote`` had sent it to ``local``."""
    # What arrives is the inner frame alone: the tunnel takes its headers off.
    lab.expect("changed")
    outer = Ether(src=SENDER, dst=END) / IP(src=remote, dst=local) / header
    inner = Ether(src="02:00:00:00:00:0a", dst="ff:ff:ff:ff:ff:ff", type=0x88B5)
    sent = lab.send("sender", outer / inner)
    assert sent.crossed == {"wire"}
    return sent


def written(kind: str, **fields: Any) -> Packet:
    """A type's header, with some fields of its innermost layer set to something else."""
    header: Packet = HEADERS[kind].copy()
    for name, value in fields.items():
        setattr(header.lastlayer(), name, value)
    return header


def summed(kind: str, *, wrong: bool = False) -> Packet:
    """A type's header with a checksum, which scapy fills in unless it is to be ``wrong``."""
    header: Packet = HEADERS[kind].copy()
    if kind == "gre":
        header.chksum_present = 1
    else:
        del header.chksum
    if wrong:
        header.chksum = 0x1234
    return header


@every_type
def test_what_the_tunnel_is_for_arrives_as_it_was(module_lab: Lab, kind: str) -> None:
    sent = put(module_lab, written(kind))
    assert sent.heard_at == {f"{kind}-vm"}
    inner = sent.seen_on(f"{kind}-vm").data
    assert inner == sent.frame()[-len(inner) :]


@every_type
def test_a_right_checksum_is_taken(module_lab: Lab, kind: str) -> None:
    sent = put(module_lab, summed(kind))
    assert sent.heard_at == {f"{kind}-vm"}


@every_type
def test_a_wrong_checksum_is_refused(module_lab: Lab, kind: str) -> None:
    sent = put(module_lab, summed(kind, wrong=True))
    assert sent.heard_at == set()


@every_type
def test_another_remote_address_is_refused(module_lab: Lab, kind: str) -> None:
    assert put(module_lab, written(kind), remote=OTHER_REMOTE).heard_at == set()


@every_type
def test_another_address_of_its_own_is_refused(module_lab: Lab, kind: str) -> None:
    assert put(module_lab, written(kind), local=OTHER_LOCAL).heard_at == set()


@every_type
def test_another_key_is_refused(module_lab: Lab, kind: str) -> None:
    key = "key" if kind == "gre" else "vni"
    assert put(module_lab, written(kind, **{key: KEY + 1})).heard_at == set()


@pytest.mark.parametrize("flags", [0, 0x80], ids=["no-i-bit", "another-bit"])
def test_vxlan_without_its_i_bit_is_refused(module_lab: Lab, flags: int) -> None:
    assert put(module_lab, written("vxlan", flags=flags)).heard_at == set()


def test_gre_without_a_key_is_not_taken_for_the_one_with(module_lab: Lab) -> None:
    assert put(module_lab, written("gre", key_present=0)).heard_at == set()
