"""A live topology on real switches, and the verbs of a scenario."""

from harness.lab.errors import LabError
from harness.lab.host import Host
from harness.lab.lab import Lab, SurpriseError
from harness.lab.target import DEFAULT_TARGET, Target, TargetError
from harness.lab.traffic import Traffic

__all__ = [
    "DEFAULT_TARGET",
    "Host",
    "Lab",
    "LabError",
    "SurpriseError",
    "Target",
    "TargetError",
    "Traffic",
]
