"""How Open vSwitch is driven: life of the daemons, configuration, state."""

from harness.ovs.datapaths import Counters
from harness.ovs.errors import (
    ConfigurationError,
    DaemonError,
    ModuleError,
    OpenFlowError,
    OvsError,
    PortError,
    PortFailure,
    UnexpectedOutputError,
)
from harness.ovs.options import Options
from harness.ovs.state import State, diff, load
from harness.ovs.switch import Learned, Switch
from harness.ovs.tasks import Task, gather

__all__ = [
    "ConfigurationError",
    "Counters",
    "DaemonError",
    "Learned",
    "ModuleError",
    "OpenFlowError",
    "Options",
    "OvsError",
    "PortError",
    "PortFailure",
    "State",
    "Switch",
    "Task",
    "UnexpectedOutputError",
    "diff",
    "gather",
    "load",
]
