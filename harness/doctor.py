"""`ovs-harness doctor`: what this machine can run, found out by trying, and how to get the rest."""

from __future__ import annotations

import argparse
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import images
from harness.images import emulator, kernel
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric

Area = Literal["node", "vm", "engine", "build", "image", "kernel"]

_DISK_NEEDED = 500 << 20
_BOUND = 30.0
_PLAIN_WIDTH = 160
_QEMU_REMEDY = "sudo apt-get install --no-install-recommends qemu-system-x86"
_MODULES = {"overlayfs": "overlay", "veth": "veth", "bridge": "bridge", "packet ring": "af_packet"}
_PURPOSE = {
    "/proc": "its own /proc in a node",
    "/sys": "its own /sys in a node",
    "devpts": "its own terminals in a node",
    "overlayfs": "a throw-away layer over an image",
    "/dev/net/tun": "the ports of the netdev datapath",
    "veth": "hosts behind ports",
    "bridge": "underlays with more than two ends",
    "packet ring": "capturing frames",
    "network namespace": "hosts in a node",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was tried. ``remedy`` is a command or setting; empty when ``ok``."""

    area: Area
    """What can't be done without it: run any node made of namespaces, run any virtual machine, run
    any container, build any image, run this one image, or boot this one image's kernel."""
    subject: str
    ok: bool
    said: str
    remedy: str = ""


@dataclass(frozen=True)
class TargetFinding:
    """Whether a target can run here. ``said`` says with what, or what is missing for it."""

    target: str
    ok: bool
    said: str


def examine() -> list[Finding]:
    """Try everything that the harness needs of this machine. Leaves nothing behind."""
    found = _examine_node()
    nodes_run = all(finding.ok for finding in found)
    found += _examine_machines()
    found.append(_examine_engine())
    found += _examine_building()
    found += [_examine_image(name, nodes_run) for name in (*images.catalogue(), "host")]
    found += [_examine_kernel(name) for name in images.catalogue()]
    return found


def targets(findings: Sequence[Finding]) -> list[TargetFinding]:
    """What follows from ``findings`` for each target."""
    needed: dict[Area, list[tuple[Area, str]]] = {
        "image": [("node", "namespace/netdev"), ("engine", "docker/netdev")],
        "kernel": [("vm", "vm/kernel"), ("vm", "vm/netdev")],
    }
    return [
        _conclude(f"{finding.subject}/{kind}", findings, area, finding)
        for finding in findings
        for area, kind in needed.get(finding.area, [])
        if (finding.subject, area) != ("host", "engine")
    ]


def _conclude(
    target: str, findings: Sequence[Finding], area: Area, image: Finding
) -> TargetFinding:
    missing = [finding.subject for finding in findings if finding.area == area and not finding.ok]
    if not image.ok:
        missing.append(f"image {image.subject} ({image.said})")
    said = f"missing: {', '.join(missing)}" if missing else image.said
    return TargetFinding(target, not missing, said)


def default_target() -> str:
    """The target that a run without ``--target`` uses."""
    return f"{images.default_name()}/namespace/netdev"


# ------------------------------------------------------------------------------------ nodes


def _examine_node() -> list[Finding]:
    unshare = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        unshare[1:1] = ["--user", "--map-root-user"]
        refused = _run(["unshare", "--user", "--map-root-user", "true"])
        if refused:
            return [Finding("node", "user namespaces", False, refused, _user_namespace_remedy())]
    refused = _run([*unshare, "true"])
    if refused:
        remedy = (
            "in a container, start it with --cap-add=SYS_ADMIN,NET_ADMIN,NET_RAW,SYS_NICE "
            "--device=/dev/net/tun, or run as an ordinary user with user namespaces"
        )
        return [Finding("node", "namespaces", False, refused, remedy)]
    whose = "as root" if os.geteuid() == 0 else "without root, in a user namespace"
    found = [Finding("node", "namespaces", True, whose)]
    return found + _probe_inside(unshare)


def _probe_inside(unshare: list[str]) -> list[Finding]:
    source = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "harness.probes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_BOUND,
        env={**os.environ, "PYTHONPATH": source},
    )
    if done.returncode != 0:
        return [Finding("node", "probes", False, done.stderr.strip()[-500:], "report this")]
    return [
        Finding("node", name, not said, said or _PURPOSE[name], _remedy(name) if said else "")
        for name, said in json.loads(done.stdout).items()
    ]


def _remedy(name: str) -> str:
    if name == "/dev/net/tun":
        return _tun_remedy(Path("/dev/net/tun"))
    if name in _MODULES:
        return f"sudo modprobe {_MODULES[name]}"
    return (
        "in a container, start it with --security-opt systempaths=unconfined "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    )


def _tun_remedy(device: Path) -> str:
    """A way to /dev/net/tun: to the module, to the device file, or to the right to open it."""
    if not device.exists():
        return "sudo modprobe tun (in a container: start it with --device=/dev/net/tun)"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"sudo chmod 666 {device}"
    return "sudo modprobe tun"


def _user_namespace_remedy() -> str:
    """The setting that forbids user namespaces, of the three that distributions have."""
    for setting, forbids, allows in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "15000"),
    ):
        try:
            value = Path("/proc/sys", setting).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == forbids:
            return f"sudo sysctl -w {setting.replace('/', '.')}={allows}"
    return "in a container, start it with --security-opt seccomp=unconfined, or run as root"


# ------------------------------------------------------------------------- virtual machines


def _examine_machines() -> list[Finding]:
    try:
        said = emulator.version().partition(" (")[0]
    except images.ImageError as error:
        qemu = Finding("vm", "QEMU", False, str(error).partition(": run `")[0], _QEMU_REMEDY)
    else:
        qemu = Finding("vm", "QEMU", True, said)
    found = [qemu, _examine_accelerator()]
    if shutil.which("setpriv") is None:
        remedy = "sudo apt-get install util-linux"
        found.append(Finding("vm", "setpriv", False, "there is no setpriv", remedy))
    return found


def _examine_accelerator() -> Finding:
    """What is tried first. Whether it works is found out by booting a machine."""
    first, *_ = emulator.accelerators()
    if first != emulator.EMULATED:
        return Finding("vm", "accelerator", True, f"{first}; emulation where that does not work")
    why = "may not be opened" if Path("/dev/kvm").exists() else "is not there"
    return Finding("vm", "accelerator", True, f"emulation: /dev/kvm {why}")


def _examine_kernel(name: str) -> Finding:
    try:
        image = images.resolve(name, build=False)
        assert image.stored is not None  # it is one of the catalogue
        release = kernel.require(image.stored.path / kernel.DIRECTORY, name)
    except images.ImageError as error:
        if not images.catalogue()[name].kernel:
            said = f"the catalogue has no kernel for {platform.machine()}"
            return Finding("kernel", name, False, said)
        if "not built" in str(error):
            return _examine_unbuilt("kernel", name)
        said = str(error).removeprefix(f"image {name} ")
        return Finding("kernel", name, False, said, _anew(name))
    return Finding("kernel", name, True, f"Open vSwitch {image.version}, Linux {release}")


# ------------------------------------------------------------------------------- containers


def _examine_engine() -> Finding:
    # The SDK takes half a second to load, which nobody but this needs here.
    from harness.nodes.containers.engine import Engine, EngineError

    try:
        engine = Engine()
    except EngineError as error:
        remedy = "install and start Docker or Podman: only targets with the backend docker need one"
        return Finding("engine", "container engine", False, str(error), remedy)
    engine.close()
    kind = "Podman" if engine.is_podman else "Docker"
    return Finding(
        "engine", "container engine", True, f"{kind} {engine.version} at {engine.address.url}"
    )


# ----------------------------------------------------------------------------------- images


def _examine_building() -> list[Finding]:
    missing = images.obstacles()
    how = "as root" if os.geteuid() == 0 else "without root"
    found = [Finding("build", "mmdebstrap", True, how)] if not missing else []
    for obstacle in missing:
        what, _, rest = obstacle.partition("; run `")
        found.append(Finding("build", "mmdebstrap", False, what, rest.rstrip("`")))
    if missing:
        remedy = "`ovs-harness image import FILE`, a file that `image export` wrote elsewhere"
        found.append(Finding("build", "without building", True, remedy))
    return [*found, _examine_disk()]


def _examine_disk() -> Finding:
    place = images.images_directory()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{free >> 20} MiB free for images in {images.images_directory()}"
    if not os.access(place, os.W_OK):
        user = pwd.getpwuid(os.geteuid()).pw_name
        said = f"{user} may not write in {place}"
        return Finding("build", "disk", False, said, "set XDG_CACHE_HOME to another place")
    if free < _DISK_NEEDED:
        return Finding("build", "disk", False, said, "free 500 MiB, or set XDG_CACHE_HOME")
    return Finding("build", "disk", True, said)


def _examine_image(name: str, nodes_run: bool) -> Finding:
    try:
        image = images.resolve(name, build=False)
    except images.ImageError as error:
        if name == "host":
            said = str(error).partition("; ")[0].removeprefix("image host: ")
            return Finding("image", name, False, said, _after(str(error)))
        return _examine_unbuilt("image", name)
    refused = _try_node(image) if nodes_run else ""
    if refused:
        remedy = "use an image of the catalogue" if name == "host" else _anew(name)
        return Finding("image", name, False, refused, remedy)
    return Finding("image", name, True, f"Open vSwitch {image.version}")


def _anew(name: str) -> str:
    return f"ovs-harness image remove {name} && ovs-harness image build {name}"


def _try_node(image: images.Image) -> str:
    """Start a node on ``image`` and its daemon in it; what was said against it, or nothing."""
    try:
        with image.hold():
            fabric = Fabric()
            try:
                node = fabric.start_node("doctor", image.lower)
                node.run([f"{image.ovs_prefix}/sbin/ovs-vswitchd", "--version"])
            finally:
                fabric.close()
    except (NodeError, images.ImageError) as error:
        return str(error)
    return ""


def _examine_unbuilt(area: Area, name: str) -> Finding:
    if images.obstacles():
        return Finding(area, name, False, "not built")  # the remedy is that of building
    return Finding(area, name, True, "not built yet; a run builds it (about a minute)")


def _after(message: str) -> str:
    return message.partition("; ")[2].replace("run `", "").replace("`", "")


def _run(command: list[str]) -> str:
    """What ``command`` wrote when it failed; empty when it did not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BOUND)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""


# ----------------------------------------------------------------------------------- report


def report(findings: Sequence[Finding]) -> None:
    """Print what was found and what follows from it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def mark(ok: bool) -> Text:
        return Text("ok", "green") if ok else Text("missing", "red")

    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    titles: dict[Area, str] = {
        "node": "Running nodes made of namespaces",
        "vm": "Running virtual machines",
        "engine": "Running containers",
        "build": "Building images",
    }
    for area, title in titles.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
        for finding in (finding for finding in findings if finding.area == area):
            table.add_row(mark(finding.ok), Text(finding.subject), Text(finding.said))
        console.print(table)
    table = Table(title="Targets", title_justify="left", box=box.SIMPLE, show_header=False)
    for target in targets(findings):
        name = target.target + (" (default)" if target.target == default_target() else "")
        table.add_row(Text("runs", "green") if target.ok else Text("no", "red"), name, target.said)
    console.print(table)
    remedies = [f"  {finding.subject}: {finding.remedy}" for finding in findings if finding.remedy]
    if remedies:
        console.print("How to get what is missing:")
    # An image that is made anew has its kernel, too: the remedy of both is one.
    for remedy in dict.fromkeys(remedies):
        console.print(Text(remedy))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand ``doctor``."""
    parser = subparsers.add_parser(
        "doctor", help="what this machine can run, and how to get the rest"
    )
    parser.set_defaults(run=_command)


def _command(_: argparse.Namespace) -> int:
    findings = examine()
    report(findings)
    default = default_target()
    return 0 if any(found.ok for found in targets(findings) if found.target == default) else 1
