"""What ovs-vswitchd says of its datapaths (ovs-vswitchd(8), ``dpctl/show``)."""

from __future__ import annotations

import re

import msgspec

from harness.nodes.base import Node, Pending, Question
from harness.ovs.tasks import Steps

SHOW = Question("dpctl/show", may_fail=True)
"""Where there is no datapath, it is an error without a word."""
SECOND_LINE = 1
"""The connection on which :func:`ask_for_memory` asks."""


class Counters(msgspec.Struct, frozen=True):
    """What happened to frames in a datapath (ovs-dpctl(8), "show"): ``hit`` found their flow there,
    ``missed`` went up to ovs-vswitchd, ``lost`` were dropped on their way up: there was no room, or
    it took none."""

    hit: int
    missed: int
    lost: int

    def __add__(self, other: Counters) -> Counters:
        return Counters(self.hit + other.hit, self.missed + other.missed, self.lost + other.lost)

    @property
    def lookups(self) -> int:
        """The frames that it looked up a flow for."""
        return self.hit + self.missed + self.lost


class Datapaths(msgspec.Struct, frozen=True):
    """All datapaths of a switch together."""

    counters: Counters
    flows: int
    """How many they hold."""
    ports: frozenset[str]
    waiting: bool
    """Whether ovs-vswitchd takes nothing that they send up, because it waits for saved flows to be
    restored (ovs-vswitchd.conf.db(5), ``flow-restore-wait``); False where that was not asked."""


def ask(node: Node, socket: str, *, waiting: bool) -> Steps[Datapaths]:
    """Have the main thread of ovs-vswitchd, with the control socket ``socket``, describe its
    datapaths; ``waiting`` says whether to ask for that as well. Raise :class:`NodeError`."""
    asked = [node.json_rpc_all_soon(socket, [SHOW])]
    if waiting:
        asked.append(ask_for_memory(node, socket))
    (shown,), *memory = yield asked
    return parse(shown, *memory)


def ask_for_memory(node: Node, socket: str) -> Pending:
    """Ask for what :func:`parse` calls ``memory``, on a connection of its own."""
    return node.json_rpc_soon(socket, "memory/show", [], line=SECOND_LINE)


def parse(shown: str | None, memory: str | None = None) -> Datapaths:
    """Read the output of ``dpctl/show`` and, if given, of ``memory/show``: while saved flows are
    restored there are no revalidator threads."""
    found = _DATAPATH.findall(shown or "")
    counters = (Counters(int(hit), int(missed), int(lost)) for hit, missed, lost, *_ in found)
    return Datapaths(
        counters=sum(counters, Counters(0, 0, 0)),
        flows=sum(int(flows) for *_counters, flows, _rest in found),
        ports=frozenset().union(*(_PORT.findall(rest) for *_, rest in found)),
        waiting=memory is not None and "revalidators:" not in memory,
    )


_DATAPATH = re.compile(
    r"^\S+:\n\s+lookups: hit:(\d+) missed:(\d+) lost:(\d+)\n\s+flows: (\d+)((?:\n\s.*)*)",
    re.MULTILINE,
)
_PORT = re.compile(r"^\s+port \d+: (\S+)", re.MULTILINE)
