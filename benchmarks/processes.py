"""Whole processes, each from its start: the harness, and peers in namespaces of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BOUND = 300.0
"""Seconds that one process may take."""
DEBIANS_PYTHON = "/usr/bin/python3"
"""The Python that Debian's packages are for."""


ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""Modules are compiled once, on both sides: those of a Debian package are when it is installed."""


ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before a command line: the process ends when this one does, however that ends (setpriv(1))."""


class RunFailedError(RuntimeError):
    """A process did not end well; the message says what it printed."""


@dataclass(frozen=True)
class Run:
    """Seconds: from nothing to the first verified frame, for all pairs, for taking everything
    down again, and for Open vSwitch's own programs: of ours all, of a peer its start."""

    first: float
    pairs: float | None
    down: float
    switch: float
    version: str


def boxed(argv: Sequence[str]) -> list[str]:
    """A command line that runs ``argv`` in namespaces of its own, which end with it
    (unshare(1))."""
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    apart = ["unshare", *who, "--net", "--mount", "--pid", "--ipc", "--uts"]
    return [*apart, "--fork", "--kill-child", "--", *argv]


def outcome(argv: Sequence[str]) -> dict[str, Any]:
    """Run a program to its end and read the JSON object that it printed last. Raise
    :class:`RunFailedError`."""
    try:
        done = subprocess.run(
            [*ENDS_WITH_US, *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND,
            stdin=subprocess.DEVNULL,
            cwd=HERE.parent,
            env=ENVIRONMENT,
        )
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"`{argv[-4:]}` did not end within {BOUND:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RunFailedError(f"`{' '.join(argv)}` exited {done.returncode}:\n{said}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def harness(target: str, switches: int, hosts: int, *, pairs: bool) -> Run:
    """One run of the harness."""
    arguments = [target, str(switches), str(hosts), "pairs" if pairs else "one"]
    began = time.monotonic()
    marks = outcome([sys.executable, "-m", "benchmarks.programs.ours", *arguments])
    return _run(marks, began, marks["switch"])


def mininet(hosts: int, *, pairs: bool) -> Run:
    """One run of Open vSwitch and Mininet."""
    box = str(HERE / "programs" / "mininet_box.py")
    marks = outcome(boxed([DEBIANS_PYTHON, box, str(hosts), "pairs" if pairs else "one"]))
    return _run(marks, marks["began"], marks["switch_runs"] - marks["began"])


def _run(marks: dict[str, Any], began: float, switch: float) -> Run:
    paired = marks.get("paired")
    return Run(
        first=marks["first"] - began,
        pairs=None if paired is None else paired - marks["first"],
        down=marks["gone"] - marks.get("paired", marks["first"]),
        switch=switch,
        version=marks["version"],
    )
