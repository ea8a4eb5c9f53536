"""(f) Virtual machines: what cloning saves beside booting the same kernel and image."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Row, Say, Section
from benchmarks.processes import RunFailedError, harness
from harness.images import resolve
from harness.images.templates import Template, template
from harness.lab.stages import SWITCH
from harness.nodes import vm
from harness.nodes.vm import VmNode

IMAGE = "trixie"
BOOTS, CLONES, RUNS = 3, 9, 9
FIRST_FRAME, MEMORY = 1.5, 100
ASK = ("ovs-vsctl", "get", "Open_vSwitch", ".", "ovs_version")


def measure(say: Say) -> Section:
    """A template, clones of it, and a whole run of the harness on one."""
    made = template(resolve(IMAGE), SWITCH, progress=say)
    accelerator = made.machine.accelerator
    section = Section(f"{IMAGE}/vm/kernel, under {accelerator}", peer="plain boot of the same")
    with made.hold:
        boots = []
        for number in range(BOOTS):
            say(f"machines: boot {number + 1} of {BOOTS}")
            boots.append(_boot(made))
        clones = []
        for number in range(CLONES):
            say(f"machines: clone {number + 1} of {CLONES}")
            clones.append(_clone(made))
        firsts = []
        for number in range(RUNS):
            say(f"machines: first frame {number + 1} of {RUNS}")
            firsts.append(harness(f"{IMAGE}/vm/kernel", 1, 2, pairs=False).first)
    booted, running, written = (Figure.of(values) for values in zip(*boots, strict=True))
    awake, answered = (Figure.of([one[which] for one in clones]) for which in (0, 1))
    added = Figure.of([one[2] for one in clones], "MB")
    section.rows = [
        Row("a template, made once", written, words="booted, both daemons started, written"),
        Row("a machine of one's own", awake, booted, _times(booted, awake)),
        Row("  to the first answer of ovs-vsctl", answered, running, _times(running, answered)),
        Row(
            "1 switch, 2 hosts: first verified frame, from nothing",
            Figure.of(firsts),
            words=f"aim without KVM: at most {FIRST_FRAME} s",
        ),
        Row("memory that a clone adds", added, words=f"aim: at most {MEMORY} MB"),
    ]
    return section


def _boot(made: Template) -> tuple[float, float, float]:
    """Seconds from nothing until the agent answers, until the switch does, and until the template
    is written."""
    marks = []

    def prepare(node: VmNode) -> str:
        marks.append(time.monotonic())
        known = SWITCH.prepare(node)
        node.run(ASK)
        marks.append(time.monotonic())
        return known

    with tempfile.TemporaryDirectory(prefix="boot-", dir=made.path.parent) as place:
        began = time.monotonic()
        vm.make_template(made.machine, Path(place), prepare)
        written = time.monotonic()
    return marks[0] - began, marks[1] - began, written - began


def _clone(made: Template) -> tuple[float, float, float]:
    """Seconds until a clone is itself, and until its switch answers; and MB of its own."""
    began = time.monotonic()
    node = vm.clone("clone", made.machine, made.path).result()
    try:
        awake = time.monotonic()
        node.run(ASK)
        answered = time.monotonic()
        return awake - began, answered - began, _private(node.process)
    finally:
        node.close()


def _private(pid: int) -> float:
    """MB of memory that a process shares with no other and would have to be written to be freed
    (proc(5), ``smaps_rollup``)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "Private_Dirty":
            return int(rest.split()[0]) * 1024 / 1e6
    raise RunFailedError(f"the kernel does not say how much memory process {pid} has of its own")


def _times(peer: Figure, ours: Figure) -> str:
    return f"{peer.median / ours.median:.0f} times as fast"
