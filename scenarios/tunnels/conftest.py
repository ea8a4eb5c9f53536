"""What most scenarios of tunnels run over: two hypervisors, and a wire between them."""

from __future__ import annotations

from typing import Protocol

import pytest

from harness import Topology
from harness.topology.bridges import LocalColumns
from harness.topology.builder import SwitchHandle


class Hypervisors(Protocol):
    """Add the underlay ``wire`` to a topology, and the switches ``hv1`` and ``hv2``, each with an
    address on its bridge ``br-phy``: that of ``address`` with its own number. ``local`` are
    columns of the bridges' local ports."""

    def __call__(
        self,
        topo: Topology,
        address: str = "172.31.0.{}",
        *,
        mtu: int = 1500,
        local: LocalColumns | None = None,
    ) -> dict[int, SwitchHandle]: ...


@pytest.fixture(scope="session")
def hypervisors() -> Hypervisors:
    """Tunnels between the switches start and end at these addresses."""

    def add(
        topo: Topology,
        address: str = "172.31.0.{}",
        *,
        mtu: int = 1500,
        local: LocalColumns | None = None,
    ) -> dict[int, SwitchHandle]:
        wire = topo.underlay("wire", mtu=mtu)
        switches = {n: topo.switch(f"hv{n}") for n in (1, 2)}
        for n, switch in switches.items():
            own = f"{address.format(n)}/{64 if ':' in address else 24}"
            # By itself it stays at 1500: docs/findings/internal-ports-keep-a-smaller-mtu.md
            switch.bridge("br-phy", addresses=[own], mtu=mtu, **(local or {})).uplink(wire)
        return switches

    return add
