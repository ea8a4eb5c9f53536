"""What can go wrong with a switch, in words for its user."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class OvsError(RuntimeError):
    """Something about a switch is not as it ought to be; the message names the switch."""


class DaemonError(OvsError):
    """A daemon of Open vSwitch did not start, did not stop, died, or was replaced."""


class ModuleError(OvsError):
    """The kernel module was not reloaded, or can't be from this node."""


class ConfigurationError(OvsError):
    """A switch could not be configured as its topology says."""


class OpenFlowError(ConfigurationError):
    """Open vSwitch refused flows, groups, meters or a TLV map; the message has its words."""


class UnexpectedOutputError(OvsError):
    """Open vSwitch printed something that the harness does not know how to read."""


class PortFailure(msgspec.Struct, frozen=True):
    """A port or a bridge that could not be made. ``interface`` is None for a whole bridge;
    ``bridge`` is None where it is not known."""

    bridge: str | None
    interface: str | None
    reason: str

    def __str__(self) -> str:
        where = [f"bridge {self.bridge}"] if self.bridge is not None else []
        if self.interface is not None:
            where.append(f"port {self.interface}")
        return f"{', '.join(where)}: {self.reason}"


class PortError(ConfigurationError):
    """Ports that Open vSwitch could not make, each with its own words (Interface ``error``)."""

    def __init__(self, switch: str, failures: Sequence[PortFailure]) -> None:
        self.switch = switch
        self.failures = tuple(failures)
        super().__init__("; ".join(f"{switch}: {failure}" for failure in failures))
