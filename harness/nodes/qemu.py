"""One QEMU process: its command line, its monitor (QMP), and how it ends.

Everything that goes in and out of it goes over sockets without a name, made before it starts: no
file is left, and no other process can reach them. QEMU's documentation: "Invocation", "QEMU Machine
Protocol", "Migration".
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.nodes.base import NodeError
from harness.nodes.disk import Disk
from harness.nodes.programs import ending_with_us

PROGRAM = "qemu-system-x86_64"
CARD = "card"
"""What network cards are called in a machine, with a number from 0 on."""
DISK_SET = 1
"""QEMU's number for the file descriptor of the disk; those of others that are attached follow."""
DISK_OPTIONS = "locking=off,discard=unmap,detect-zeroes=unmap"
"""What is zero takes no room. Nobody else has the file, and a lock on it would outlive the machine.
"""
SCSI = "scsi"
"""Where disks are attached while a machine runs."""
CARD_OPTIONS = "ctrl_rx=off,ctrl_rx_extra=off,ctrl_vlan=off"
"""What comes to a card goes in, whomever it is for: a filter in it would be one more place where a
frame can get lost, and nobody counts there."""
KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "rdinit=/init",
    "net.ifnames=0",  # eth0, eth1 …: in the order of the cards
    "panic=-1",  # with -no-reboot: a kernel that panics ends its machine
    "random.trust_cpu=on",
    "quiet",
)
EMULATED = ("norandmaps",)
"""More of them for an emulated processor: what it has translated of a library it can use again only
where the library lies at the same address in the next process, too."""
CPU = {"kvm": "host", "tcg": "max,-erms,-fsrm,-cx16"}
"""By accelerator. Emulated, the string instructions copy one byte after the other: a kernel that is
told that they are fast uses them for whole pages. A kernel that is told that there is no cmpxchg16b
does without: QEMU 7.2 works out the flags that it leaves alone from what they came from at some
earlier time (gen_cmpxchg16b() in target/i386/tcg/translate.c does not store it first; 8.0 has no
such helper), and an interrupt just behind it then had the content of RAX for flags. One machine of
1,500 died of it, by a double fault."""
_BOUND = 30.0
"""Seconds within which the monitor answers."""


class QemuError(NodeError):
    """QEMU did not do what was asked; the message has what it said."""


class Machine(NamedTuple):
    """What a virtual machine is made of. A clone and its template have the same."""

    kernel: Path
    initramfs: Path
    accelerator: str
    """``kvm`` or ``tcg``."""
    memory: int
    """MiB."""
    cards: int
    """Network cards."""


class Plugs(NamedTuple):
    """The outer ends of a machine: file descriptors that QEMU inherits."""

    channel: int
    monitor: int
    console: int
    disk: int
    """A file open for reading and writing."""
    cables: Sequence[int] = ()
    """Datagram sockets, a frame each, one for every network card that something is plugged into.
    The other cards have no carrier."""


def board(accelerator: str, memory: int) -> list[str]:
    """The options that every machine has, whatever is plugged into it; ``memory`` is in MiB."""
    emulated = accelerator == "tcg"
    arguments = KERNEL_ARGUMENTS + (EMULATED if emulated else ())
    line = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-machine", "q35,memory-backend=ram,vmport=off"]
    line += ["-accel", "tcg,thread=multi" if emulated else "kvm"]
    line += ["-cpu", CPU[accelerator], "-smp", "1", "-m", f"{memory}M"]
    return [*line, "-append", " ".join(arguments)]


def command_line(
    machine: Machine, ram: Path, plugs: Plugs, *, private: bool, incoming: bool
) -> list[str]:
    """QEMU's command line. ``ram`` is the file that the machine's memory is; with ``private`` what
    the machine writes stays its own. With ``incoming`` it waits for a state to go on from."""
    line = [PROGRAM, *board(machine.accelerator, machine.memory)]
    memory = f"size={machine.memory}M,mem-path={_escape(ram)},share={'off' if private else 'on'}"
    line += ["-object", f"memory-backend-file,id=ram,{memory}"]
    line += ["-kernel", str(machine.kernel), "-initrd", str(machine.initramfs)]
    line += ["-chardev", f"socket,id=console,fd={plugs.console}", "-serial", "chardev:console"]
    line += ["-chardev", f"socket,id=monitor,fd={plugs.monitor}", "-mon", "monitor,mode=control"]
    line += ["-chardev", f"socket,id=channel,fd={plugs.channel}"]
    line += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=channel,name=agent"]
    line += ["-add-fd", f"fd={plugs.disk},set={DISK_SET}"]
    line += [
        "-blockdev",
        f"driver=file,node-name=disk,filename=/dev/fdset/{DISK_SET},{DISK_OPTIONS}",
    ]
    line += ["-device", "virtio-blk-pci,drive=disk", "-device", f"virtio-scsi-pci,id={SCSI}"]
    for number in range(machine.cards):
        card = f"virtio-net-pci,{CARD_OPTIONS},romfile=,mac=52:54:00:00:00:{number:02x}"
        if number < len(plugs.cables):
            fd = plugs.cables[number]
            line += ["-netdev", f"dgram,id=cable{number},local.type=fd,local.str={fd}"]
            card += f",netdev=cable{number}"
        line += ["-device", f"{card},id={CARD}{number}"]
    return line + (["-incoming", "defer"] if incoming else [])


def _escape(path: Path) -> str:
    """A path as the value of an option: commas are doubled."""
    return str(path).replace(",", ",,")


class Qemu:
    """A running QEMU."""

    def __init__(
        self,
        machine: Machine,
        ram: Path,
        channel: socket.socket,
        console: socket.socket,
        disk: Disk,
        *,
        cables: Sequence[socket.socket] = (),
        private: bool,
        incoming: bool,
    ) -> None:
        """Start it. ``channel``, ``console`` and ``cables`` are the ends for the machine; they are
        still to be closed here, and so is ``disk``. Raise :class:`QemuError` when it does not
        start."""
        self._monitor, monitor = socket.socketpair()
        plugs = Plugs(
            channel.fileno(),
            monitor.fileno(),
            console.fileno(),
            disk.fileno(),
            [end.fileno() for end in cables],
        )
        line = ending_with_us(command_line(machine, ram, plugs, private=private, incoming=incoming))
        # A pipe would have to be read all the time, or QEMU waits once it is full.
        self._printed = os.fdopen(os.memfd_create("printed"), "w+b")
        with monitor:
            try:
                self.process = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._printed,
                    pass_fds=[*plugs[:4], *plugs.cables],
                    start_new_session=True,
                )
            except OSError as error:
                self._printed.close()
                self._monitor.close()
                raise QemuError(f"cannot start {line[0]}: {error.strerror}") from None
        self._lines = self._monitor.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._greeted = False
        self._asked: list[str] = []
        """The commands whose answers have not been read yet."""
        self.ask("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        """One command of the monitor, and what it returns. Raise :class:`QemuError`."""
        self.ask(command, **arguments)
        return self.answers()

    def ask(self, command: str, *, descriptors: Sequence[int] = (), **arguments: Any) -> None:
        """One command, not waited for, with file descriptors that QEMU is given duplicates of.
        Raise :class:`QemuError` when it has ended; but while other commands have not been answered,
        the answers will say that."""
        request = {"execute": command, "arguments": arguments}
        try:
            line = json.dumps(request).encode() + b"\n"
            socket.send_fds(self._monitor, [line], descriptors)
        except OSError as error:
            if self._greeted and not self._asked:
                raise self._ended(f"at {command} ({error})") from None
        self._asked.append(command)

    def answers(self) -> Any:
        """Wait for the answers to all commands so far; return the last one's. Raise
        :class:`QemuError` when one is refused."""
        if not self._greeted:
            if "QMP" not in self._read(_BOUND, "its greeting"):
                raise QemuError("QEMU's monitor did not greet")
            self._greeted = True
        returned = None
        while self._asked:
            answer = self._read(_BOUND, self._asked[0])
            if "error" in answer:
                refused = self._asked.pop(0)
                raise QemuError(f"QEMU refused {refused}: {answer['error']['desc']}")
            if "return" in answer:
                self._asked.pop(0)
                returned = answer["return"]
            else:
                self._events.append(answer)
        return returned

    def attach(self, descriptor: int, number: int) -> None:
        """Attach a disk that is read only, a file, as the SCSI device of this number. The
        descriptor is still to be closed. Raise :class:`QemuError`."""
        fds = {"fdset-id": DISK_SET + number}
        self.ask("add-fd", descriptors=[descriptor], **fds)
        name, file = f"attached{number}", f"/dev/fdset/{DISK_SET + number}"
        blockdev: dict[str, Any] = {"driver": "file", "node-name": name, "filename": file}
        blockdev |= {"locking": "off", "read-only": True}
        self.ask("blockdev-add", **blockdev)
        device = {"driver": "scsi-hd", "drive": name, "bus": f"{SCSI}.0", "scsi-id": number}
        self.do("device_add", **device)

    def migrated(self, bound: float) -> None:
        """Wait until the state that is being written or read is complete; ``bound`` is in seconds.
        Raise :class:`QemuError`."""
        self.answers()
        deadline = time.monotonic() + bound
        while True:
            while self._events:
                event = self._events.pop(0)
                if event.get("event") != "MIGRATION":
                    continue
                status = event["data"]["status"]
                if status == "completed":
                    return
                if status == "failed":
                    said = self.do("query-migrate").get("error-desc", "no reason given")
                    raise QemuError(f"QEMU could not pass the machine's state on: {said}")
            # A bound of 0 would mean not to wait at all.
            left = max(deadline - time.monotonic(), 0.001)
            self._events.append(self._read(left, "the end of a migration"))

    def _read(self, bound: float, what: str) -> dict[str, Any]:
        """The monitor's next message, which is to come within ``bound`` seconds."""
        self._monitor.settimeout(bound)
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise QemuError(f"QEMU was silent for {bound:.2g} s, waiting for {what}") from None
        except OSError:
            line = b""
        if not line:
            raise self._ended("by itself")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise QemuError(f"QEMU's monitor said {line[:200]!r}, waiting for {what}")
        return answer

    def _ended(self, when: str) -> QemuError:
        self.process.kill()
        self.process.wait()
        return QemuError(f"QEMU ended {when}: {self._said() or 'it printed nothing'}")

    def _said(self) -> str:
        """What it printed last."""
        if self._printed.closed:
            return ""
        self._printed.seek(0)
        return self._printed.read().decode(errors="replace").strip()[-2000:]

    def fate(self) -> str:
        """What ended it, in words, if it was not its machine. To be asked for when its streams
        have ended."""
        try:
            status = self.process.wait(timeout=_BOUND)
        except subprocess.TimeoutExpired:
            return "QEMU does not end"
        if status < 0:
            return f"QEMU was ended by {signal.Signals(-status).name}"
        return str(self._ended(f"with status {status}")) if status else ""

    def close(self) -> None:
        """End it. Idempotent."""
        self.process.kill()
        self.process.wait()
        self._printed.close()
        self._lines.close()
        self._monitor.close()
