"""What scenarios of bonds ask and do: the bond ``bond0`` of the switch ``s1``."""

import re

import pytest

from harness import Lab
from harness.ovs.switch import Switch
from harness.polling import eventually


class Bond:
    """A bond as ``ovs-appctl bond/show`` shows it, and its members' links."""

    def __init__(self, lab: Lab, switch: str = "s1", name: str = "bond0") -> None:
        self.lab = lab
        self.name = name
        self.switch: Switch = lab.switch(switch)

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
    def waiting(self) -> list[str]:
        """The delays that members wait for: ``updelay``, ``downdelay``."""
        return re.findall(r"^  (updelay|downdelay) expires in", self.shown, re.MULTILINE)

    def set_link(self, member: str, *, up: bool) -> None:
        """Set the link of a member up or down: its other end loses the carrier too."""
        node = self.lab.node(self.switch.name)
        node.change_links([{"do": "set", "name": member, "up": up}]).result()

    def becomes_active(self, member: str) -> None:
        """Wait until a member is the active one."""
        eventually(lambda: self.active, lambda name: name == member, within=10, what="fail-over")

    def becomes_enabled(self, *members: str) -> None:
        """Wait until these members are enabled and the others are not."""
        what = f"of {self.name}, {members} enabled"
        eventually(lambda: self.enabled, lambda found: found == {*members}, within=10, what=what)


@pytest.fixture
def bond(lab: Lab) -> Bond:
    return Bond(lab)
