"""Virtual machines need no privilege: a user who may do nothing runs scenarios on an image that was
made elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.lab.environment import Environment
from tests.test_lab_nothing_outlives import NOBODY, environment_of_user, readable_interpreter

REPOSITORY = Path(__file__).parent.parent
SCENARIO = "scenarios/vlans/test_two_hypervisors.py::test_vlans_are_kept_apart"
Run = Callable[..., subprocess.CompletedProcess[str]]


def without_privilege(root: str, argv: Sequence[str]) -> list[str]:
    """A command without root, without a capability that it has or could get, without /dev/net/tun,
    and without user namespaces: there are none for who has changed its root (unshare(2))."""
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    nothing = ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
    script = 'mount --rbind / "$0" && mount -t tmpfs none "$0/dev/net" && exec chroot "$0" "$@"'
    changed = ["unshare", "--mount", "sh", "-c", script, root]
    return [*changed, "setpriv", *user, *nothing, "--", *argv]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's, who can't get at those of tests."""
    with tempfile.TemporaryDirectory(prefix="unprivileged-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def run(home: Path) -> Run:
    """Runs this Python as the user, in the repository."""
    if os.geteuid() != 0:
        pytest.skip("only root can see to it that a user may do nothing")
    for program in ("setpriv", "unshare", "chroot"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here: `sudo apt-get install util-linux coreutils`")
    interpreter = readable_interpreter()
    root = home / "root"
    root.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            without_privilege(str(root), [interpreter, *words]),
            cwd="/",
            env=environment_of_user(str(home)) | {"XDG_CACHE_HOME": str(home)},
            capture_output=True,
            text=True,
        )

    return run


WHAT_IT_MAY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(os.geteuid(), libc.unshare(0x10000000), os.strerror(ctypes.get_errno()))
print(os.path.exists("/dev/net/tun"))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")])
"""


def test_the_user_of_these_tests_may_do_nothing(run: Run) -> None:
    assert run("-c", WHAT_IT_MAY).stdout.splitlines() == [
        f"{NOBODY} -1 Operation not permitted",
        "False",
        str(["0000000000000000"] * 5),
    ]


def test_scenarios_run_without_any_privilege(home: Path, run: Run, machines: Environment) -> None:
    del machines
    file = home / "trixie.tar"
    harness = [sys.executable, "-m", "harness.cli"]
    subprocess.run([*harness, "image", "export", "trixie", str(file)], check=True, cwd=REPOSITORY)
    brought = run("-m", "harness.cli", "image", "import", str(file))
    assert brought.returncode == 0, brought.stderr
    # On namespaces it can't, and says so.
    words = ["-m", "pytest", f"{REPOSITORY}/{SCENARIO}", f"--rootdir={REPOSITORY}", "-rs"]
    words += ["-p", "no:cacheprovider", f"--basetemp={home}/own", f"--artifacts={home}/reports"]
    refused = run(*words, "--require-all", "--target=trixie/namespace/netdev")
    assert "1 error" in refused.stdout.splitlines()[-1]
    done = run(*words, "--require-all", "--target=trixie/vm/kernel")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout.splitlines()[-1]
