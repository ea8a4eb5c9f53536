"""Labs that are up, for ``pytest --hosts=agent://SWITCH-OR-HOST@LAB`` (testinfra)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from harness.live import places
from harness.live.client import Connection
from harness.live.messages import Done, Exec, Output
from harness.nodes.infra import AgentBackend


class LabBackend(AgentBackend):
    """A connection of testinfra's to a switch or a host of a lab that `ovs-harness up` keeps up.
    The lab need not be named when it is the only one."""

    def __init__(self, name: str, **options: Any) -> None:
        place, _, lab = name.partition("@")
        super().__init__(name, lambda argv: _run(lab or None, place, argv), **options)


def _run(lab: str | None, place: str, argv: Sequence[str]) -> tuple[int, bytes, bytes]:
    written = {1: bytearray(), 2: bytearray()}
    status = 0
    with Connection(places.chosen(lab)) as connection:
        for answer in connection.answers(Exec(place, list(argv))):
            if isinstance(answer, Output):
                written[answer.descriptor] += answer.data
            elif isinstance(answer, Done):
                status = msgspec.json.decode(answer.value, type=int)
    return status, bytes(written[1]), bytes(written[2])
