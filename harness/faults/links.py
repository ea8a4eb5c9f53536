"""Links that go down, flap, are cut, or carry frames badly."""

from __future__ import annotations

from typing import ClassVar

from harness.faults.fault import Fault, FaultError, Ground, Undo
from harness.faults.processes import running
from harness.nodes.impairment import Impairment
from harness.ovs.options import OVS_VSWITCHD, OVSDB_SERVER
from harness.ovs.switch import Switch
from harness.polling import eventually
from harness.topology import model

NOTICED = 30.0
"""Seconds within which ovs-vswitchd sees what became of a link."""


class LinkDown(Fault, frozen=True):
    """A physical port is down, and the one at the other end of its underlay loses the carrier."""

    name: ClassVar[str] = "link down"

    port: str

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        check_port(ground, self)
        set_link(ground, self.switch, self.port, up=False)
        return lambda: set_link(ground, self.switch, self.port, up=True)


class LinkFlapping(Fault, frozen=True):
    """A physical port goes down and comes up again, so many ``times``; it is up afterwards."""

    name: ClassVar[str] = "link flapping"

    port: str
    times: int = 3

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        check_port(ground, self)
        if self.times < 1:
            raise FaultError(f"{self}: a link flaps at least once")
        try:
            for _ in range(self.times):
                set_link(ground, self.switch, self.port, up=False)
                set_link(ground, self.switch, self.port, up=True)
        except BaseException:
            ground.set_link(self.switch, self.port, up=True)
            raise
        return lambda: None


class Cut(Fault, frozen=True):
    """The ``underlay`` between this switch and all others is cut: each of its ports there is
    down."""

    name: ClassVar[str] = "underlay cut"

    underlay: str

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        ports = [
            port for port, wire in uplinks(ground.switch(self.switch).spec) if wire == self.underlay
        ]
        if not ports:
            raise FaultError(f"{self}: the switch has no port there")

        def set_all(*, up: bool) -> None:
            for port in ports:
                set_link(ground, self.switch, port, up=up)

        try:
            set_all(up=False)
        except BaseException:
            for port in ports:
                ground.set_link(self.switch, port, up=True)
            raise
        return lambda: set_all(up=True)


class BadLink(Fault, frozen=True):
    """The ``underlay`` that a switch reaches carries frames badly, in both directions and for all
    switches on it: of a hundred frames so many are lost (``loss``), doubled (``duplicate``) or have
    one bit turned over (``corrupt``), and each comes so many ms later (``delay``), and up to so
    many more (``jitter``), so that frames overtake each other. Undone, it is what it was before,
    and what is delayed comes at once."""

    name: ClassVar[str] = "bad link"

    underlay: str
    loss: int = 0
    duplicate: int = 0
    corrupt: int = 0
    delay: int = 0
    jitter: int = 0

    def begin(self, ground: Ground) -> Undo:
        """See :meth:`Fault.begin`."""
        if self.underlay not in dict(uplinks(ground.switch(self.switch).spec)).values():
            raise FaultError(f"{self}: the switch has no port there")
        try:
            bad = Impairment(
                loss=self.loss / 100,
                duplicate=self.duplicate / 100,
                corrupt=self.corrupt / 100,
                delay=self.delay / 1000,
                jitter=self.jitter / 1000,
            ).check()
        except ValueError as error:
            raise FaultError(f"{self}: {error}") from None
        before = ground.impair(self.underlay, bad)
        return lambda: ground.impair(self.underlay, before)


def uplinks(switch: model.Switch) -> list[tuple[str, str]]:
    """The physical ports of a switch, each with its underlay."""
    return [pair for bridge in switch.bridges for port in bridge.ports for pair in _physical(port)]


def _physical(port: model.Port) -> list[tuple[str, str]]:
    if isinstance(port, model.UplinkPort):
        return [(port.name, port.underlay)]
    if isinstance(port, model.BondPort):
        return [(member.name, member.underlay) for member in port.members]
    return []


def check_port(ground: Ground, fault: LinkDown | LinkFlapping) -> None:
    """Raise :class:`FaultError` unless the port of a fault is a physical one."""
    there = [port for port, _underlay in uplinks(ground.switch(fault.switch).spec)]
    if fault.port not in there:
        raise FaultError(
            f"{fault}: the switch has no such physical port; it has {', '.join(there) or 'none'}"
        )


def set_link(ground: Ground, switch: str, port: str, *, up: bool) -> None:
    """Set a link, and wait until the database says so, where both daemons run."""
    ground.set_link(switch, port, up=up)
    found = ground.switch(switch)
    if not {OVSDB_SERVER, OVS_VSWITCHD} <= running(found).keys():
        return
    wanted = "up" if up else "down"
    eventually(
        lambda: _admin_state(found, port),
        lambda state: state == wanted,
        within=NOTICED,
        what=f"{switch}: ovs-vswitchd sees that {port} was set {wanted}",
    )


def _admin_state(switch: Switch, port: str) -> str:
    """What it is set to. The link itself stays down while another fault has the other end down."""
    (row,) = switch.db("Interface", ["admin_state"], {"name": port})
    return str(row["admin_state"])
