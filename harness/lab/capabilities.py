"""What a target can do, found by trying."""
from __future__ import annotations
def missing(target, feature): return None
