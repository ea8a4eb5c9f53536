"""(e) Mean time of a scenario."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.processes import ENDS_WITH_US, ENVIRONMENT
from harness.lab import DEFAULT_TARGET

ROOT = Path(__file__).parents[1]
PYTEST = (sys.executable, "-m", "pytest", "scenarios", "-q", "-p", "no:cacheprovider")
ON = f"--target={DEFAULT_TARGET}"
SLOWEST = 3
TARGET = 1.0


def measure(say: Say) -> Section:
    """Run all scenarios, and divide."""
    section = Section("scenarios")
    if not any((ROOT / "scenarios").rglob("test_*.py")):
        section.rows.append(Row("mean time of a scenario", None, words="there is no scenario yet"))
        return section
    say("pytest scenarios")
    with tempfile.TemporaryDirectory() as directory:
        junit = Path(directory, "junit.xml")
        began = time.monotonic()
        done = subprocess.run(
            [*ENDS_WITH_US, *PYTEST, ON, f"--artifacts={directory}", f"--junitxml={junit}"],
            cwd=ROOT,
            stdout=sys.stderr,
            env=ENVIRONMENT,
            check=False,
        )
        wall = time.monotonic() - began
        if not junit.exists():
            words = f"pytest ended with exit status {done.returncode}"
            section.rows.append(Row("mean time of a scenario", None, words=words))
            return section
        section.rows += rows(ElementTree.parse(junit).getroot(), wall)
    return section


def rows(report: ElementTree.Element, wall: float) -> list[Row]:
    cases = [case for case in report.iter("testcase") if case.find("skipped") is None]
    skipped = sum(1 for case in report.iter("testcase")) - len(cases)
    failed = [case for case in cases if case.find("failure") is not None]
    failed += [case for case in cases if case.find("error") is not None]
    times = {f"{case.get('classname')}.{case.get('name')}": _time(case) for case in cases}
    words = f"{len(cases)} scenarios in {wall:.0f} s, {len(failed)} failed, "
    words += f"{skipped} skipped or expected to fail (aim: under {TARGET:g} s)"
    rows = [Row("mean time of a scenario", Figure.of([wall / max(1, len(cases))]), words=words)]
    if times:
        rows.append(Row("  median", Figure.of([Figure.of(list(times.values())).median])))
    slowest = sorted(times, key=lambda name: -times[name])[:SLOWEST]
    rows += [Row("  among the slowest", Figure.of([times[name]]), words=name) for name in slowest]
    return rows


def _time(case: ElementTree.Element) -> float:
    return float(case.get("time", "0"))
