"""YAML: what reads like text is text, and what is hostile or wrong is one clear error."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from harness.topology import TopologyError, TopologySpec, dump, load, loads
from harness.topology.model import BondPort, HostPort, TunnelPort, Vlan

GUIDE = """\
# The Windows guide's patched bridges.
name: guide
underlays:
- {name: wire, mtu: 9000}
switches:
- name: hv1
  other_config: {max-idle: 10000}
  routes: [default via 10.0.0.254]
  bridges:
  - name: br-int
    fail_mode: secure
    protocols: [OpenFlow13, OpenFlow15]
    ports:
    - {kind: patch, name: patch-to-pif, peer: patch-to-int}
    - kind: host
      name: vm1
      vlan: {tag: 900}
      protected: true
      addresses: [192.0.2.1/24]
      mac: 00:11:22:33:44:55
      interface: {ingress_policing_rate: 1000, lldp: {enable: true}, admin: up, flag: true}
      qos: {type: linux-htb, max-rate: 1000000}
      queues: {0: {min-rate: 5}, 7: {}}
    - {kind: tunnel, name: tun0, type: vxlan, remote_ip: 10.0.0.2, key: 5001}
    flows: |
      priority=1,actions=normal
      priority=0,actions=drop
  - name: br-pif
    addresses: [10.0.0.1/24]
    vlan: {tag: 7}
    ports:
    - {kind: patch, name: patch-to-int, peer: patch-to-pif}
    - {kind: uplink, name: eth0, underlay: wire}
"""


def one_port(text: str) -> str:
    return f"name: t\nswitches:\n- name: s\n  bridges:\n  - name: br\n    ports:\n    - {text}\n"


def port(text: str) -> Any:
    return loads(one_port(text)).switches[0].bridges[0].ports[0]


def error(text: str, name: str = "topo.yaml") -> str:
    with pytest.raises(TopologyError) as caught:
        loads(text, name)
    return str(caught.value)


def test_the_guide_reads_as_written() -> None:
    spec = loads(GUIDE)
    br_int, br_pif = spec.switches[0].bridges
    _, vm, tun = br_int.ports
    assert isinstance(vm, HostPort)
    assert (vm.mac, vm.vlan, vm.addresses) == (
        "00:11:22:33:44:55",
        Vlan(tag=900),
        ("192.0.2.1/24",),
    )
    assert vm.interface == {
        "ingress_policing_rate": 1000,
        "lldp": {"enable": "true"},
        "admin": "up",
        "flag": True,
    }
    assert vm.queues == {0: {"min-rate": "5"}, 7: {}}
    assert isinstance(tun, TunnelPort)
    assert tun.key == "5001"
    assert br_int.flows == "priority=1,actions=normal\npriority=0,actions=drop\n"
    assert spec.switches[0].other_config == {"max-idle": "10000"}
    assert vm.protected
    assert (br_pif.vlan, br_pif.protected) == (Vlan(tag=7), False)
    assert br_pif.ports[1].name == "eth0"
    assert loads(dump(spec)) == spec


def test_the_dump_is_what_a_person_would_write() -> None:
    text = dump(loads(GUIDE))
    assert dump(loads(text)) == text
    assert "- {kind: patch, name: patch-to-pif, peer: patch-to-int}\n" in text
    assert "    flows: |\n      priority=1,actions=normal\n" in text
    assert "fail_mode: secure\n" in text
    assert "null" not in text
    assert "mcast_snooping" not in text


@pytest.mark.parametrize(
    "value",
    ["on", "off", "yes", "No", "true", "1:30", "010", "0x1F", "1_000", "2026-01-02", "1.10", "1e3",
     "00:11:22:33:44:55", "=", "<<", "'null'", "'~'", '"a: b"'],
)  # fmt: skip
def test_text_stays_the_text_that_was_written(value: str) -> None:
    found = port(f"{{kind: host, name: h, other_config: {{key: {value}}}}}")
    assert found.other_config == {"key": value.strip("'\"")}


def test_names_that_yaml_takes_for_something_else() -> None:
    assert port("{kind: host, name: on}").name == "on"
    assert port("{kind: host, name: 1.10}").name == "1.10"
    assert port("{kind: host, name: h, other_config: {on: x, 1: y}}").other_config == {
        "on": "x",
        "1": "y",
    }


def test_off_is_a_value_of_lacp() -> None:
    members = "members: [{name: a, underlay: a}, {name: b, underlay: b}]"
    text = one_port(f"{{kind: bond, name: bond0, lacp: off, {members}}}")
    found = loads(text + "underlays: [{name: a}, {name: b}]\n").switches[0].bridges[0].ports[0]
    assert isinstance(found, BondPort)
    assert found.lacp == "off"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Values of the wrong kind, each at its own place.
        (one_port("{kind: host, name: h, vlan: {tag: 010}}"),
         "7:41: expected a whole number, written in decimal like 900, got '010'"),
        (one_port("{kind: host, name: h, vlan: {tag: 0x10}}"), "7:41: expected a whole number"),
        (one_port("{kind: host, name: h, vlan: {tag: 1:30}}"), "7:41: expected a whole number"),
        (one_port("{kind: host, name: h, vlan: {tag: '900'}}"), "number without quotes"),
        (one_port("{kind: host, name: h, vlan: {tag: true}}"), "7:41: expected a whole number"),
        (one_port("{kind: host, name: h, vlan: {trunks: 5}}"), "7:44: expected a list, got '5'"),
        (one_port("{kind: host, name: h, vlan: 900}"), "7:35: expected a mapping, got '900'"),
        (one_port("{kind: host, name: [h]}"), "7:26: expected text, got a list"),
        (one_port("{kind: host, name: ~}"), "7:26: expected text, got nothing (null)"),
        (one_port("{kind: host, name: }"), "expected text, got nothing (null)"),
        (one_port("{kind: host, name: h, other_config: {a: }}"), "expected text, got nothing"),
        (one_port("{kind: host, name: h, interface: {a: yes}}"), "true or false, or text in"),
        (one_port("{kind: host, name: h, interface: {a: 010}}"), "without leading zeros"),
        (one_port("{kind: host, name: h, interface: {a: ~}}"), "expected a value, got nothing"),
        (one_port("{kind: host, name: h, queues: {x: {}}}"), "expected a whole number"),
        (one_port("{kind: patch, name: h, peer: x, peer_missing: yes}"),
         "expected true or false, got 'yes'"),
        (one_port("{kind: hots, name: h}"), "7:14: expected one of host, uplink, patch, tunnel"),
        (one_port("{name: h}"), "7:7: `kind` is missing; it is one of host, uplink"),
        (one_port("h"), "expected a mapping with its `kind`"),
        (one_port("{kind: host}"), "7:7: `name` is missing"),
        (one_port("{kind: host, name: h, vlna: 5}"), "7:29: 'vlna' is unknown here; did you mean"),
        (one_port("{kind: host, name: h, name: i}"), "'name' is there twice, first in line 7"),
        (one_port("{kind: tunnel, name: t, type: vlan, remote_ip: 10.0.0.1}"), "expected one of"),
        ("name: t\nnmae: x", "2:1: 'nmae' is unknown here; did you mean `name`?"),
        ("switches: []", "1:1: `name` is missing"),
        ("name: t\nname: u", "2:1: 'name' is there twice, first in line 1"),
        ("- name: t", "1:1: expected a mapping, got a list"),
        ("just text", "1:1: expected a mapping, got 'just text'"),
        # Mistakes that validation finds have a place in the file as well.
        (one_port("{kind: host, name: h, vlan: {tag: 4096}}"), "7:41: VLAN 4096 does not exist"),
        (one_port("{kind: uplink, name: h, underlay: nowhere}"), "7:41: underlay 'nowhere'"),
        # What is no YAML, and what no topology needs.
        ("", "1:1: expected a topology, a mapping with its `name`; this is empty"),
        ("# nothing\n", "1:1: expected a topology"),
        ("name: [", "this is not YAML"),
        ("name: 'x", "this is not YAML"),
        ("a: b: c", "1:5: this is not YAML"),
        ("name:\n\tx: 1", "2:1: this is not YAML"),
        ("name: a\x00b", "1:8: character '\\x00' is not allowed in YAML"),
        ("x\nname: \ud800", "2:7: character '\\ud800' is not allowed in YAML"),
        ("name: &a t\nswitches: *a", "1:7: anchors and aliases"),
        ("name: t\nswitches: *a", "2:11: anchors and aliases"),
        ("a: &a [*a, *a]", "1:4: anchors and aliases"),
        ("name: !!str t", "1:7: tags are not allowed"),
        ("name: !!python/object/apply:os.system [x]", "1:7: tags are not allowed"),
        ("--- !x\nname: t", "tags are not allowed"),
        ("name: t\n---\nname: u", "2:1: a second document begins here"),
        ("? [a, b]\n: x", "1:3: expected a name as key, not a list or mapping"),
        ("{a: b}: x", "1:1: expected a name as key, not a list or mapping"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_error_with_its_place(text: str, said: str) -> None:
    message = error(text)
    assert message.startswith("topo.yaml:")
    assert said in message
    assert "\n" not in message


def test_all_mistakes_of_a_file_come_together() -> None:
    text = one_port("{kind: host, name: 5, vlan: {tag: x}}") + "    - {kind: hots}\nextra: 1\n"
    assert error(text).splitlines() == [
        "3 mistakes in the topology:",
        "  topo.yaml:7:41: expected a whole number, written in decimal like 900, got 'x'",
        "  topo.yaml:8:14: expected one of host, uplink, patch, tunnel, internal, bond, got 'hots'",
        "  topo.yaml:9:1: 'extra' is unknown here; known are name, underlays, switches",
    ]


@pytest.mark.parametrize(
    "text",
    ["[" * 500_000, "{" * 500_000, "- " * 500_000, "? " * 500_000, "a:\n" + " " * 9 + "- " * 9000,
     "[" * 20 + "]" * 20, "\n".join(" " * n + "a:" for n in range(1000))],
)  # fmt: skip
def test_deep_nesting_is_refused_at_once(text: str) -> None:
    before = time.monotonic()
    assert re.search("levels deep|expected a name as key", error(text))
    assert time.monotonic() - before < 30


def test_a_large_file_is_read_within_a_bound() -> None:
    row = "    - {kind: patch, name: p, peer: q}\n"
    text = one_port("{kind: host, name: h}") + row * ((1 << 20) // len(row) - 10)
    before = time.monotonic()
    assert "is unknown in 's'" in error(text) or "at most" in error(text)
    assert time.monotonic() - before < 60
    assert "larger than 1048576 bytes" in error(text + "#" * (1 << 20))


def test_a_thousand_mistakes_end_in_one_error() -> None:
    message = error("name: t\nunderlays: [" + "x, " * 1000 + "]")
    assert message.startswith("100 mistakes")
    assert len(message.splitlines()) == 52


def test_load_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "topo.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GUIDE.encode())
    assert load(path) == load(str(path)) == loads(GUIDE)


def test_what_is_no_readable_file_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "latin").write_bytes(b"name: t\nx: \xe9\n")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"#")
    (tmp_path / "loop").symlink_to("loop")
    for name, said in [
        ("missing", "can't read the topology: No such file or directory"),
        (".", "can't read the topology: Is a directory"),
        ("fifo", "can't read the topology: it is not a regular file"),
        ("socket", "can't read the topology: "),
        ("loop", "can't read the topology: Too many levels of symbolic links"),
        ("nul\0", "can't read the topology: embedded null byte"),
        ("latin", "expected UTF-8 text, got byte 0xe9"),
        ("large", "larger than 1048576 bytes"),
    ]:
        with pytest.raises(TopologyError) as caught:
            load(f"{tmp_path}/{name}")
        assert said in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path))
        assert "\n" not in str(caught.value)
    with pytest.raises(TopologyError, match="latin:2:4: expected UTF-8"):
        load(tmp_path / "latin")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "topo.yaml"
    path.write_text("name: t")
    path.chmod(0)
    with pytest.raises(TopologyError, match="Permission denied"):
        load(path)


def test_an_empty_topology_comes_back() -> None:
    assert loads(dump(TopologySpec(name="t"))) == TopologySpec(name="t")
