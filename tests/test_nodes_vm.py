"""Virtual machines as nodes: each is itself, does what nodes do, and ends with the harness."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.images import ImageError, kernel, resolve
from harness.images.templates import Template, template
from harness.lab.stages import SWITCH
from harness.nodes import vm
from harness.nodes.base import CommandFailed, NodeError, NodeLost
from harness.nodes.channel import pump
from harness.nodes.vm import Cable, Console, VmNode
from harness.polling import eventually

BOUND = 30.0
CLOCK = 50_000_000
"""Nanoseconds that a machine's clock may be beside ours."""


@pytest.fixture(scope="module")
def made() -> Iterator[Template]:
    """The template that scenarios run on, made now if need be. Where that can't be, skips with what
    is missing, but not in CI."""
    try:
        image = resolve("trixie")
        with image.hold():
            found = template(image, SWITCH)
            with found.hold:
                yield found
    except ImageError as lacking:
        if os.environ.get("CI"):
            pytest.fail(str(lacking), pytrace=False)
        pytest.skip(str(lacking))


Clone = Callable[..., VmNode]


@pytest.fixture
def clone(made: Template) -> Iterator[Clone]:
    """Starts machines that end with the test, with a cable for every name of an interface, whose
    other end is given."""
    with ExitStack() as later:

        def start(name: str, **cables: socket.socket) -> VmNode:
            plugs = [Cable(interface, 1500, end) for interface, end in cables.items()]
            node = vm.clone(name, made.machine, made.path, plugs).result()
            later.callback(node.close)
            return node

        yield start


@pytest.fixture(scope="module")
def node(made: Template) -> Iterator[VmNode]:
    """One machine, for tests that leave it as it is."""
    started = vm.clone("n1", made.machine, made.path).result()
    yield started
    started.close()


def below(pid: int) -> list[int]:
    """All processes that descend from one."""
    found = [pid]
    for entry in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{entry}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found[1:]


def running(pids: list[int]) -> list[int]:
    """Those that have not ended; a zombie has."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def gone(pids: list[int]) -> None:
    eventually(lambda: running(pids), lambda left: not left, within=BOUND, what="they are gone")


# -- each is itself


def test_two_clones_are_no_twins(clone: Clone) -> None:
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with ExitStack() as later:
        for end in (end for pair in ends for end in pair):
            later.enter_context(end)
        one = clone("hv1", eth0=ends[0][0], eth1=ends[1][0])
        other = clone("hv2", eth0=ends[0][1], eth1=ends[1][1])
        twins = (one, other)

        def differ(*argv: str) -> set[str]:
            said = {node.run(argv).stdout for node in twins}
            assert len(said) == 2, f"both say {said}"
            return said

        assert differ("hostname") == {"hv1\n", "hv2\n"}
        assert "127.0.1.1 hv2\n" in other.read_file("/etc/hosts").decode()
        for machine_id in differ("cat", "/etc/machine-id"):
            assert re.fullmatch(r"[0-9a-f]{32}\n", machine_id)
        differ("od", "-An", "-tx1", "-N16", "/dev/urandom")
        differ("cat", "/proc/sys/kernel/random/uuid")
        # Of the same boot, but the kernel draws this only when somebody asks for it.
        differ("cat", "/proc/sys/kernel/random/boot_id")
        macs = [
            node.read_file(f"/sys/class/net/{interface}/address").decode().strip()
            for node in twins
            for interface in ("eth0", "eth1")
        ]
        assert len(set(macs)) == 4
        assert all(mac.startswith("02:") for mac in macs)
        # What is plugged in carries frames.
        for number, node in enumerate(twins, 1):
            node.run(["ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth0"])
            node.run(["ip", "link", "set", "eth0", "up"])
        one.run(["ping", "-c1", "-W5", "192.0.2.2"])
        for up in (False, True):
            other.set_carrier(0, up=up)
            carrier = f"{int(up)}\n".encode()
            eventually(
                lambda: other.read_file("/sys/class/net/eth0/carrier"),
                carrier.__eq__,
                within=BOUND,
                what="the carrier",
            )


def test_its_clock_is_ours(clone: Clone) -> None:
    """It had stood still since the template was made."""
    node = clone("n1")
    before = time.time_ns()
    there = node.channel.ask("clock", {"step": 0}, what="tell the time").result()
    after = time.time_ns()
    assert before - CLOCK < there < after + CLOCK


# -- what nodes do


def test_a_machine_that_rests_has_no_time(clone: Clone) -> None:
    """Its processor costs nothing then; afterwards it goes on where it was."""
    node = clone("n1")
    node.rest()
    asked = node.channel.ask("clock", {"step": 0}, what="tell the time")
    assert not pump(5 * CLOCK / 1e9)
    node.go_on()
    there = asked.result()
    assert time.time_ns() - there > 4 * CLOCK
    assert node.run(["true"]).status == 0


def test_it_runs_the_image_s_own_kernel(node: VmNode, made: Template) -> None:
    release = kernel.version(made.machine.kernel.parent)
    assert node.run(["uname", "-r"]).stdout == f"{release}\n"
    assert node.exists("/sys/module/openvswitch")
    assert node.try_open("/dev/net/tun") is None
    assert node.run(["modprobe", "8021q"]).status == 0


def test_commands_and_files(node: VmNode) -> None:
    assert node.run(["cat"], stdin=b"\0\xff" * 1000).stdout.startswith("\0")
    with pytest.raises(CommandFailed, match="n1: `ls /none` exited 2: .*No such file"):
        node.run(["ls", "/none"])
    content = os.urandom(1 << 18)
    node.write_file("/root/file", content, 0o640)
    assert node.read_file("/root/file") == content
    assert node.run(["stat", "-c%a %U", "/root/file"]).stdout == "640 root\n"
    assert node.read_files(["/root/file", "/none"]) == [content, None]
    with pytest.raises(NodeLost, match=r"`sleep 60` did not end within 0.2 s and was killed"):
        node.run(["sleep", "60"], timeout=0.2)
    pending = [node.run_soon(["echo", str(number)]) for number in range(5)]
    assert [int(one.result().stdout) for one in pending] == list(range(5))


def test_hosts_live_in_it(node: VmNode) -> None:
    node.add_spaces(["h1"]).result()
    assert "lo" in node.run(["ls", "/sys/class/net"], host="h1").stdout
    node.remove_spaces(["h1"]).result()


def test_a_port_may_be_called_as_hosts_call_their_interface(node: VmNode) -> None:
    """Kernels before 6.15 look for the name of a new pair's first end where they are asked."""
    node.add_spaces(["h1", "h2"]).result()
    pairs = [{"do": "veth", "name": name, "peer": "eth0"} for name in ("eth0", "tap0")]
    node.change_links(
        [pair | {"peer_space": space} for pair, space in zip(pairs, ("h1", "h2"), strict=True)]
    ).result()
    for space in ("h1", "h2"):
        assert "eth0" in node.run(["ls", "/sys/class/net"], host=space).stdout
    node.remove_spaces(["h1", "h2"]).result()


ASK_FOR = """\
import fcntl, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8913, struct.pack("40s", sys.argv[1].encode()))  # SIOCGIFFLAGS
"""


@pytest.mark.parametrize(
    ("interface", "module"), [("gre0", "ip_gre"), ("dummy", "dummy"), ("nlmon0", "")]
)
def test_the_kernel_loads_what_an_interface_is_asked_for(
    clone: Clone, interface: str, module: str
) -> None:
    """By an alias of its own, by the module's name, or nothing (dev_load() in dev_ioctl.c)."""
    node = clone("n1")
    before = node.run(["cut", "-d", " ", "-f", "1", "/proc/modules"]).stdout.split()
    node.run(["python3", "-c", ASK_FOR, interface], check=False)
    after = node.run(["cut", "-d", " ", "-f", "1", "/proc/modules"]).stdout.split()
    assert (module in after) == bool(module)
    assert bool(set(after) - set(before)) == bool(module)


def test_the_kernel_loads_what_else_it_needs(node: VmNode) -> None:
    assert not node.exists("/sys/module/ifb")
    node.run(["ip", "link", "add", "trial", "type", "ifb"])
    assert node.exists("/sys/module/ifb")
    node.run(["ip", "link", "del", "trial"])


# -- its console


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("", ""),
        ("[ 1.0] all is well\r\n[ 2.0] bugs: none, oopsie\r\n", ""),
        ("a\r\n[ 2.0] BUG: soft lockup - CPU#0\r\nafter\r\n", "[ 2.0] BUG: soft lockup - CPU#0\na"),
        ("[ 2.0] Oops: 0002 [#1] SMP\r\n", "[ 2.0] Oops: 0002 [#1] SMP\n"),
        ("x\n[ 2.0] Kernel panic - not syncing: y\n", "[ 2.0] Kernel panic - not syncing: y\n"),
        ("[ 2.0] ==\n[ 2.1] BUG: KASAN: use-after-free", "[ 2.1] BUG: KASAN: use-after-free"),
        ("[ 2.0] general protection fault, probably for", "[ 2.0] general protection fault, pr"),
    ],
)
def test_what_a_broken_kernel_says(said: str, trouble: str) -> None:
    ours, theirs = socket.socketpair()
    console = Console(ours)
    with theirs:
        theirs.sendall(said.encode())
    eventually(lambda: pump(0) or ours.fileno() < 0, within=BOUND, what="it was heard")
    console.hear()
    assert console.trouble.startswith(trouble)
    assert bool(console.trouble) is bool(trouble)
    console.close()


def test_a_console_is_remembered_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "CONSOLE_KEPT", 100)
    ours, theirs = socket.socketpair()
    console = Console(ours)
    with theirs:
        theirs.sendall(b"".join(b"line %d\n" % number for number in range(1000)))
        console.hear()
    assert len(console.text) == 100
    assert console.tail().endswith("  line 998\n  line 999")
    console.close()
    console.close()


def test_the_end_of_a_console_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that panics says much after that."""
    monkeypatch.setattr(vm, "TAIL", 3)
    ours, theirs = socket.socketpair()
    console = Console(ours)
    assert console.tail() == "its console ended with:\n  nothing"
    with theirs:
        theirs.sendall(b"boot\r\nKernel panic: no init\r\n")
        console.hear()
        assert console.tail().endswith(":\n  boot\n  Kernel panic: no init")
        theirs.sendall(b"one\ntwo\nthree\n")
        console.hear()
    assert console.tail().endswith(":\n  Kernel panic: no init\n  …\n  one\n  two\n  three")
    console.close()


def test_trouble_is_seen_while_the_machine_lives(clone: Clone) -> None:
    node = clone("n1")
    assert node.console.trouble == ""
    node.run(["sh", "-c", "echo '<0>BUG: just a test' >/dev/kmsg"])

    def trouble() -> str:
        pump(0)
        return node.console.trouble

    eventually(trouble, lambda said: "BUG: just a test\n" in said, within=BOUND, what="it is heard")
    assert node.run(["echo", "alive"]).stdout == "alive\n"


# -- life and death


def test_a_panic_is_the_end_of_the_node(clone: Clone) -> None:
    before = below(os.getpid())
    node = clone("n1")
    ends: list[str] = []
    node.on_end(lambda: ends.append(node.name))
    with pytest.raises(NodeLost) as info:
        node.run(["sh", "-c", "echo c >/proc/sysrq-trigger"])
    said = str(info.value)
    assert said.startswith("n1: the node has ended, asked to run `sh -c 'echo c >/proc/sysrq")
    head, _, tail = said.partition("; its console ended with:\n")
    assert "Kernel panic - not syncing: sysrq triggered crash" in tail
    assert "console" not in head
    assert ends == ["n1"]
    assert "Kernel panic" in node.console.trouble
    with pytest.raises(NodeLost, match=r"the node has ended; asked to run `true`.*console"):
        node.run(["true"])
    gone([pid for pid in below(os.getpid()) if pid not in before])
    with pytest.raises(NodeError, match="QEMU ended at set_link"):
        node.set_carrier(0, up=False)


def test_to_close_it_ends_it(clone: Clone) -> None:
    before = below(os.getpid())
    node = clone("n1")
    waiting = node.run_soon(["sleep", "100"], timeout=200)
    node.close()
    node.close()
    gone([pid for pid in below(os.getpid()) if pid not in before])
    with pytest.raises(NodeLost, match="^n1: closed, asked to run `sleep 100`$"):
        waiting.result()


def test_a_machine_that_has_stopped_is_told_within_its_bound(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = below(os.getpid())
    node = clone("n1")
    (qemu,) = (pid for pid in below(os.getpid()) if pid not in before)
    monkeypatch.setattr("harness.nodes.channel.GRACE", 0.5)
    os.kill(qemu, signal.SIGSTOP)
    with pytest.raises(NodeLost, match="^n1: no answer after .*read /etc/hosts.*; its console"):
        node.read_file("/etc/hosts")
    node.close()
    gone([qemu])


HARNESS = """
import signal, sys, threading
from pathlib import Path
import msgspec
from harness.nodes import vm
from harness.nodes.qemu import Machine

machine = msgspec.json.decode(sys.argv[1], type=Machine, dec_hook=lambda kind, text: kind(text))
path, thread, what = Path(sys.argv[2]), sys.argv[3], sys.argv[4]

def start():
    if what == "boot":
        print("boots", flush=True)
        vm.make_template(machine, path)
    nodes = [vm.clone(f"n{number}", machine, path) for number in range(2)]
    if what == "live":
        nodes = [node.result() for node in nodes]
        nodes[0].run_soon(["sh", "-c", "trap '' HUP TERM; sleep 1000"], timeout=2000)
    print("has them", flush=True)
    signal.pause() if thread == "main" else threading.Event().wait()

if thread == "main":
    start()
else:
    threading.Thread(target=start).start()
"""


@pytest.mark.parametrize(
    ("thread", "what"),
    [("main", "boot"), ("main", "wake"), ("main", "live"), ("main", "stop"), ("other", "live")],
)
def test_nothing_outlives_the_harness(
    made: Template, tmp_path: Path, thread: str, what: str
) -> None:
    """Killed while it boots a machine, wakes clones, has them; also when QEMU itself has stopped.
    What the main thread started is ended by the kernel; else the agent in the machine does it."""
    import msgspec

    directory = tmp_path if what == "boot" else made.path
    machine = msgspec.json.encode(made.machine, enc_hook=str).decode()
    argv = [sys.executable, "-c", HARNESS, machine, str(directory), thread]
    argv.append("live" if what == "stop" else what)
    wanted = 1 if what == "boot" else 2
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as harness:
        try:
            assert harness.stdout is not None
            harness.stdout.readline()
            machines = eventually(
                lambda: below(harness.pid),
                lambda found: len(found) == wanted,
                within=BOUND,
                what="its machines",
            )
            if what == "stop":
                for pid in machines:
                    os.kill(pid, signal.SIGSTOP)
        finally:
            harness.kill()
    gone(machines)


# -- what does not boot


def test_garbage_is_no_kernel(made: Template, tmp_path: Path) -> None:
    before = below(os.getpid())
    garbage = tmp_path / "vmlinuz"
    garbage.write_bytes(os.urandom(100_000))
    with pytest.raises(NodeError, match="^QEMU ended .*kernel"):
        vm.make_template(made.machine._replace(kernel=garbage), tmp_path)
    gone([pid for pid in below(os.getpid()) if pid not in before])
    assert not (tmp_path / vm.STATE).exists()


def test_a_kernel_that_finds_nothing_to_run(made: Template, tmp_path: Path) -> None:
    """It panics: the error has what it said."""
    before = below(os.getpid())
    garbage = tmp_path / "initramfs"
    garbage.write_bytes(b"no archive")
    with pytest.raises(NodeError) as info:
        vm.make_template(made.machine._replace(initramfs=garbage), tmp_path)
    said = str(info.value)
    assert said.startswith("template: the node has ended, asked to boot; its console ended with:")
    assert "Kernel panic - not syncing" in said
    assert said.count("its console") == 1
    gone([pid for pid in below(os.getpid()) if pid not in before])


def test_a_state_that_is_none(made: Template, tmp_path: Path) -> None:
    before = below(os.getpid())
    for name in (vm.RAM, vm.DISK):
        (tmp_path / name).symlink_to(made.path / name)
    (tmp_path / vm.STATE).write_bytes(b"no state of a machine")
    with pytest.raises(NodeError, match=r"^n1: QEMU (ended|could not pass)"):
        vm.clone("n1", made.machine, tmp_path).result()
    gone([pid for pid in below(os.getpid()) if pid not in before])
