"""Make an image with mmdebstrap(1), as root or as an ordinary user."""

from __future__ import annotations

import collections
import os
import pwd
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.images import kernel, rootfs
from harness.images.cache import Meta, Progress, Stored, building, find, now, publish, workplace
from harness.images.catalogue import Recipe, recipe_of
from harness.images.errors import ImageError, UnsafeArchiveError
from harness.images.unpack import Unpacker, may_chown

MIRROR_VARIABLE = "OVS_HARNESS_MIRROR"

_STAGE = re.compile(r"^I: (?P<stage>.+?)(?:\.\.\.)?$")
_STAGES = ("running apt", "downloading", "extracting", "installing", "cleaning", "creating")

# The machine's own name and name servers are nobody else's business, and wrong in a node.
_CUSTOMIZE = 'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"; : > "$1/etc/machine-id"'


def build(name: str, *, mirror: str | None = None, progress: Progress = lambda _: None) -> Stored:
    """The image called ``name``, made now if the cache lacks it; two at a time wait for each other.

    ``mirror``: URL of a Debian mirror; None: that of the environment variable
    ``OVS_HARNESS_MIRROR``, else mmdebstrap's own. Raise :class:`ImageError`.
    """
    recipe = recipe_of(name)
    stored = find(name, recipe.key)
    if stored is not None:
        return stored
    missing = obstacles()
    if missing:
        raise ImageError(f"image {name} is not built, and can't be: {'; '.join(missing)}")
    with building(name, recipe.key, progress) as staging:
        if staging is not None:
            return _build(recipe, staging, mirror or os.environ.get(MIRROR_VARIABLE), progress)
    stored = find(name, recipe.key)
    assert stored is not None  # whoever we waited for has made it
    return stored


def _build(recipe: Recipe, staging: Path, mirror: str | None, progress: Progress) -> Stored:
    started = time.monotonic()
    progress(f"{recipe.name}: making the image of Debian {recipe.suite} with mmdebstrap")

    def stage(text: str) -> None:
        progress(f"{recipe.name}: {text} ({time.monotonic() - started:.0f} s)")

    root = staging / "rootfs"
    root.mkdir()
    unpacker = Unpacker(root, owners=may_chown(staging), skip_devices=True)
    with workplace(staging) as work:
        with _Mmdebstrap(recipe.name, system_command(recipe, mirror), work, stage) as tool:
            tool.unpack_with(unpacker)
        if recipe.kernel:
            stage(f"unpacking {recipe.kernel}")
            with _Mmdebstrap(recipe.name, kernel_command(recipe, mirror), work, stage) as tool:
                tool.unpack_with(kernel.Extractor(staging / kernel.DIRECTORY))
            kernel.index_modules(staging / kernel.DIRECTORY)
            kernel.require(staging / kernel.DIRECTORY, recipe.name)
    _, version = rootfs.require_ovs(root, recipe.name)
    meta = Meta(
        name=recipe.name,
        key=recipe.key,
        suite=recipe.suite,
        version=version,
        architecture=recipe.architecture,
        packages=rootfs.packages(root),
        built=now(),
        size=rootfs.size(staging),
    )
    stored = publish(staging, meta)
    stage(f"ready, Open vSwitch {version}, {meta.size >> 20} MiB")
    return stored


class _Mmdebstrap:
    """One run of mmdebstrap, whose tar comes through a pipe and is never a file."""

    def __init__(self, image: str, command: list[str], work: Path, stage: Progress) -> None:
        self._image = image
        self._stage = stage
        self._said: collections.deque[str] = collections.deque(maxlen=400)
        settings = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(work)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **settings},
            # When it is ended, mmdebstrap sends SIGHUP to its whole process group.
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,))
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            self._said.append(line)
            found = _STAGE.match(line)
            if found and found["stage"].startswith(_STAGES):
                self._stage(found["stage"])

    def unpack_with(self, unpacker: Unpacker | kernel.Extractor) -> None:
        """Unpack what comes. Raise :class:`ImageError` with mmdebstrap's own words if it failed."""
        assert self._process.stdout is not None
        broken: Exception | None = None
        try:
            with tarfile.open(fileobj=self._process.stdout, mode="r|") as archive:
                unpacker.unpack(archive, ((member.name, member) for member in archive))
            # tar pads its end: what is left unread would end mmdebstrap with SIGPIPE.
            while self._process.stdout.read(1 << 20):
                pass
        except tarfile.TarError as error:
            broken = error  # most likely mmdebstrap ended early: its words say more
        except UnsafeArchiveError as error:
            raise ImageError(f"image {self._image}: {error}") from None
        self._process.stdout.close()
        status = self._process.wait()
        self._reader.join()
        if status != 0 or broken is not None:
            raise ImageError(explain(self._image, list(self._said), status, broken))

    def __enter__(self) -> _Mmdebstrap:
        return self

    def __exit__(self, *_: object) -> None:
        """End mmdebstrap if it still runs, and wait until it has."""
        if self._process.poll() is None:
            self._process.kill() if os.geteuid() == 0 else self._process.terminate()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdout.close()
        self._process.wait()
        self._reader.join()
        self._process.stderr.close()


def system_command(recipe: Recipe, mirror: str | None) -> list[str]:
    """The mmdebstrap command that writes the tar of the root file system of ``recipe`` to its
    standard output."""
    options = ["--variant=minbase", f"--include={','.join(recipe.packages)}"]
    options += [f"--dpkgopt={option}" for option in recipe.dpkg_options]
    options.append(f"--customize-hook={_CUSTOMIZE}")
    return _command(recipe, mirror, options)


def kernel_command(recipe: Recipe, mirror: str | None) -> list[str]:
    """The same for the kernel of ``recipe``: its packages unpacked, and none installed, for that
    would make an initramfs that nobody needs."""
    return _command(recipe, mirror, ["--variant=extract", f"--include={recipe.kernel}"])


def _command(recipe: Recipe, mirror: str | None, options: list[str]) -> list[str]:
    """mmdebstrap with ``options``.

    The kernel ends it when the harness dies, even by SIGKILL (setpriv(1)). Run by root it would
    mount on the machine and finish its stage before it ends; in namespaces of its own it leaves
    neither mounts nor processes.
    """
    command = ["setpriv", "--pdeathsig"]
    if os.geteuid() == 0:
        command += ["KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command += ["mmdebstrap", "--mode=root"]
    else:
        command += ["TERM", "mmdebstrap", "--mode=unshare"]
    command += ["--format=tar", *options]
    command += [f"--aptopt={option}" for option in (*_proxies(), *recipe.apt_options)]
    command += [recipe.suite, "-"]
    return [*command, mirror] if mirror else command


def _proxies() -> Iterator[str]:
    """The proxies of this machine's own apt (apt.conf(5), ``Acquire::http::Proxy``), which
    mmdebstrap does not look at."""
    for scheme in ("http", "https"):
        option = f"Acquire::{scheme}::Proxy"
        done = subprocess.run(
            ["apt-config", "shell", "found", option], capture_output=True, text=True, check=False
        )
        found = re.fullmatch(r"found='([^'\"]+)'", done.stdout.strip())
        if found:
            yield f'{option} "{found[1]}"'


def explain(name: str, said: list[str], status: int, broken: Exception | None) -> str:
    """One message from what mmdebstrap wrote: its errors, and what the user can do about them."""
    errors = [line for line in said if re.match(r"(E|Err|dpkg: error|tar):? ", line)] or said[-3:]
    text = "\n".join(said)
    if "No space left on device" in text:
        where = os.environ.get("TMPDIR", "/tmp")
        hint = f"the disk of {where} is full: free 1 GB there, or set TMPDIR to another place"
    elif missing := re.search(r"Failed to fetch \S+/(\S+) +404 ", text):
        hint = (
            f"the mirror lists {missing[1]} and does not have it: try again later, or set "
            f"{MIRROR_VARIABLE} to the URL of another one"
        )
    elif re.search(r"Could not (resolve|connect)|Failed to fetch|Unable to connect", text):
        hint = f"if another Debian mirror can be reached, set {MIRROR_VARIABLE} to its URL"
    elif broken is not None and status == 0:
        hint = f"its tar can't be read ({broken})"
    else:
        hint = f"mmdebstrap exited {status}"
    return f"image {name} could not be made: {hint}. It said: {' | '.join(errors[-5:])}"


def obstacles() -> list[str]:
    """What keeps this user from building images on this machine, each with the command that mends
    it; empty when nothing is known to."""
    user = os.geteuid() != 0
    tools = {"mmdebstrap": "mmdebstrap", kernel.DEPMOD: "kmod"} | (
        {"newuidmap": "uidmap"} if user else {}
    )
    packages = [package for tool, package in tools.items() if shutil.which(tool) is None]
    sudo = "sudo " if user else ""
    found = []
    if packages:
        command = f"{sudo}apt-get install {' '.join(packages)}"
        found.append(f"missing: {', '.join(packages)}; run `{command}`")
    if user:
        found += _user_obstacles()
    return found


def _user_obstacles() -> list[str]:
    me = pwd.getpwuid(os.geteuid()).pw_name
    found = []
    if not all(has_subordinate_ids(Path(path), me) for path in ("/etc/subuid", "/etc/subgid")):
        command = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {me}"
        found.append(f"{me} has no range in /etc/subuid and /etc/subgid; run `{command}`")
    unshare = ["unshare", "--user", "true"]
    done = subprocess.run(unshare, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip()
        found.append(f"{me} may make no user namespace ({said}); see `ovs-harness doctor`")
    return found


def has_subordinate_ids(path: Path, user: str, *, needed: int = 65536) -> bool:
    """Whether a file in the format of subuid(5) gives ``user`` a range of ``needed`` ids: Debian
    uses those up to 65534 (nobody)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    names = {user, str(os.geteuid())}
    ranges = [line.strip().split(":") for line in lines]
    return any(
        len(parts) == 3 and parts[0] in names and parts[2].isdigit() and int(parts[2]) >= needed
        for parts in ranges
    )
