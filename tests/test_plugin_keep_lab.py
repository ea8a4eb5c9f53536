"""``--keep-lab``: a lab whose scenario has failed stays up until somebody says that it may end."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

FAILS = """
import pytest
from harness import Topology

@pytest.fixture
def topology():
    topo = Topology("small")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("a")
    bridge.host("b", tag=5)
    return topo

def test_it(lab):
    assert lab.probe("a", to="b").heard_at == {"b"}
"""


class Kept:
    """A run of pytest that keeps its lab up."""

    def __init__(self, directory: Path, stdin: int) -> None:
        (directory / "test_x.py").write_text(FAILS)
        options = ["-p", "no:cacheprovider", "--keep-lab"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            cwd=directory,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def until(self, last: str) -> str:
        """What it has printed, once it has printed ``last``."""
        assert self.process.stdout is not None
        out = self.process.stdout.fileno()
        while last not in self.said:
            ready, _, _ = select.select([out], [], [], 60)
            more = os.read(out, 1 << 16).decode() if ready else ""
            assert more, f"it did not say {last!r}:\n{self.said}"
            self.said += more
        return self.said

    def end(self) -> str:
        """All that it has printed until it ended."""
        return self.said + self.process.communicate(timeout=60)[0]


@pytest.fixture
def keep(tmp_path: Path, ready: object) -> Iterator[Callable[[int], Kept]]:
    del ready
    with ExitStack() as later:

        def keep(stdin: int) -> Kept:
            kept = Kept(tmp_path, stdin)
            later.callback(kept.process.communicate)
            later.callback(kept.process.kill)
            return kept

        yield keep


def test_keep_lab_says_how_to_enter_and_enter_ends_it(keep: Callable[[int], Kept]) -> None:
    ours, terminal = os.openpty()
    try:
        kept = keep(terminal)
        said = kept.until("Press Enter to end it.")
        assert "The lab of small is still up. Enter its switches and hosts with:" in said
        shells = re.findall(r"^  (nsenter .*|unshare .*)$", said, re.MULTILINE)
        # One switch and two hosts.
        assert len(shells) == 3
        inside = subprocess.run(
            shlex.split(shells[0]), input="hostname\n", stdout=subprocess.PIPE, text=True
        )
        assert "s1" in inside.stdout
        os.write(ours, b"\n")
        assert "1 failed" in kept.end()
        assert kept.process.returncode == 1
    finally:
        os.close(ours)
        os.close(terminal)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_keep_lab_without_a_terminal_waits_for_a_signal(
    keep: Callable[[int], Kept], end: signal.Signals
) -> None:
    kept = keep(subprocess.DEVNULL)
    kept.until("ends it, and the run.")
    assert kept.process.poll() is None
    kept.process.send_signal(end)
    assert f"--keep-lab: ended by {end.name}" in kept.end()
    assert kept.process.returncode == 128 + end
