"""Times the harness beside its peers: ``python -m benchmarks [measurement ...]``.

Prints one table, and writes the same with every single value under reports/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Say, Section
from benchmarks.processes import RunFailedError
from harness.lab import DEFAULT_TARGET, Target
from harness.lab.environment import TargetUnavailable, environment

MEASUREMENTS = (
    *("first_frame", "pairs", "rate", "growth", "scenarios", "judging"),
    *("machines", "containers"),
)
"""Modules with a function ``measure``, in the order of the table."""
REPORTS = Path(__file__).parents[1] / "reports"
WIDEST = 160


def main() -> int:
    """Measure what is named on the command line, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "measurement", nargs="*", help=f"{', '.join(MEASUREMENTS)}; all when none is named"
    )
    names = parser.parse_args().measurement or list(MEASUREMENTS)
    for name in names:
        if name not in MEASUREMENTS:
            parser.error(f"no measurement is called {name}; there are {', '.join(MEASUREMENTS)}")
    say = _teller()
    try:
        # An image that is built first is not part of any time.
        environment(Target.parse(DEFAULT_TARGET), say)
    except TargetUnavailable as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    loads = [os.getloadavg()[0]]
    sections, failed = [], 0
    for name in names:
        measure: Callable[[Say], Section] = import_module(f"benchmarks.{name}").measure
        try:
            sections.append(measure(say))
        except KeyboardInterrupt:
            failed += 1
            print(f"benchmarks: interrupted while {name} was measured", file=sys.stderr)
            break
        except RunFailedError as error:
            failed += 1
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
        loads.append(os.getloadavg()[0])
    say("done")
    _show(sections, loads)
    print(f"also as JSON: {_save(sections, loads)}")
    return 1 if failed else 0


def _teller() -> Say:
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {line}", file=sys.stderr, flush=True)

    return say


def _show(sections: list[Section], loads: list[float]) -> None:
    # A file or a pipe gets whole lines, a terminal what fits.
    console = Console(width=None if sys.stdout.isatty() else WIDEST)
    caption = (
        "medians (least to most); load average meanwhile "
        f"{min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores"
    )
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    for name in ("", "harness", "peer", "that is"):
        table.add_column(name, overflow="fold")
    for section in sections:
        peer = section.peer or ""
        table.add_row(f"[bold]{section.title}[/bold]", "", f"[bold]{peer}[/bold]", "")
        for row in section.rows:
            ours, theirs = (str(figure or "") for figure in (row.ours, row.peer))
            table.add_row(row.what, ours, theirs, row.words)
        table.add_section()
    console.print(table)


def _save(sections: list[Section], loads: list[float]) -> Path:
    now = datetime.now(UTC)
    REPORTS.mkdir(exist_ok=True)
    path = REPORTS / f"benchmarks-{now:%Y%m%dT%H%M%SZ}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load_averages": loads,
        },
        "sections": [section.data() for section in sections],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
