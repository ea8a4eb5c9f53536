"""Nothing outlives the harness: a process with a lab under traffic is ended in every way there is,
and then the machine is looked at. This process adopts all orphans of the one that it ends
(prctl(2), PR_SET_CHILD_SUBREAPER), so that none can hide from it."""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.images.cache import images_directory
from harness.lab.environment import Environment
from harness.polling import eventually

SCRIPT = """
import sys
from pathlib import Path
from harness.lab import Lab, Target
from harness.lab.environment import Environment, fabric, namespaces
from harness.topology import Topology

how, target, *lower = sys.argv[1:]
topo = Topology("doomed")
wire, hub = topo.underlay("wire"), topo.underlay("hub")
for n in (1, 2, 3):
    bridge = topo.switch(f"hv{n}").bridge("br0")
    if n < 3:
        bridge.uplink(wire)
        bridge.host(f"h{n}", addresses=[f"10.0.0.{n}/24"])
    topo._switches[-1].bridge("br1").uplink(hub)
print("begins", flush=True)
target = Target.parse(target)
site = namespaces(target, fabric(), [Path(path) for path in lower])
with Lab(topo, Environment(target, None, site, None)) as lab:
    print("is up", flush=True)
    with lab.traffic(rate=3000, pairs=[("h1", "h2"), ("h2", "h1")]):
        ping = lab.host("h1").start("ping -i 0.01 10.0.0.2", timeout=60)
        lab.switch("hv1").node.run(["sh", "-c", "setsid sleep 600 & exit 0"])
        print("flows", flush=True)
        if how == "raise":
            raise RuntimeError("as planned")
        ping.result()
"""
PR_SET_CHILD_SUBREAPER = 36
NAMESPACES = ("net", "pid", "mnt", "user", "uts", "ipc")
BOUND = 20.0
"""Seconds for the kernel to take everything down, on a busy machine."""
NOBODY = 65534

Process = tuple[int, str]
"""A process id and when the process started: together they mean one process for ever."""


@pytest.fixture(autouse=True)
def adopts_orphans() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


# -- looking at the machine


def parents() -> dict[int, tuple[int, str]]:
    """Every process that can be seen: its parent, and when it started (proc_pid_stat(5))."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = (int(words[1]), words[19])
    return found


def descendants(root: int) -> set[Process]:
    """The processes below ``root``."""
    seen = parents()
    found: set[Process] = set()
    todo = [root]
    while todo:
        parent = todo.pop()
        for pid, (above, started) in seen.items():
            if above == parent and (pid, started) not in found:
                found.add((pid, started))
                todo.append(pid)
    return found


def namespaces_of(pid: int, *kinds: str) -> set[str]:
    found = set()
    for kind in kinds or NAMESPACES:
        with suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def namespaces_kept() -> set[str]:
    """Namespaces that something of this machine keeps: a process that is in one, a descriptor, a
    mount. Processes in other sandboxes are left out, for the kernel gives the number of a
    namespace that is gone to a new one, which may be theirs; our own all descend from us."""
    own = namespaces_of(os.getpid(), "pid", "mnt")
    found: set[str] = set()
    for pid in parents():
        if namespaces_of(pid, "pid", "mnt") != own:
            continue
        found |= namespaces_of(pid)
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    found.add(str(descriptor.readlink()))
    mounted = re.findall(r"\b(?:net|pid|mnt|user|uts|ipc):\[\d+\]", mounts())
    return found | set(mounted)


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def links() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))  # noqa: PTH208 - names are what is compared


def reap() -> None:
    """Let go of adopted orphans that have ended. Other children have somebody who waits."""
    for pid, (above, _started) in parents().items():
        if above == os.getpid():
            with suppress(OSError):
                if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                    os.waitpid(pid, os.WNOHANG)


@dataclass
class Doomed:
    """A process with a lab, and what it has made so far."""

    process: subprocess.Popen[str]
    scratch: Path
    before: set[Process]
    mounts_before: str
    links_before: list[str]
    made: set[Process] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Take note of the processes and namespaces there are now."""
        own = namespaces_of(os.getpid())
        now = descendants(os.getpid()) - self.before
        self.made |= now
        for pid, _started in now:
            self.namespaces |= namespaces_of(pid) - own

    def says(self, wanted: str) -> None:
        """Wait until it says how far it is."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == wanted:
                return
        pytest.fail(f"it ended before it said {wanted!r}: {self.ended()}")

    def has_a_lab(self) -> bool:
        """Whether something runs in a host by now: the ``sleep`` of the scenario."""
        self.look()
        names = []
        for pid, _started in self.made:
            with suppress(OSError):
                names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        return "sleep" in names

    def ended(self) -> str:
        """Wait for its end; what it printed to its standard error."""
        _out, said = self.process.communicate(timeout=120)
        return said

    def left(self) -> list[str]:
        """What is still there of it."""
        reap()
        found = [f"process {pid}" for pid, _started in descendants(os.getpid()) - self.before]
        now = {(pid, started) for pid, (_above, started) in parents().items()}
        found += [f"process {pid}, not even ours" for pid, _started in self.made & now]
        found += [f"namespace {name}" for name in self.namespaces & namespaces_kept()]
        if mounts() != self.mounts_before:
            found.append(
                f"mounts: {sorted(set(mounts().split()) - set(self.mounts_before.split()))}"
            )
        if links() != self.links_before:
            found.append(f"links: {sorted(set(links()) ^ set(self.links_before))}")
        found += [str(path) for path in self.scratch.rglob("*") if path.is_file()]
        found += [str(path) for path in map(Path, ("/tmp/upper", "/tmp/work")) if path.exists()]
        return found

    def assert_nothing_is_left(self) -> None:
        assert self.made
        eventually(self.left, lambda left: not left, within=BOUND, what="nothing is left")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory that anybody may write to, for the process to be in."""
    with tempfile.TemporaryDirectory(prefix="doomed-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def doom(scratch: Path, ready: Environment) -> Iterator[Callable[..., Doomed]]:
    """Starts processes with a lab; whatever a test leaves of them is ended."""
    begun: list[Doomed] = []
    cache = images_directory().parent.parent

    def begin(
        how: str = "wait",
        *,
        user: User | None = None,
        until: str | None = "begins",
        argv: Sequence[str] = (),
    ) -> Doomed:
        if not argv:
            paths = [str(path) for path in ready.image.lower] if user is None else [str(user.image)]
            argv = [sys.executable if user is None else user.interpreter, "-c", SCRIPT]
            argv = [*argv, how, str(ready.target), *paths]
        before, mounted, linked = descendants(os.getpid()), mounts(), links()
        process = subprocess.Popen(
            argv if user is None else as_nobody_with_tun(argv),
            cwd=scratch,
            env={**environment_of_user(str(scratch)), "XDG_CACHE_HOME": str(cache)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A process group of its own, as a shell gives its jobs.
            start_new_session=True,
        )
        begun.append(Doomed(process, scratch, before, mounted, linked))
        if until is not None:
            begun[-1].says(until)
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()


def wait_a_random_while(one: Doomed, seed: int) -> float:
    """Return after 0 to 1.2 s, in which a lab of this size starts and its traffic begins."""
    delay = random.Random(seed).uniform(0, 1.2)
    with suppress(subprocess.TimeoutExpired):
        one.process.wait(timeout=delay)
    one.look()
    return delay


# -- as the user who runs the tests


@pytest.mark.parametrize("seed", range(20))
def test_sigkill_at_any_moment(doom: Callable[..., Doomed], seed: int) -> None:
    one = doom()
    delay = wait_a_random_while(one, seed)
    assert one.process.poll() is None, f"it ended by itself within {delay:.2f} s"
    one.process.kill()
    one.ended()
    one.assert_nothing_is_left()


@pytest.mark.parametrize("number", range(4))
def test_sigkill_under_traffic(doom: Callable[..., Doomed], number: int) -> None:
    del number
    one = doom(until="flows")
    one.look()
    # Three switches' daemons and agents, the launcher, ping, sleep, and the process itself.
    assert len(one.made) >= 10
    assert len({name for name in one.namespaces if name.startswith("net")}) >= 4
    one.process.kill()
    one.ended()
    one.assert_nothing_is_left()


def test_sigkill_while_everything_is_stopped(doom: Callable[..., Doomed]) -> None:
    """Nobody has to notice that the harness is gone for all to end."""
    one = doom(until="flows")
    one.look()
    for pid, _started in one.made:
        os.kill(pid, signal.SIGSTOP)
    one.process.kill()
    one.ended()
    one.assert_nothing_is_left()


def test_an_exception(doom: Callable[..., Doomed]) -> None:
    one = doom("raise", until="is up")
    one.look()
    said = one.ended()
    assert one.process.returncode == 1
    assert said.endswith("RuntimeError: as planned\n")
    assert said.count("Traceback") == 1
    one.assert_nothing_is_left()


@pytest.mark.parametrize("until", ["begins", "is up", "flows"])
def test_ctrl_c(doom: Callable[..., Doomed], until: str) -> None:
    """A terminal sends SIGINT to the whole process group."""
    one = doom(until=until)
    one.look()
    os.killpg(one.process.pid, signal.SIGINT)
    said = one.ended()
    assert one.process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    # One traceback, of the process itself: nobody else has anything to say.
    assert said.count("Traceback") == 1, said
    one.assert_nothing_is_left()


SCENARIO = """
import pytest
from harness import Topology

@pytest.fixture
def topology():
    topo = Topology("doomed")
    bridge = topo.switch("s1").bridge("br0")
    bridge.host("a")
    bridge.host("b")
    return topo

@pytest.mark.parametrize("number", range(2))
def test_it(lab, number):
    with lab.traffic(rate=1000):
        lab.host("a").run("sleep 600", timeout=700)
"""


@pytest.mark.parametrize("options", [[], ["-n2"]], ids=["alone", "side by side"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_pytest(
    doom: Callable[..., Doomed],
    scratch: Path,
    tmp_path: Path,
    options: list[str],
    end: signal.Signals,
) -> None:
    """With xdist the processes that have labs are not the one that was started."""
    (scratch / "test_it.py").write_text(SCENARIO)
    # The directory that pytest has for its own purposes is not what this is about.
    quiet = ["-p", "no:cacheprovider", "-q", f"--basetemp={tmp_path}/own", *options]
    one = doom(argv=[sys.executable, "-m", "pytest", *quiet], until=None)
    eventually(one.has_a_lab, within=120, what="a lab is up")
    os.killpg(one.process.pid, end)
    said = one.ended()
    if end == signal.SIGINT:
        assert one.process.returncode == pytest.ExitCode.INTERRUPTED, said
        assert not (scratch / "reports").exists()
    (scratch / "test_it.py").unlink()
    one.assert_nothing_is_left()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_other_signals(doom: Callable[..., Doomed], end: signal.Signals) -> None:
    one = doom(until="flows")
    one.look()
    os.killpg(one.process.pid, end)
    assert one.ended() == ""
    assert one.process.returncode == -end
    one.assert_nothing_is_left()


# -- as an ordinary user


def as_nobody(argv: Sequence[str]) -> list[str]:
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return ["setpriv", *user, "--", *argv]


def as_nobody_with_tun(argv: Sequence[str]) -> list[str]:
    """The same, with a /dev/net/tun that anybody may open, in a mount namespace of its own."""
    tun = "mount -t tmpfs -o mode=755 tun /dev/net && mknod -m 666 /dev/net/tun c 10 200"
    script = f'{tun} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *as_nobody(argv)]


@dataclass(frozen=True)
class User:
    """What an ordinary user runs, and on which image."""

    interpreter: str
    image: Path


@pytest.fixture(scope="module")
def user(ready: Environment) -> Iterator[User]:
    """An ordinary user with an image of its own, as that user would have built it."""
    if os.geteuid() != 0:
        pytest.skip("the tests above ran as an ordinary user already")
    for program in ("setpriv", "unshare", "mknod"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here: `sudo apt-get install util-linux coreutils`")
    tried = subprocess.run(as_nobody_with_tun(["true"]), capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no /dev/net/tun for user {NOBODY} can be made: {tried.stderr.strip()}")
    interpreter = readable_interpreter()
    with tempfile.TemporaryDirectory(prefix="doomed-image-") as name:
        Path(name).chmod(0o755)
        subprocess.run(["cp", "-a", str(ready.image.lower[0]), f"{name}/rootfs"], check=True)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", f"{name}/rootfs"], check=True)
        yield User(interpreter, Path(name, "rootfs"))


def readable_interpreter() -> str:
    """This interpreter, or the system's of the same version, where the user may run it."""
    # setpriv itself may still do what root may: what counts is a program that the user starts.
    again = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    reasons = []
    for interpreter in (sys.executable, f"/usr/bin/python{version}"):
        tried = subprocess.run(
            as_nobody([interpreter, "-c", again, "import harness.lab.environment"]),
            cwd="/",
            env=environment_of_user(),
            capture_output=True,
            text=True,
        )
        if tried.returncode == 0:
            return interpreter
        reasons.append(f"{interpreter}: {(tried.stderr.strip().splitlines() or ['?'])[-1]}")
    pytest.skip(f"user {NOBODY} can run the harness with neither of {'; '.join(reasons)}")


def environment_of_user(home: str = "/") -> dict[str, str]:
    """What is set for the process: to find the same modules, and to write nowhere else."""
    modules = os.pathsep.join(path for path in sys.path if path and Path(path).is_dir())
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": modules,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": home,
        "HOME": home,
    }


@pytest.mark.parametrize("seed", range(6))
def test_sigkill_at_any_moment_as_an_ordinary_user(
    doom: Callable[..., Doomed], user: User, seed: int
) -> None:
    one = doom(user=user)
    wait_a_random_while(one, seed)
    one.process.kill()
    one.ended()
    one.assert_nothing_is_left()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_signals_as_an_ordinary_user(
    doom: Callable[..., Doomed], user: User, end: signal.Signals
) -> None:
    one = doom(user=user, until="flows")
    one.look()
    assert any(name.startswith("user:") for name in one.namespaces)
    os.killpg(one.process.pid, end)
    one.ended()
    assert one.process.returncode == -end
    one.assert_nothing_is_left()


def test_an_exception_as_an_ordinary_user(doom: Callable[..., Doomed], user: User) -> None:
    one = doom("raise", user=user, until="is up")
    one.look()
    assert one.ended().endswith("RuntimeError: as planned\n")
    one.assert_nothing_is_left()
