"""Properties over generated topologies: YAML loses nothing, and nothing but mistakes is raised."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args
from xml.etree import ElementTree as ET

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.topology import TopologyError, TopologySpec, dump, loads
from harness.topology.draw import to_dot, to_mermaid, to_svg
from harness.topology.model import (
    BondMember,
    BondMode,
    BondPort,
    Bridge,
    HostPort,
    InternalPort,
    Lacp,
    Mirror,
    PatchPort,
    Port,
    Switch,
    TunnelPort,
    Underlay,
    UplinkPort,
    Vlan,
    VlanMode,
)
from harness.topology.validate import check, validate

bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

line = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    max_size=12,
)
word = st.one_of(
    st.sampled_from(["on", "off", "yes", "null", "~", "1:30", "010", "0x1f", "1.10", "2026-01-02",
                     "- x", "a: b", "#", "'", '"', "*a", "&a", "!x", "", " x ", "true", "5", "<<"]),
    line,
)  # fmt: skip
key = word.filter(bool)
maps = st.dictionaries(key, word, max_size=3)
text = st.one_of(
    st.just(""),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], include_characters="\n\t",
                          exclude_characters="\ufffe\uffff"), max_size=30),
)  # fmt: skip
column = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
    lambda found: found not in {"name", "type"}
)
columns = st.dictionaries(
    column, st.one_of(word, st.booleans(), st.integers(-(2**53), 2**53), maps), max_size=2
)
vids = st.integers(0, 4094)
many_vids = st.lists(vids, unique=True, max_size=4).map(tuple)
address4 = st.integers(1, 254).map(lambda n: f"10.0.0.{n}/24")
address6 = st.integers(1, 254).map(lambda n: f"fd00::{n:x}/64")
addresses = st.lists(st.one_of(address4, address6), unique=True, max_size=2).map(tuple)
macs = st.none() | st.integers(1, 2**40 - 1).map(
    lambda n: "02:" + ":".join(f"{n:010x}"[i : i + 2] for i in range(0, 10, 2))
)
mtus = st.integers(1280, 65535)


@st.composite
def vlans(draw: st.DrawFn) -> Vlan:
    mode = draw(st.sampled_from([None, *get_args(VlanMode)]))
    if mode == "trunk" or (mode is None and draw(st.booleans())):
        return Vlan(mode=mode, trunks=draw(many_vids))
    trunks = draw(many_vids) if mode in {"native-tagged", "native-untagged"} else ()
    cvlans = draw(many_vids) if mode == "dot1q-tunnel" else ()
    return Vlan(mode=mode, tag=draw(vids), trunks=trunks, cvlans=cvlans)


@st.composite
def ports(draw: st.DrawFn, name: str, underlays: list[str], reach4: bool) -> Port:
    qos = draw(st.booleans())
    common: dict[str, Any] = {
        "name": name,
        "vlan": draw(vlans()),
        "protected": draw(st.booleans()),
        "other_config": draw(maps),
        "qos": {"type": draw(key), **draw(maps.filter(lambda found: "type" not in found))}
        if qos
        else {},
        "queues": draw(st.dictionaries(st.integers(0, 99), maps, max_size=2)) if qos else {},
    }
    kinds = ["host", "internal", "patch"]
    kinds += ["uplink"] * bool(underlays) + ["bond"] * (len(underlays) > 1) + ["tunnel"] * reach4
    match draw(st.sampled_from(kinds)):
        case "host":
            common["interface"] = draw(columns)
            return HostPort(**common, addresses=draw(addresses), mac=draw(macs), mtu=draw(mtus))
        case "internal":
            mtu = draw(st.none() | mtus)
            return InternalPort(**common, addresses=(), mac=draw(macs), mtu=mtu)
        case "patch":
            return PatchPort(**common, peer=f"{name}x", peer_missing=True)
        case "uplink":
            return UplinkPort(**common, underlay=draw(st.sampled_from(underlays)))
        case "bond":
            members = [BondMember(name=f"{name}m{n}", underlay=u) for n, u in enumerate(underlays)]
            mode = draw(st.sampled_from(get_args(BondMode)))
            lacp = draw(st.sampled_from(get_args(Lacp)))
            return BondPort(**common, members=tuple(members), mode=mode, lacp=lacp)
    return TunnelPort(
        **common,
        type=draw(st.sampled_from(["vxlan", "gre", "geneve", "gtpu"])),
        remote_ip=draw(st.sampled_from(["10.0.0.7", "flow"])),
        key=draw(st.none() | st.integers(0, 2**24 - 1).map(str) | st.just("flow")),
        options=draw(maps.filter(lambda found: not {"key"} & set(found))),
        detached=draw(st.booleans()),
    )


@st.composite
def topologies(draw: st.DrawFn) -> TopologySpec:
    underlays = [f"wire{n}" for n in range(draw(st.integers(0, 3)))]
    switches = []
    for s in range(draw(st.integers(0, 3))):
        bridges = []
        for b in range(draw(st.integers(0, 2))):
            own = (f"10.9.{s}.{b + 1}/24",)
            anchor = [UplinkPort(name=f"s{s}b{b}up", underlay=underlays[0])] if underlays else []
            count = draw(st.integers(0, 4))
            found = [draw(ports(f"s{s}b{b}p{p}", underlays, bool(anchor))) for p in range(count)]
            names = [port.name for port in [*anchor, *found]]
            mirrors = (
                [Mirror(name="m", select_all=True, filter="tcp", output_port=names[0])]
                if names
                else []
            )
            bridges.append(
                Bridge(
                    name=f"br{b}",
                    ports=(*anchor, *found),
                    addresses=own,
                    other_config=draw(maps),
                    mirrors=tuple(mirrors),
                    flows=draw(text),
                    tlv_map=draw(text),
                    mcast_snooping=draw(st.booleans()),
                    mtu=draw(st.none() | mtus),
                    vlan=draw(vlans()),
                    protected=draw(st.booleans()),
                )
            )
        switches.append(Switch(name=f"s{s}", bridges=tuple(bridges), other_config=draw(maps)))
    return TopologySpec(
        name="generated",
        underlays=tuple(Underlay(name=name) for name in underlays),
        switches=tuple(switches),
    )


@bounded
@given(topologies())
def test_yaml_loses_nothing(spec: TopologySpec) -> None:
    check(spec)
    written = dump(spec)
    assert loads(written) == spec
    assert dump(loads(written)) == written


@bounded
@given(topologies())
def test_every_good_topology_can_be_drawn(spec: TopologySpec) -> None:
    picture = to_svg(spec)
    ET.fromstring(picture)
    assert picture == to_svg(loads(dump(spec)))
    assert to_dot(spec).startswith('graph "generated" {')
    assert to_mermaid(spec).startswith("flowchart TB")


@bounded
@given(st.text(max_size=200))
def test_any_text_is_a_topology_or_a_mistake(anything: str) -> None:
    with suppress(TopologyError):
        assert isinstance(loads(anything), TopologySpec)


leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
json = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@bounded
@given(st.fixed_dictionaries({"name": json, "underlays": json, "switches": json}))
def test_any_data_in_the_fields_is_a_topology_or_mistakes(fields: dict[str, Any]) -> None:
    spec = msgspec.structs.replace(TopologySpec(name="x"), **fields)
    assert isinstance(validate(spec), list)


@bounded
@given(topologies(), st.data())
def test_a_broken_name_anywhere_is_found(spec: TopologySpec, data: st.DataObject) -> None:
    if not spec.switches:
        return
    index = data.draw(st.integers(0, len(spec.switches) - 1))
    bad = data.draw(st.sampled_from(["", "a b", "a/b", "-x", "x" * 40, "a\nb", "\0"]))
    switches = list(spec.switches)
    switches[index] = msgspec.structs.replace(switches[index], name=bad)
    found = validate(msgspec.structs.replace(spec, switches=tuple(switches)))
    assert f"switches[{index}].name" in {mistake.place for mistake in found}
