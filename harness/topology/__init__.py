"""What a network is: written in Python or YAML, checked, drawn. No process, no I/O of its own.

:class:`Topology` writes one in Python, :func:`load` reads one from a file; both end in a
:class:`TopologySpec`, the immutable data. What is wrong is told by :class:`TopologyError`.
"""

from __future__ import annotations

from harness.topology.builder import Topology
from harness.topology.errors import Mistake, TopologyError
from harness.topology.model import TopologySpec
from harness.topology.yaml import dump, load, loads

__all__ = ["Mistake", "Topology", "TopologyError", "TopologySpec", "dump", "load", "loads"]
