"""The shell that a user gets in a node."""

from __future__ import annotations

import os

from harness.agent.environment import PATH


def argv(place: str, terminal: str = "") -> list[str]:
    """The command for it, to be run inside; its prompt names the ``place``. ``terminal`` is what
    ``TERM`` is to be, if not what it is here."""
    settings = {
        "TERM": terminal or os.environ.get("TERM", "dumb"),
        "PATH": PATH,
        "HOME": "/root",
        # bash puts the name in as it is: what a variable holds is not expanded again.
        "PLACE": place,
        "PS1": r"$PLACE:\w\$ ",
    }
    words = [f"{name}={value}" for name, value in settings.items()]
    return ["/usr/bin/env", "-i", *words, "/bin/bash", "--norc"]
