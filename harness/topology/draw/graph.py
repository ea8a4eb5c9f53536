"""The topology as text for Graphviz and for Mermaid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.topology.draw import words
from harness.topology.draw.links import tunnel_links
from harness.topology.model import (
    BondPort,
    HostPort,
    InternalPort,
    PatchPort,
    Port,
    TopologySpec,
    UplinkPort,
)


@dataclass(frozen=True)
class _Node:
    id: str
    kind: str
    lines: list[str]


@dataclass(frozen=True)
class _Edge:
    ends: tuple[str, str]
    kind: str
    lines: list[str]


def to_dot(spec: TopologySpec) -> str:
    """``spec`` in Graphviz's language; ``dot -Tsvg`` draws it."""
    out = [
        f"graph {_dot([spec.name])} {{",
        f"  label={_dot([spec.name])}; labelloc=t; rankdir=TB; fontname=Helvetica;",
        "  node [fontname=Helvetica, fontsize=11]; edge [fontname=Helvetica, fontsize=9];",
    ]
    for index, switch in enumerate(spec.switches):
        out.append(f"  subgraph cluster_s{index} {{")
        out.append(f"    label={_dot([switch.name])}; style=rounded;")
        out += [
            f"    {node.id} [{_DOT_NODES[node.kind]}, label={_dot(node.lines)}];"
            for node in _inside(spec, index)
        ]
        out.append("  }")
    out += [
        f"  {node.id} [{_DOT_NODES[node.kind]}, label={_dot(node.lines)}];"
        for node in _outside(spec)
    ]
    out += [
        f"  {edge.ends[0]} -- {edge.ends[1]} [{_DOT_EDGES[edge.kind]}, label={_dot(edge.lines)}];"
        for edge in _edges(spec)
    ]
    return "\n".join([*out, "}\n"])


def to_mermaid(spec: TopologySpec) -> str:
    """``spec`` as a Mermaid flowchart."""
    out = ["flowchart TB"]
    for index, switch in enumerate(spec.switches):
        out.append(f'  subgraph s{index}["{_mermaid([switch.name])}"]')
        out += [f"    {_mermaid_node(node)}" for node in _inside(spec, index)]
        out.append("  end")
    out += [f"  {_mermaid_node(node)}" for node in _outside(spec)]
    for edge in _edges(spec):
        arrow = {"tunnel": "-.-", "patch": "==="}.get(edge.kind, "---")
        label = f'|"{_mermaid(edge.lines)}"|' if edge.lines else ""
        out.append(f"  {edge.ends[0]} {arrow}{label} {edge.ends[1]}")
    return "\n".join(out) + "\n"


_DOT_NODES = {
    "bridge": "shape=box",
    "internal": "shape=component",
    "host": 'shape=box, style="rounded,filled", fillcolor="#fffbef"',
    "underlay": 'shape=box, style=filled, fillcolor="#3e4c59", fontcolor=white',
    "remote": "shape=plaintext",
}
_DOT_EDGES = {
    "port": "style=solid",
    "uplink": "style=bold",
    "patch": 'style=bold, color="#1f8a5b"',
    "tunnel": 'style=dashed, color="#7b3fa0", constraint=false',
}
_MERMAID_NODES = {
    "bridge": ("[", "]"),
    "internal": ("[[", "]]"),
    "host": ("(", ")"),
    "underlay": ("([", "])"),
    "remote": (">", "]"),
}


def _inside(spec: TopologySpec, index: int) -> Iterator[_Node]:
    for number, bridge in enumerate(spec.switches[index].bridges):
        mirrors = [words.mirror(mirror) for mirror in bridge.mirrors]
        lines = [bridge.name, *words.bridge(bridge), *mirrors]
        yield _Node(f"s{index}b{number}", "bridge", lines)
        for place, port in enumerate(bridge.ports):
            if isinstance(port, InternalPort):
                lines = [port.name, *words.end(port)]
                yield _Node(f"s{index}b{number}p{place}", "internal", lines)


def _outside(spec: TopologySpec) -> Iterator[_Node]:
    for end, port in _ports(spec):
        if isinstance(port, HostPort):
            yield _Node(end, "host", [port.name, *words.end(port)])
        elif isinstance(port, PatchPort) and port.peer_missing:
            yield _Node(end, "remote", [f"no peer {port.peer}"])
    for index, underlay in enumerate(spec.underlays):
        yield _Node(f"u{index}", "underlay", [words.underlay(underlay)])
    for link in tunnel_links(spec):
        if link.far is None:
            yield _Node(_id(link.near), "remote", [link.addresses])


def _edges(spec: TopologySpec) -> Iterator[_Edge]:
    underlays = {underlay.name: f"u{n}" for n, underlay in enumerate(spec.underlays)}
    patches = _patches(spec)
    for end, port in _ports(spec):
        bridge = end.rpartition("p")[0]
        vlan = words.port(port)
        match port:
            case HostPort() | InternalPort():
                yield _Edge((end, bridge), "port", vlan)
            case UplinkPort():
                lines = [port.name, *vlan]
                yield _Edge((bridge, underlays[port.underlay]), "uplink", lines)
            case BondPort():
                lines = [port.name, *words.bond(port), *vlan]
                for member in port.members:
                    shown = [member.name, f"of {lines[0]}", *lines[1:]]
                    yield _Edge((bridge, underlays[member.underlay]), "uplink", shown)
            case PatchPort() if port.peer_missing:
                yield _Edge((bridge, end), "patch", [port.name, *vlan])
            case PatchPort():
                far, other = patches[end]
                if end < far:
                    lines = [f"{port.name} ↔ {other.name}", *vlan, *words.port(other)]
                    yield _Edge((bridge, far.rpartition("p")[0]), "patch", lines)
    for link in tunnel_links(spec):
        s, b, _ = link.near
        far = _id(link.near) if link.far is None else f"s{link.far[0]}b{link.far[1]}"
        lines = [link.label] if link.far is None else [link.label, link.addresses]
        yield _Edge((f"s{s}b{b}", far), "tunnel", lines)


def _ports(spec: TopologySpec) -> Iterator[tuple[str, Port]]:
    for s, switch in enumerate(spec.switches):
        for b, bridge in enumerate(switch.bridges):
            for p, port in enumerate(bridge.ports):
                yield _id((s, b, p)), port


def _patches(spec: TopologySpec) -> dict[str, tuple[str, PatchPort]]:
    """Each patch port's other end."""
    found: dict[str, tuple[str, PatchPort]] = {}
    for s, switch in enumerate(spec.switches):
        ends = {
            port.name: (_id((s, b, p)), port)
            for b, bridge in enumerate(switch.bridges)
            for p, port in enumerate(bridge.ports)
            if isinstance(port, PatchPort)
        }
        found |= {end: ends[port.peer] for end, port in ends.values() if port.peer in ends}
    return found


def _id(end: tuple[int, int, int]) -> str:
    return "s{}b{}p{}".format(*end)


def _dot(lines: list[str]) -> str:
    safe = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(safe) + '"'


def _mermaid_node(node: _Node) -> str:
    left, right = _MERMAID_NODES[node.kind]
    return f'{node.id}{left}"{_mermaid(node.lines)}"{right}'


def _mermaid(lines: list[str]) -> str:
    """Mermaid reads quotes, marks of HTML and ``#`` in a text: they go as numbered entities."""
    return "<br/>".join(
        "".join(f"#{ord(letter)};" if letter in '"#&<>`\\;' else letter for letter in line)
        for line in lines
    )
