"""QEMU's command line, and what is said when it does not do what it is told. Instead of QEMU a
program of a few lines talks to the monitor."""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from harness.nodes import programs, qemu, vm
from harness.nodes.base import NodeError
from harness.nodes.disk import Disk
from harness.nodes.qemu import Machine, Plugs, Qemu, QemuError, command_line

MACHINE = Machine(Path("/k/vmlinuz"), Path("/t/initramfs"), "tcg", memory=512, cards=2)
PLUGS = Plugs(channel=5, monitor=6, console=7, disk=9, cables=[8])


def option(line: list[str], name: str) -> list[str]:
    """The values of every option of that name."""
    return [value for word, value in pairwise(line) if word == name]


def test_the_command_line_of_a_clone() -> None:
    line = command_line(MACHINE, Path("/t/ram"), PLUGS, private=True, incoming=True)
    # The kernel ends it with the harness.
    assert line[0] == qemu.PROGRAM
    assert option(line, "-object") == [
        "memory-backend-file,id=ram,size=512M,mem-path=/t/ram,share=off"
    ]
    assert option(line, "-accel") == ["tcg,thread=multi"]
    assert option(line, "-cpu") == [qemu.CPU["tcg"]]
    assert option(line, "-m") == ["512M"]
    assert option(line, "-kernel") == ["/k/vmlinuz"]
    assert option(line, "-initrd") == ["/t/initramfs"]
    assert option(line, "-incoming") == ["defer"]
    assert option(line, "-chardev") == [
        "socket,id=console,fd=7",
        "socket,id=monitor,fd=6",
        "socket,id=channel,fd=5",
    ]
    assert "-nodefaults" in line
    assert "-no-reboot" in line


def test_a_template_shares_its_memory_and_waits_for_nothing() -> None:
    line = command_line(MACHINE, Path("/t/ram"), PLUGS, private=False, incoming=False)
    assert option(line, "-object")[0].endswith(",share=on")
    assert "-incoming" not in line


def test_template_and_clone_have_the_same_devices() -> None:
    """What is plugged into them may differ: QEMU takes the state of no other devices."""
    plugs = Plugs(3, 4, 5, 6)
    template = command_line(MACHINE, Path("/t/ram"), plugs, private=False, incoming=False)
    clone = command_line(MACHINE, Path("/t/ram"), PLUGS, private=True, incoming=True)

    def devices(line: list[str]) -> list[str]:
        return [
            ",".join(part for part in value.split(",") if not part.startswith("netdev="))
            for value in option(line, "-device")
        ]

    assert devices(template) == devices(clone)
    assert sum(device.startswith("virtio-net-pci,") for device in devices(clone)) == MACHINE.cards
    for name in ("-machine", "-cpu", "-smp", "-m", "-append"):
        assert option(template, name) == option(clone, name)


@pytest.mark.parametrize("cables", [[], [8], [8, 9]])
def test_every_card_has_an_address_and_the_first_a_cable(cables: list[int]) -> None:
    plugs = PLUGS._replace(cables=cables)
    line = command_line(MACHINE, Path("/t/ram"), plugs, private=True, incoming=True)
    cards = [value for value in option(line, "-device") if value.startswith("virtio-net")]
    assert [card.rpartition("id=")[2] for card in cards] == ["card0", "card1"]
    assert ["netdev=" in card for card in cards] == [len(cables) > 0, len(cables) > 1]
    assert len({card.partition("mac=")[2][:17] for card in cards}) == 2
    assert option(line, "-netdev") == [
        f"dgram,id=cable{number},local.type=fd,local.str={fd}" for number, fd in enumerate(cables)
    ]


def test_a_comma_in_a_path_is_no_end_of_an_option() -> None:
    """Where QEMU takes a plain path, it is one: only values of options are split."""
    machine = MACHINE._replace(kernel=Path("/a,b/k"), initramfs=Path("/a,b/i"))
    line = command_line(machine, Path("/a,b/ram,c"), PLUGS, private=True, incoming=True)
    assert "mem-path=/a,,b/ram,,c,share=off" in option(line, "-object")[0]
    assert option(line, "-kernel") == ["/a,b/k"]
    assert option(line, "-initrd") == ["/a,b/i"]


def test_kvm_has_the_host_s_processor() -> None:
    line = command_line(
        MACHINE._replace(accelerator="kvm"), Path("/r"), PLUGS, private=True, incoming=True
    )
    assert option(line, "-accel") == ["kvm"]
    assert option(line, "-cpu") == ["host"]


# -- the conversation with the monitor

FAKE = """#!{python}
import json, os, re, signal, socket, sys
def stream(name):
    return socket.socket(fileno=int(re.search(f"id={{name}},fd=([0-9]+)", " ".join(sys.argv))[1]))
monitor, console = stream("monitor"), stream("console")
lines = monitor.makefile("r")
def say(**message):
    monitor.sendall(json.dumps(message).encode() + b"\\n")
def take(command):
    line = lines.readline()
    if not line:
        sys.exit()
    asked = json.loads(line)["execute"]
    assert asked == command, f"asked for {{asked}}, not {{command}}"
def done(*commands):
    for command in commands:
        take(command)
        say(**{{"return": {{}}}})
def greet():
    say(QMP={{}})
    done("qmp_capabilities")
def migration(status):
    say(event="MIGRATION", data={{"status": status}})
CAPABLE = "migrate-set-capabilities"
{script}
"""

Play = Callable[[str], None]


def children() -> set[int]:
    """The processes that this one has started and that have not been waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            found |= set(map(int, (task / "children").read_text().split()))
    return found


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Has a script be QEMU. In the end none is left, and no descriptor."""
    program = tmp_path / "qemu"
    monkeypatch.setattr(qemu, "PROGRAM", str(program))
    before = children(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number

    def script(text: str) -> None:
        program.write_text(FAKE.format(python=sys.executable, script=text))
        program.chmod(0o755)

    yield script
    assert (children(), len(os.listdir("/proc/self/fd"))) == before  # noqa: PTH208


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A machine's channel, console and disk. Our ends are just kept open."""
    pairs = socket.socketpair(), socket.socketpair()
    disk = Disk()
    yield pairs[0][1], pairs[1][1], disk
    disk.close()
    for pair in pairs:
        for end in pair:
            end.close()


Ends = tuple[socket.socket, socket.socket, Disk]


def started(ends: Ends) -> Qemu:
    one = Qemu(MACHINE, Path("/t/ram"), *ends, private=True, incoming=True)
    try:
        one.answers()
    except QemuError:
        one.close()
        raise
    return one


NO_START: dict[str, tuple[str, str]] = {
    "it ends with words": (
        "sys.exit('qemu: could not load kernel')",
        "^QEMU ended by itself: qemu: could not load kernel$",
    ),
    "it ends without": ("sys.exit(1)", "^QEMU ended by itself: it printed nothing$"),
    "it greets and ends": (
        "say(QMP={}); sys.exit('no such machine')",
        "^QEMU ended .*: no such machine$",
    ),
    "another program": (
        "monitor.sendall(b'220 ready\\n'); signal.pause()",
        r"^QEMU's monitor said b'220 ready\\n', waiting for its greeting$",
    ),
    "another protocol": (
        "monitor.sendall(b'[1]\\n'); signal.pause()",
        r"^QEMU's monitor said b'\[1\]\\n', waiting for its greeting$",
    ),
    "no greeting": ("say(hello=1); signal.pause()", "^QEMU's monitor did not greet$"),
    "refused": (
        "say(QMP={}); take('qmp_capabilities'); say(error={'desc': 'not you'}); signal.pause()",
        "^QEMU refused qmp_capabilities: not you$",
    ),
    "silent": ("signal.pause()", "^QEMU was silent for 0.3 s, waiting for its greeting$"),
}


@pytest.mark.parametrize("name", NO_START)
def test_what_does_not_start_is_one_error_and_no_process(
    play: Play, ends: Ends, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script, said = NO_START[name]
    if name == "silent":
        monkeypatch.setattr(qemu, "_BOUND", 0.3)
    play(script)
    with pytest.raises(QemuError, match=said):
        started(ends)


def test_it_greets_and_is_silent(play: Play, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    play("say(QMP={}); signal.pause()")
    one = Qemu(MACHINE, Path("/t/ram"), *ends, private=True, incoming=True)
    # How long it takes to start is another matter.
    select.select([one._monitor], [], [], qemu._BOUND)
    monkeypatch.setattr(qemu, "_BOUND", 0.1)
    with pytest.raises(QemuError, match="^QEMU was silent for 0.1 s, waiting for qmp_capabilities"):
        one.answers()
    one.close()


def test_there_is_no_qemu(play: Play, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    del play
    monkeypatch.setattr(qemu, "PROGRAM", "qemu-system-none")
    with pytest.raises(QemuError, match="QEMU ended by itself: .*qemu-system-none: not found"):
        started(ends)
    monkeypatch.setattr(programs, "started_by_main_thread", lambda: False)
    with pytest.raises(QemuError, match="cannot start qemu-system-none: No such file"):
        started(ends)


def test_commands_are_answered_whatever_is_said_between(play: Play, ends: Ends) -> None:
    play(
        "greet(); take('query-status'); say(event='STOP', data={}); say(**{'return': {'a': 1}});"
        "done('cont'); signal.pause()"
    )
    one = started(ends)
    assert one.do("query-status") == {"a": 1}
    assert one.do("cont") == {}
    one.close()
    one.close()
    with pytest.raises(QemuError, match=r"^QEMU ended at cont \(.*\): it printed nothing$"):
        one.do("cont")


def test_what_is_asked_at_once_is_done_in_order(play: Play, ends: Ends) -> None:
    """Also what is refused, and whatever else is said between."""
    play(
        "greet(); done('one'); say(event='STOP', data={}); take('two'); say(error={'desc': 'no'});"
        "take('three'); say(**{'return': 3}); take('four'); say(**{'return': 4}); signal.pause()"
    )
    with closing(Qemu(MACHINE, Path("/t/ram"), *ends, private=True, incoming=True)) as one:
        for command in ("one", "two", "three"):
            one.ask(command)
        with pytest.raises(QemuError, match="^QEMU refused two: no$"):
            one.answers()
        assert one.do("four") == 4


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("take('cont'); say(error={'desc': 'not now'}); signal.pause()", "^QEMU refused cont: not"),
        ("take('cont'); sys.exit('Bus error')", "^QEMU ended by itself: Bus error$"),
        ("signal.pause()", "^QEMU was silent for 0.3 s, waiting for cont$"),
    ],
)
def test_a_command_that_is_not_done(
    play: Play, ends: Ends, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    play(f"greet(); {script}")
    one = started(ends)
    monkeypatch.setattr(qemu, "_BOUND", 0.3)
    with pytest.raises(QemuError, match=said):
        one.do("cont")
    one.close()


def test_a_monitor_that_was_silent_is_not_talked_to_any_more(
    play: Play, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says later would be taken for the answer to something else."""
    play("greet(); signal.pause()")
    one = started(ends)
    monkeypatch.setattr(qemu, "_BOUND", 0.1)
    with pytest.raises(QemuError, match="silent"):
        one.do("cont")
    with pytest.raises(QemuError, match="QEMU ended"):
        one.do("stop")
    one.close()


# -- templates and clones

STATE = "done(CAPABLE, 'getfd', 'migrate-incoming')"
NOT_CLONED: dict[str, tuple[str, str]] = {
    "no QEMU": ("sys.exit('bad option')", "^n1: QEMU ended by itself: bad option$"),
    "refused": (
        "greet(); take(CAPABLE); say(error={'desc': 'unknown'}); signal.pause()",
        "^n1: QEMU refused migrate-set-capabilities: unknown$",
    ),
    "failed": (
        f"greet(); {STATE}; migration('setup'); migration('failed'); take('query-migrate');"
        "say(**{'return': {'error-desc': 'unknown section'}}); signal.pause()",
        "^n1: QEMU could not pass the machine's state on: unknown section$",
    ),
    "failed without a reason": (
        f"greet(); {STATE}; migration('failed'); done('query-migrate'); signal.pause()",
        "^n1: .*state on: no reason given$",
    ),
    "it ends while it reads the state": (
        f"greet(); {STATE}; sys.exit('Missing section footer')",
        "^n1: QEMU ended by itself: Missing section footer$",
    ),
    "never complete": (
        f"greet(); {STATE}; migration('active'); signal.pause()",
        "^n1: QEMU was silent for 0.[23]\\d* s, waiting for the end of a migration$",
    ),
}


@pytest.mark.parametrize("name", NOT_CLONED)
def test_what_can_not_be_cloned_is_one_error_and_nothing_is_left(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script, said = NOT_CLONED[name]
    for file in (vm.STATE, vm.DISK):
        (tmp_path / file).touch()
    monkeypatch.setattr(vm, "STATE_BOUND", 0.3)
    play(script)
    with pytest.raises(NodeError, match=said):
        vm.clone("n1", MACHINE, tmp_path).result()


NOT_MADE: dict[str, tuple[str, str]] = {
    "it ends": (
        "greet(); console.sendall(b'Linux version 6\\r\\nKernel panic: no init\\r\\n')",
        "^template: the node has ended, asked to boot; its console ended with:\n"
        "  Linux version 6\n  Kernel panic: no init$",
    ),
    "it hangs": (
        "greet(); console.sendall(b'Booting'); signal.pause()",
        "^template: no answer after .*boot.*; its console ended with:\n  Booting$",
    ),
    "its disk is full": (
        "greet(); os.kill(os.getpid(), signal.SIGBUS)",
        "^template: the node has ended, asked to boot; QEMU was ended by SIGBUS; its console ",
    ),
    "QEMU gives up": (
        "greet(); sys.exit('qemu: fatal: Trying to execute code outside RAM')",
        "asked to boot; QEMU ended with status 1: qemu: fatal: Trying .* RAM; its console ended",
    ),
    "it says nothing": (
        "greet()",
        "^template: the node has ended, asked to boot; its console ended with:\n  nothing$",
    ),
}


@pytest.mark.parametrize("name", NOT_MADE)
def test_a_machine_that_does_not_boot_says_what_its_console_said(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script, said = NOT_MADE[name]
    monkeypatch.setattr("harness.nodes.channel.GRACE", 0.5)
    monkeypatch.setitem(vm.BOOT_BOUND, "tcg", 0.5)
    play(script)
    with pytest.raises(NodeError, match=said):
        vm.make_template(MACHINE, tmp_path)


def test_more_cables_than_cards(tmp_path: Path) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other, pytest.raises(NodeError, match="n1: the machine has 2 network cards, not 3"):
        vm.clone("n1", MACHINE, tmp_path, [vm.Cable("eth0", 1500, one)] * 3)
