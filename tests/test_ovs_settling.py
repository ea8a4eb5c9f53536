"""When a switch is asked for rounds of revalidation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.nodes.base import Question
from harness.ovs.settling import settle
from harness.ovs.tasks import Task

MEMORY = "handlers:1 ports:3 revalidators:1 rules:9 udpif keys:1"
RESTORING = "ports:3 rules:9"
"""There are no such threads while saved flows are restored."""
SHOWN = """\
{name}:
  lookups: hit:3 missed:2 lost:0
  flows: {flows}
  masks: hit:5 total:1 hit/pkt:1.00
  caches:
    masks-cache: size:256
  port 0: {name} (internal)
  port 1: p0
"""
EMPTY = SHOWN.format(name="system@ovs-system", flows=0)
FULL = SHOWN.format(name="netdev@ovs-netdev", flows=10)


class Answered:
    """An answer that is there already."""

    def __init__(self, value: object) -> None:
        self._value = value

    def result(self, _timeout: float | None) -> object:
        return self._value


class Asked:
    """A node whose ovs-vswitchd says this of its memory and this of its datapaths."""

    def __init__(self, memory: str, shown: str | None) -> None:
        self._answers = {"memory/show": memory, "dpctl/show": shown}
        self.methods: list[str] = []

    def json_rpc_soon(self, _socket: str, method: str, _params: list[str], **_: int) -> Answered:
        self.methods.append(method)
        return Answered(self._answers[method])

    def json_rpc_all_soon(self, _socket: str, questions: Sequence[Question]) -> Answered:
        methods = [one.method for one in questions]
        self.methods += methods
        return Answered([self._answers.get(method, "") for method in methods])


@pytest.mark.parametrize(
    ("memory", "shown", "rounds"),
    [
        pytest.param(MEMORY, FULL, 2, id="flows"),
        pytest.param(MEMORY, EMPTY, 0, id="no flows"),
        pytest.param(MEMORY, EMPTY + FULL, 2, id="flows in the second datapath"),
        pytest.param(MEMORY, FULL + EMPTY, 2, id="flows in the first datapath"),
        pytest.param(MEMORY, None, 0, id="no datapath"),
        pytest.param(RESTORING, FULL, 0, id="saved flows are restored"),
    ],
)
def test_rounds_are_for_flows(memory: str, shown: str | None, rounds: int) -> None:
    node: Any = Asked(memory, shown)
    Task(settle(node, "ovs-vswitchd.ctl")).result()
    assert node.methods.count("revalidator/wait") == rounds
