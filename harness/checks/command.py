"""The subcommand that judges a history."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from harness.checks.verdict import Outcome, Verdict
    from harness.traffic.history import History

STATUS: dict[Outcome, int] = {"pass": 0, "fail": 1, "unknown": 2}
MOST_LINES = 20
"""Findings shown of one checker."""
_PLAIN_WIDTH = 200
_MOMENT = 10**17
"""In ns: what is longer is the time since 1970."""
_COLOURS: dict[Outcome, str] = {"pass": "green", "fail": "red", "unknown": "yellow"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand ``judge``."""
    parser = subparsers.add_parser(
        "judge",
        help="judge a history again: a failure's bundle, or what a lab saved",
        description="Judge what was done and seen in a lab, from the directory that it was written "
        "to.",
        epilog="Exit status: 0 pass, 1 fail, 2 unknown, which is also that of a directory that "
        "holds no history, or a damaged one.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.set_defaults(run=_judge)


def _judge(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from harness.checks import judge
    from harness.traffic.archive import HistoryError, load

    try:
        history = load(arguments.directory)
    except HistoryError as error:
        print(f"ovs-harness: {error}", file=sys.stderr)
        return STATUS["unknown"]
    verdict = judge(history)
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
    _show_history(console, history)
    _show(console, verdict)
    return STATUS[verdict.outcome]


def _show_history(console: Console, history: History) -> None:
    from rich.text import Text

    about = history.about
    frames = sum(flow.count for flow in history.flows)
    console.print(
        f"target {about.target}, seed {about.seed}: {frames} frames sent in "
        f"{len(history.batches)} batches, {len(history.packets)} captured"
    )
    for one in history.operations:
        took = "has not ended" if one.ended_ns is None else _time(one.ended_ns - one.began_ns)
        words = "".join(f" {name}={value}" for name, value in one.arguments.items())
        console.print(Text(f"  {one}{words}: {took}" + (f", {one.outcome}" * bool(one.outcome))))


def _show(console: Console, verdict: Verdict) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False)
    for name, part in verdict.parts.items():
        said = ", ".join(_measured(part.measurements))
        table.add_row(Text(part.outcome, _COLOURS[part.outcome]), name, Text(said))
    console.print(table)
    for name, part in verdict.parts.items():
        listed = [
            ", ".join(_measured(item))
            for value in part.measurements.values()
            if isinstance(value, list)
            for item in value
        ]
        if part.findings or listed:
            console.print(Text(f"{name}: {part.outcome}", _COLOURS[part.outcome]))
        for lines in (part.findings, listed):
            for line in lines[:MOST_LINES]:
                console.print(Text(f"  {line}"), soft_wrap=True)
            if len(lines) > MOST_LINES:
                console.print(f"  and {len(lines) - MOST_LINES} more")
    console.print(Text(f"verdict: {verdict.outcome}", f"bold {_COLOURS[verdict.outcome]}"))


def _measured(measurements: Mapping[str, Any]) -> list[str]:
    """Measurements in words, a list as the number of what is in it."""
    words = []
    for name, value in measurements.items():
        title = name.removesuffix("_ns").replace("_", " ")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            words.append(f"{title} {len(value)}")
        elif name.endswith("_ns"):
            words.append(f"{title} {_time(value)}")
        elif value is not False and value not in ("", []):
            shown = ", ".join(value) if isinstance(value, list) else value
            words.append(title if value is True else f"{title} {shown}")
    return words


def _time(ns: int) -> str:
    """A length of time, or the time of day of a moment."""
    if ns >= _MOMENT:
        seconds, rest = divmod(ns, 1_000_000_000)
        return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03}"
    return f"{ns / 1e9:.3f} s" if ns >= 1_000_000_000 else f"{ns / 1e6:.1f} ms"
