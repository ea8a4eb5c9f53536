"""What ovs-ofctl prints, read as data: flows, groups, meters and the TLV map, without counters."""

from __future__ import annotations

import re

import msgspec

from harness.ovs.errors import UnexpectedOutputError


class Flow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An OpenFlow flow (ovs-ofctl(8), "Flow Syntax"). Time-outs are in seconds."""

    table: int
    priority: int
    match: str
    actions: str
    cookie: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    importance: int = 0
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells this flow from all others of its bridge."""
        match = f",{self.match}" if self.match else ""
        return f"table={self.table},priority={self.priority}{match}"

    def __str__(self) -> str:
        settings = {
            "cookie": f"{self.cookie:#x}" if self.cookie else "",
            "idle_timeout": self.idle_timeout,
            "hard_timeout": self.hard_timeout,
            "importance": self.importance,
        }
        words = [f"{name}={value}" for name, value in settings.items() if value]
        return ",".join([self.key, *words, *self.flags]) + f" actions={self.actions}"


class TlvMapping(msgspec.Struct, frozen=True):
    """One line of a TLV map: a Geneve option and the field that it is matched by."""

    option_class: int
    type: int
    length: int
    field: str


_ATTRIBUTE = re.compile(
    r"(?P<name>cookie|table|idle_timeout|hard_timeout|importance)=(?P<value>\w+),?\s*"
)
_FLAG = re.compile(r"(send_flow_rem|check_overlap|reset_counts|no_packet_counts|no_byte_counts)\s+")
_STATISTIC = re.compile(r"(?:duration|n_packets|n_bytes|idle_age|hard_age)=[\w.]+,\s*")
_PRIORITY = re.compile(r"priority=(?P<value>\d+)(?:,|\s|$)")
_DEFAULT_PRIORITY = 32768
_GROUP = re.compile(r"group_id=(?P<id>\d+),(?P<rest>.*)")
_METER = re.compile(r"meter=(?P<id>\S+)\s+(?P<rest>.*)", re.DOTALL)
_TLV = re.compile(
    r"0x(?P<class>[0-9a-f]+)\s+(?P<type>\w+)\s+(?P<length>\d+)\s+(?P<field>tun_metadata\d+)"
)


def parse_flow(line: str) -> Flow:
    """A line of ``ovs-ofctl dump-flows``. Raise :class:`UnexpectedOutputError` if it is none."""
    head, separator, actions = line.strip().partition("actions=")
    if not separator:
        raise UnexpectedOutputError(f"not a flow as ovs-ofctl dump-flows prints it: {line!r}")
    numbers: dict[str, int] = {}
    flags = []
    rest = head
    while rest:
        if match := _ATTRIBUTE.match(rest):
            numbers[match["name"]] = int(match["value"], 0)
        elif match := _FLAG.match(rest):
            flags.append(match[1])
        else:
            match = _STATISTIC.match(rest)
        if match is None:
            break
        rest = rest[match.end() :]
    priority = _DEFAULT_PRIORITY
    if match := _PRIORITY.match(rest):
        priority = int(match["value"])
        rest = rest[match.end() :]
    numbers.setdefault("table", 0)
    return Flow(
        priority=priority,
        match=rest.strip().rstrip(","),
        actions=actions.strip(),
        flags=tuple(sorted(flags)),
        **numbers,
    )


def parse_flows(text: str) -> tuple[Flow, ...]:
    """The output of ``ovs-ofctl dump-flows``, ordered by table, falling priority and match."""
    flows = [parse_flow(line) for line in text.splitlines() if _is_flow(line)]
    return tuple(sorted(flows, key=lambda flow: (flow.table, -flow.priority, flow.match)))


def _is_flow(line: str) -> bool:
    # Depending on the OpenFlow version each part of the answer has a heading of its own.
    return bool(line.strip()) and re.match(r"\s*(OFPST_|NXST_)", line) is None


def parse_groups(text: str) -> dict[int, str]:
    """The output of ``ovs-ofctl dump-groups``: group id to the rest of its line."""
    groups = (_GROUP.match(line.strip()) for line in text.splitlines())
    return dict(sorted((int(match["id"]), match["rest"]) for match in groups if match is not None))


def parse_meters(text: str) -> dict[str, str]:
    """The output of ``ovs-ofctl dump-meters``: meter id to its flags and bands, on one line.

    An id is a number, or ``controller``, ``slowpath`` or ``all``.
    """
    # Each band is on a line of its own after the meter.
    meters = (_METER.match(part) for part in re.split(r"^\s*(?=meter=)", text, flags=re.MULTILINE))
    return {match["id"]: " ".join(match["rest"].split()) for match in meters if match is not None}


def parse_tlv_map(text: str) -> tuple[TlvMapping, ...]:
    """The output of ``ovs-ofctl dump-tlv-map``, in the order of the fields."""
    lines = (_TLV.fullmatch(line.strip()) for line in text.splitlines())
    mappings = [_tlv_mapping(match) for match in lines if match is not None]
    return tuple(sorted(mappings, key=lambda mapping: (len(mapping.field), mapping.field)))


def _tlv_mapping(line: re.Match[str]) -> TlvMapping:
    option_class, kind, length = int(line["class"], 16), int(line["type"], 0), int(line["length"])
    return TlvMapping(option_class, kind, length, line["field"])
