"""``pytest --keep-lab``: a failed scenario's lab stays up, says how to enter it, and waits."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.lab.environment import Environment

SCENARIO = """
import pytest
from harness import Lab, Topology


@pytest.fixture
def topology() -> Topology:
    topo = Topology("kept")
    topo.switch("s1").bridge("br0").host("h1", addresses=["10.0.0.1/24"])
    return topo


def test_fails(lab: Lab) -> None:
    assert lab.switches == {}


def test_comes_after_it() -> None:
    pass
"""
BOUND = 60.0


@contextmanager
def kept(directory: Path, stdin: int) -> Iterator[subprocess.Popen[str]]:
    """A run whose first scenario fails."""
    (directory / "test_kept.py").write_text(SCENARIO)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--keep-lab"]
    with subprocess.Popen(
        command, cwd=directory, stdin=stdin, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def entrances(process: subprocess.Popen[str], last: str) -> list[list[str]]:
    """The commands that the run prints, up to the words that begin ``last``'s line."""
    assert process.stdout is not None
    found = []
    line = ""
    while not line.startswith(last):
        # What input() prints is no whole line, so it is looked for at the end of what there is.
        letter = process.stdout.read(1)
        assert letter, "the run has ended"
        line += letter
        if letter == "\n":
            if line.startswith("  nsenter "):
                found.append(shlex.split(line))
            line = ""
    return found


def test_without_a_terminal_it_waits_for_a_signal(ready: Environment, tmp_path: Path) -> None:
    del ready
    with kept(tmp_path, subprocess.DEVNULL) as process:
        switch, host = entrances(process, "Nobody can: SIGINT or SIGTERM")
        for argv, interface in ((switch, "h1"), (host, "10.0.0.1/24")):
            done = subprocess.run(
                argv,
                input="ip -br address",
                capture_output=True,
                text=True,
                timeout=BOUND,
                check=True,
            )
            assert interface in done.stdout
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND) == 128 + signal.SIGTERM
        assert process.stdout is not None
        said = process.stdout.read()
    assert "--keep-lab: ended by SIGTERM" in said
    assert "EOFError" not in said


def test_at_a_terminal_it_waits_for_enter(ready: Environment, tmp_path: Path) -> None:
    del ready
    ours, theirs = os.openpty()
    with kept(tmp_path, theirs) as process:
        os.close(theirs)
        assert len(entrances(process, "Press Enter to end it.")) == 2
        os.write(ours, b"\n")
        assert process.wait(BOUND) == pytest.ExitCode.TESTS_FAILED
        assert process.stdout is not None
        assert "1 failed, 1 passed" in process.stdout.read()
    os.close(ours)
