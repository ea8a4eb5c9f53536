"""The VM backend: nodes with a kernel of their own, cloned from a template that has booted.

A template is a machine that was stopped when its agent was up: its memory is a file, its devices'
state another one. A clone goes on from there: it maps the memory file copy on write, so that many
share what none of them has changed. Nothing of it needs any privilege.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from harness.nodes import clock
from harness.nodes.base import NodeError, NodeLost
from harness.nodes.channel import Answer, Channel, unwatch, watch
from harness.nodes.disk import Disk
from harness.nodes.qemu import CARD, Machine, Qemu, QemuError
from harness.nodes.remote import RemoteNode

RAM, STATE, DISK = "ram", "state", "disk"
"""The files of a template."""
BOOT_BOUND = {"kvm": 30.0, "tcg": 300.0}
"""Seconds that a kernel may take to boot, by accelerator. Under KVM one that hangs is as good as
known: some machines have a /dev/kvm that no stock kernel boots with."""
PATIENCE = {"kvm": 1.0, "tcg": 6.0}
"""An emulated processor is 10 times as slow as a real one, but most of the time it waits."""
STATE_BOUND = 30.0
AWAKE_BOUND = 60.0
CONSOLE_KEPT = 1 << 20
"""Bytes of a console at most that are kept."""
TAIL = 15
"""Lines of it in an error."""
TROUBLE = re.compile(
    r"Kernel panic|\bOops\b|\bBUG:|\bKASAN\b|general protection fault|unable to handle kernel"
)
"""What a kernel says on its console when it is broken."""


class Cable(NamedTuple):
    """One end of an underlay at a machine: ``end`` is a datagram socket, a frame each."""

    interface: str
    mtu: int
    end: socket.socket


class Console:
    """What a machine's kernel says, from the very first line."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._said = bytearray()
        stream.setblocking(False)
        watch(stream, self.hear)

    @property
    def text(self) -> str:
        """Everything so far, or the end of it."""
        return self._said.decode(errors="replace").replace("\r\n", "\n")

    @property
    def trouble(self) -> str:
        """See :func:`trouble_in`."""
        return trouble_in(self.text)

    def tail(self) -> str:
        """Its last lines, for an error, and the one that says why the kernel is broken."""
        lines = self.text.strip().splitlines()[-TAIL:]
        why = self.trouble.partition("\n")[0]
        if why and why not in lines:
            lines = [why, "…", *lines]
        return "its console ended with:\n  " + "\n  ".join(lines or ["nothing"])

    def hear(self, _events: int = 0) -> None:
        """Take in what has been said by now."""
        while self._stream.fileno() >= 0:
            try:
                data = self._stream.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
            self._said += data
            del self._said[:-CONSOLE_KEPT]

    def close(self) -> None:
        """Listen no longer. Idempotent."""
        if self._stream.fileno() >= 0:
            unwatch(self._stream)
            self._stream.close()


def trouble_in(said: str) -> str:
    """The first line on a console that says that the kernel is broken, and what follows it; else
    empty."""
    found = TROUBLE.search(said)
    if found is None:
        return ""
    start = said.rfind("\n", 0, found.start()) + 1
    return said[start : start + 4000]


class _Running(NamedTuple):
    """A machine that runs, as we see it."""

    qemu: Qemu
    channel: Channel
    console: Console

    def close(self) -> None:
        """End it. Idempotent."""
        self.channel.close()
        self.qemu.close()
        self.console.close()


class VmNode(RemoteNode):
    """A node that is a virtual machine."""

    def __init__(
        self,
        name: str,
        running: _Running,
        patience: float,
        disk: Disk,
        cables: Sequence[Cable] = (),
    ) -> None:
        """What is plugged in, and the disk, are the node's own from now on."""
        super().__init__(name, running.channel, pid=1)
        self.patience = patience
        self._disk, self._cables = disk, cables
        self._macs = [secrets.token_bytes(5) for _ in cables]
        self._said_before = ""
        self._be(running)

    def _be(self, running: _Running) -> None:
        self._running, self._attached = running, 0
        self.channel, self.console = running.channel, running.console
        self.channel.last_words = self._last_words
        self.channel.ended = self._ended

    @property
    def kernel_said(self) -> str:
        self.console.hear()
        return self._said_before + self.console.text

    @property
    def kernel_trouble(self) -> str:
        return trouble_in(self.kernel_said)

    def cut_power(self) -> None:
        """End the machine at once. The node can do nothing from then on, until :meth:`boot`."""
        self._said_before = f"{self.kernel_said}\n[power cut]\n"
        self._switch_off()

    def boot(self, machine: Machine, template: Path) -> StartingVm:
        """Give it power again: a machine that has just booted, with the disk, the cables and the
        network cards' addresses of the one before. Raise :class:`NodeError`."""
        for cable in self._cables:
            _forget_unread(cable.end)
        self._be(_go_on_from(self.name, machine, template, self._disk, self._cables))
        return self.wake()

    def wake(self) -> StartingVm:
        """A clone is a twin of its template: begin to give it a name, a time, network cards and
        random numbers of its own."""
        cards = [
            {
                "card": f"{CARD}{number}",
                "name": cable.interface,
                "mac": ":".join(f"{byte:02x}" for byte in (0x02, *mac)),
                "mtu": cable.mtu,
            }
            for number, (cable, mac) in enumerate(zip(self._cables, self._macs, strict=True))
        ]
        request: dict[str, Any] = {
            "name": self.name,
            "machine_id": secrets.token_hex(16),
            "cards": cards,
            "time_ns": time.time_ns(),
        }
        awake = self.channel.ask(
            "awake", request, secrets.token_bytes(64), what="wake up as itself", bound=AWAKE_BOUND
        )
        return StartingVm(self, awake)

    def has_begun(self) -> None:
        """Wait until QEMU has read all that the machine goes on from. Raise :class:`NodeError`."""
        try:
            self._running.qemu.migrated(STATE_BOUND)
        except QemuError as error:
            raise NodeError(f"{self.name}: {error}") from error

    @property
    def process(self) -> int:
        """QEMU's process id."""
        return self._running.qemu.process.pid

    def rest(self) -> None:
        self._running.qemu.do("stop")

    def go_on(self) -> None:
        self._running.qemu.do("cont")

    def attach(self, disk: int) -> int:
        """Attach a disk that is read only by its file descriptor, which is still to be closed.
        Return the number of the SCSI device that it is. Raise :class:`QemuError`."""
        self._running.qemu.attach(disk, self._attached + 1)
        self._attached += 1
        return self._attached

    def set_carrier(self, card: int, *, up: bool) -> None:
        """Let a network card have a carrier, or none. Raise :class:`QemuError`."""
        self._running.qemu.do("set_link", name=f"{CARD}{card}", up=up)

    def _last_words(self) -> str:
        # The console may have said more than has been heard so far.
        self.console.hear()
        fate = self._running.qemu.fate() if self.channel.lost is not None else ""
        return "".join(f"; {words}" for words in (fate, self.console.tail()) if words)

    def _switch_off(self) -> None:
        self.channel.last_words = str
        self._running.close()

    def close(self) -> None:
        """End the machine, and let go of its disk. Idempotent."""
        self._switch_off()
        self._disk.close()
        for cable in self._cables:
            cable.end.close()


class StartingVm:
    """A clone that is waking up."""

    def __init__(self, node: VmNode, awake: Answer) -> None:
        self._node, self._awake = node, awake

    def result(self) -> VmNode:
        """The node, once it is itself. To be asked for once; raises :class:`NodeError`."""
        try:
            self._node.has_begun()
            self._awake.result()
            _set_clock(self._node)
        except BaseException:
            self._node.close()
            raise
        return self._node

    def close(self) -> None:
        """End the machine. Idempotent."""
        self._node.close()


class _Ends:
    """The two streams between us and a machine. A context: the machine's ends are its own once
    it has started, and when it does not start, ours are closed too."""

    def __init__(self) -> None:
        self.ours, self.channel = socket.socketpair()
        self.said, self.console = socket.socketpair()

    def __enter__(self) -> _Ends:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        theirs = [self.channel, self.console]
        for end in theirs if kind is None else [*theirs, self.ours, self.said]:
            end.close()


def make_template(
    machine: Machine, directory: Path, prepare: Callable[[VmNode], str] = lambda _: ""
) -> str:
    """Boot ``machine``, do in it what ``prepare`` does, and write it to ``directory``, as a
    template. Returns what ``prepare`` does. Raise :class:`NodeError` with the end of its console
    when it does not boot within its bound, and what ``prepare`` raises."""
    with ExitStack() as undo:
        disk = Disk()
        undo.callback(disk.close)
        running = _start("template", machine, directory / RAM, disk)
        undo.callback(running.close)
        running.qemu.answers()
        undo.pop_all()
    node = VmNode("template", running, PATIENCE[machine.accelerator], disk)
    try:
        greeting = node.channel.ask("hello", {}, what="boot")
        greeting.result(BOOT_BOUND[machine.accelerator])
        known = prepare(node)
        state = directory / STATE
        _pass_state(running.qemu, state, "migrate", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        # It stops for that.
        running.qemu.migrated(STATE_BOUND)
        disk.save(directory / DISK)
        return known
    except NodeLost:
        raise
    except NodeError as error:
        raise NodeError(f"{error}; {node.console.tail()}") from error
    finally:
        node.close()


def _start(
    name: str, machine: Machine, ram: Path, disk: Disk, plugs: Sequence[socket.socket] | None = None
) -> _Running:
    """Start a machine that boots, or, with ``plugs``, that waits for a state to go on from."""
    cloned = plugs is not None
    with _Ends() as ends:
        qemu = Qemu(
            machine,
            ram,
            ends.channel,
            ends.console,
            disk,
            cables=plugs or (),
            private=cloned,
            incoming=cloned,
        )
        return _Running(qemu, Channel(name, ends.ours), Console(ends.said))


def _pass_state(qemu: Qemu, file: Path, command: str, flags: int) -> None:
    """Begin to write the devices' state, or to read it (``migrate-incoming``). The memory stays in
    its file. A machine that ran when its state was written runs when it has been read."""
    capabilities = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    qemu.ask("migrate-set-capabilities", capabilities=capabilities)
    descriptor = os.open(file, flags | os.O_CLOEXEC, 0o644)
    try:
        qemu.ask("getfd", descriptors=[descriptor], fdname="state")
    finally:
        os.close(descriptor)
    qemu.ask(command, uri="fd:state")


def clone(name: str, machine: Machine, template: Path, cables: Sequence[Cable] = ()) -> StartingVm:
    """Start a clone of the template in a directory, with a copy of its disk. What is plugged in is
    its own from then on. Raise :class:`NodeError`."""
    if len(cables) > machine.cards:
        raise NodeError(f"{name}: the machine has {machine.cards} network cards, not {len(cables)}")
    with ExitStack() as undo:
        disk = Disk(template / DISK)
        undo.callback(disk.close)
        running = _go_on_from(name, machine, template, disk, cables)
        undo.pop_all()
    return VmNode(name, running, PATIENCE[machine.accelerator], disk, cables).wake()


def _go_on_from(
    name: str, machine: Machine, template: Path, disk: Disk, cables: Sequence[Cable]
) -> _Running:
    """Begin to have a machine go on from where the template was stopped. QEMU takes a tenth of a
    second to start: everything is said to it at once, and listened to later."""
    running = _start(name, machine, template / RAM, disk, [cable.end for cable in cables])
    try:
        _pass_state(running.qemu, template / STATE, "migrate-incoming", os.O_RDONLY)
    except BaseException:
        running.close()
        raise
    return running


def _forget_unread(end: socket.socket) -> None:
    """What was sent to a machine that had no power, or that it had not read, is lost."""
    with suppress(BlockingIOError):
        while True:
            end.recv(1, socket.MSG_DONTWAIT)


def _set_clock(node: VmNode) -> None:
    """Set a machine's clock to ours, as exactly as can be told: time stamps of frames are compared
    between machines."""
    step = -clock.ahead(node.channel)
    node.channel.ask("clock", {"step": step}, what="set its clock").result()
