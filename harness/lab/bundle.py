"""What a failed scenario leaves behind: everything that it takes to see why, without the lab."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.lab.lab import Lab
from harness.nodes.base import Completed, NodeError
from harness.ovs import OvsError, Switch
from harness.ovs.configure import transaction
from harness.traffic import archive
from harness.traffic.batch import Sent

LONGEST_NAME = 120
MOST_TRACES = 32
"""Traces of one bundle: a batch of thousands of flows is not traced whole."""


def write(lab: Lab, reports: Path, name: str, *, rerun: Sequence[str], failure: str) -> Path:
    """Write the bundle of a failed scenario into a directory of its own under ``reports``.

    ``rerun`` is the command that runs it again, ``failure`` what pytest said. What can no longer
    be read, for a daemon or a node has died, is replaced by the reason. Returns the directory.
    """
    directory = reports / directory_name(name)
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    command = shlex.join(rerun)
    summary = f"{name}\n\nrun it again: {command}\ntarget: {lab.target}\nseed: {lab.seed}\n"
    (directory / "failure.txt").write_text(f"{summary}\n{failure}\n", encoding="utf-8")
    (directory / "commands.txt").write_text(_commands(lab.commands), encoding="utf-8")
    history = lab.history()
    archive.save(history, directory)
    for switch_name, switch in lab.switches.items():
        _write_switch(directory / switch_name, switch, history.about.unread.get(switch_name))
        said = lab.node(switch_name).kernel_said
        if said:
            (directory / switch_name / "console.txt").write_text(said, encoding="utf-8")
    (directory / "traces.txt").write_text(_traces(lab), encoding="utf-8")
    return directory


def directory_name(test: str) -> str:
    """A file name for a test: what is no letter, digit, dot or dash becomes one underscore."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", test).strip("_")[-LONGEST_NAME:]


def _commands(commands: Sequence[Completed]) -> str:
    lines = []
    for done in commands:
        where = done.node if done.host is None else f"{done.node}, host {done.host}"
        lines.append(f"{where}: {shlex.join(done.argv)}")
        lines.append(f"    exit status {done.status} after {done.duration:.3f} s")
        lines += [f"    {line}" for line in (done.stdout + done.stderr).splitlines()]
    return "\n".join(lines) + "\n"


def _write_switch(directory: Path, switch: Switch, logs_unread: str | None) -> None:
    """Write all that the history has not: the logs are in its place already."""
    directory.mkdir(exist_ok=True)
    bridges = [bridge.name for bridge in switch.spec.bridges]
    reads: dict[str, Callable[[], str]] = {
        "configure.sh": lambda: shlex.join(["ovs-vsctl", *_configuration(switch)]) + "\n",
        "show.txt": lambda: switch.vsctl("show"),
        "interfaces.txt": lambda: switch.vsctl("list", "Interface"),
        "datapath.txt": lambda: switch.dpctl("show") + switch.appctl("dpctl/dump-flows", "-m"),
        "links.txt": lambda: switch.node.run(["ip", "-s", "address"]).stdout,
        "state.json": lambda: _saved_state(switch, directory),
        "openflow.txt": lambda: "\n".join(_openflow(switch, bridge) for bridge in bridges),
        "mac-table.txt": lambda: "\n".join(switch.unixctl("fdb/show", name) for name in bridges),
    }
    for name, read in reads.items():
        text = _or_reason(read)
        if text:
            (directory / name).write_text(text, encoding="utf-8")
    if logs_unread is not None:
        text = f"could not be read: {logs_unread}\n"
        (directory / "daemons.log").write_text(text, encoding="utf-8")


def _configuration(switch: Switch) -> list[str]:
    """What the lab had the switch be, for whoever wants to try it by hand."""
    return transaction(switch.spec, switch.datapath).words()


def _saved_state(switch: Switch, directory: Path) -> str:
    switch.state().save(directory / "state.json")
    return ""


def _openflow(switch: Switch, bridge: str) -> str:
    text = f"# {bridge}\n"
    for dump_command in ("dump-flows", "dump-groups", "dump-meters", "dump-ports"):
        arguments = ["-O", "OpenFlow15" if dump_command != "dump-flows" else "OpenFlow14"]
        said = _or_reason(lambda: switch.ofctl(*arguments, dump_command, bridge))  # noqa: B023
        text += f"## {dump_command}\n{said}\n"
    return text


def _or_reason(read: Callable[[], str]) -> str:
    try:
        return read()
    except (NodeError, OvsError) as error:
        return f"could not be read: {error}\n"


def _traces(lab: Lab) -> str:
    """What each switch says it does with the frames of the last batch (ofproto/trace)."""
    sent = lab.batches[-1].sent if lab.batches else []
    text = f"# only the first {MOST_TRACES} of {len(sent)} flows\n" * (len(sent) > MOST_TRACES)
    return text + "\n".join(_trace(lab, one) for one in sent[:MOST_TRACES])


def _trace(lab: Lab, sent: Sent) -> str:
    switch, bridge, port = lab.place_of(sent.source)
    said = _or_reason(
        lambda: switch.unixctl(
            "ofproto/trace", bridge, f"in_port={switch.ofport(port)}", sent.frame().hex()
        )
    )
    return f"# {sent.summary()}\n{said}\n"
