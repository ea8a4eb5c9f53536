"""Pictures of a topology: SVG with a layout of our own, and text for Graphviz and Mermaid.

Pure functions of the data, with the same result every time.
"""

from __future__ import annotations

from harness.topology.draw.graph import to_dot, to_mermaid
from harness.topology.draw.svg import to_svg

__all__ = ["to_dot", "to_mermaid", "to_svg"]
