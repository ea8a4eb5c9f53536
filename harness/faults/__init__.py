"""What is done to a switch while traffic flows: each fault a value that can be begun and undone."""

from harness.faults.daemons import Exit, Kill, Suspend
from harness.faults.database import DamagedDatabase, FullDisk, OldSchema
from harness.faults.fault import FORGOTTEN, Fault, FaultError, Ground
from harness.faults.links import BadLink, Cut, LinkDown, LinkFlapping
from harness.faults.power import PowerCut
from harness.faults.registry import CHOICES, draw
from harness.faults.restarts import HalfRestart, Reload, Restart
from harness.faults.upgrades import Upgrade

__all__ = [
    "CHOICES",
    "FORGOTTEN",
    "BadLink",
    "Cut",
    "DamagedDatabase",
    "Exit",
    "Fault",
    "FaultError",
    "FullDisk",
    "Ground",
    "HalfRestart",
    "Kill",
    "LinkDown",
    "LinkFlapping",
    "OldSchema",
    "PowerCut",
    "Reload",
    "Restart",
    "Suspend",
    "Upgrade",
    "draw",
]
