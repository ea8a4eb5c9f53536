"""What scenarios of bonds ask and do: the bond ``bond0`` of the switch ``s1``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest

from harness import Lab
from harness.ovs.switch import Switch
from harness.polling import eventually

RARP = 0x8035
T = TypeVar("T")


class Bond:
    """A bond as ``ovs-appctl bond/show`` shows it, and its members' links."""

    def __init__(self, lab: Lab, switch: str = "s1", name: str = "bond0") -> None:
        self.lab = lab
        self.name = name
        self.switch: Switch = lab.switch(switch)

    def of(self, switch: str) -> Bond:
        """The bond of the same name of another switch."""
        return Bond(self.lab, switch, self.name)

    @property
    def shown(self) -> str:
        return self.switch.unixctl("bond/show", self.name)

    @property
    def active(self) -> str:
        """The active member, or ``none``."""
        (name,) = re.findall(r"^active member mac: \S+\((.+)\)$", self.shown, re.MULTILINE)
        return str(name)

    @property
    def enabled(self) -> set[str]:
        """The members that carry traffic."""
        return set(re.findall(r"^member (\S+): enabled$", self.shown, re.MULTILINE))

    @property
    def lacp(self) -> dict[str, str]:
        """The LACP state of each member (IEEE 802.1AX): current, expired or defaulted."""
        shown = self.switch.unixctl("lacp/show", self.name)
        return dict(re.findall(r"^member: (\S+): (\w+)", shown, re.MULTILINE))

    @property
    def waiting(self) -> list[str]:
        """The delays that members wait for: ``updelay``, ``downdelay``."""
        return re.findall(r"^  (updelay|downdelay) expires in", self.shown, re.MULTILINE)

    def set_link(self, member: str, *, up: bool) -> None:
        """Set the link of a member up or down: its other end loses the carrier too."""
        self.lab.set_link(self.switch.name, member, up=up)

    def becomes_active(self, member: str) -> None:
        """Wait until a member is the active one."""
        self._wait(lambda: self.active, member, "the active member")

    def becomes_enabled(self, *members: str) -> None:
        """Wait until these members are enabled and the others are not."""
        self._wait(lambda: self.enabled, {*members}, "the enabled members")

    def waits_for(self, *delays: str) -> None:
        """Wait until members wait for just these delays."""
        self._wait(lambda: self.waiting, [*delays], "the delays under way")

    def negotiates(self, *members: str) -> None:
        """Wait until these members carry traffic because their partners agreed by LACP."""
        self._wait(lambda: self.lacp, dict.fromkeys(members, "current"), "LACP")
        self.becomes_enabled(*members)

    def gives_up(self) -> None:
        """Wait until LACP expects no partner any more."""
        self._wait(lambda: set(self.lacp.values()), {"defaulted"}, "LACP")

    def _wait(self, look: Callable[[], T], wanted: T, what: str) -> None:
        eventually(look, lambda found: found == wanted, within=60, what=f"{what} of {self.name}")

    def taught_upstream(self) -> list[tuple[str, str]]:
        """Where the bond's learning packets were heard, and for which address. They are all that
        may have been heard besides what was sent."""
        strays = [seen for batch in self.lab.batches for seen in batch.strays]
        assert {seen.packet.type for seen in strays} <= {RARP}
        return sorted((seen.point, str(seen.packet.src)) for seen in strays)


@pytest.fixture
def bond(lab: Lab) -> Bond:
    return Bond(lab)


@pytest.fixture(scope="session")
def bond_of() -> type[Bond]:
    """Any bond of any lab, by the names of its switch and its port."""
    return Bond
