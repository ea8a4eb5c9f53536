"""A live topology on real switches, and the verbs of a scenario.

Importing this package costs next to nothing, as that of :mod:`harness` does: the pytest plugin
reads targets in every run of every project that it is installed beside.
"""

from typing import TYPE_CHECKING

from harness.lazily import loaded_from

if TYPE_CHECKING:
    from harness.lab.errors import LabError
    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.lab.surprises import SurpriseError
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

__getattr__ = loaded_from(
    {
        "DEFAULT_TARGET": "harness.lab.target",
        "Host": "harness.lab.host",
        "Lab": "harness.lab.lab",
        "LabError": "harness.lab.errors",
        "SurpriseError": "harness.lab.surprises",
        "Target": "harness.lab.target",
        "TargetError": "harness.lab.target",
        "Traffic": "harness.lab.traffic",
    },
    __name__,
)
