"""Integration test harness and topology simulator for Open vSwitch.

Importing this package costs next to nothing: the public names below are loaded when they
are first used, so that the agent's launcher and the command line start fast.
"""

from typing import TYPE_CHECKING

from harness.lazily import loaded_from

if TYPE_CHECKING:
    from harness.lab import Lab
    from harness.topology import Topology

__all__ = ["Lab", "Topology"]

__getattr__ = loaded_from({"Lab": "harness.lab", "Topology": "harness.topology"}, __name__)
