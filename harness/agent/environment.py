"""What the programs in a node find in their environment."""

from __future__ import annotations

import os

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def enter_environment() -> None:
    """Forget the environment that we were started in: what runs in a node depends on the node."""
    os.environ.clear()
    os.environ.update(PATH=PATH, HOME="/root", LC_ALL="C", TERM="dumb")
