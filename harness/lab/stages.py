"""How far a template of virtual machines has come when it is to be a switch's node."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from harness.images.templates import Stage
from harness.nodes import disk
from harness.nodes.remote import RemoteNode
from harness.ovs import daemons, layout, options
from harness.ovs.tasks import Task

SPARE_SPACES = 4
"""Network namespaces that are there already when a clone makes its hosts: to make the first takes
an emulated processor 70 ms."""
OWN_FILES = ("/etc/hosts", "/etc/machine-id")
"""What each clone writes: on the disk of the template already, so that it has not to be copied
there first."""


def _start_daemons(node: RemoteNode) -> str:
    disk.set_up(node)
    disk.mount(node)
    installed = layout.find(node)
    usual = daemons.usual(installed, "template", "system")
    started = Task(daemons.start(node, installed, usual)).result()
    node.keep_spaces(SPARE_SPACES).result()
    for path in OWN_FILES:
        node.write_file(path, "\n")
    node.run(["sync"])
    return msgspec.json.encode(daemons.Running(installed, started)).decode()


def running(known: str) -> daemons.Running | None:
    """The daemons that run in clones of a template, of which its stage said this."""
    return msgspec.json.decode(known, type=daemons.Running) if known else None


def _digest(*files: str) -> str:
    return hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files)).hexdigest()


SWITCH = Stage(
    "switch",
    _digest(__file__, disk.__file__, daemons.__file__, layout.__file__, options.__file__),
    _start_daemons,
)
"""Both daemons run, with their files on a disk: it takes an emulated processor seconds."""
