"""Templates: made once, whole or not at all, for just what they were made of. Nothing boots here:
what would boot a machine writes two small files."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from harness.agent import carried
from harness.images import Image, ImageError, command, emulator, templates
from harness.images.cache import Meta, Stored, images_directory
from harness.images.command import _list, _remove
from harness.images.locks import try_lock
from harness.images.templates import BOOTED, Stage, template
from harness.nodes import qemu, vm
from harness.nodes.base import NodeError
from harness.nodes.qemu import Machine
from harness.nodes.vm import VmNode

KEY = "0" * 16


class Boots:
    """Stands in for what boots a machine."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []
        self.fails: dict[str, Exception] = {}
        """What happens instead, by accelerator."""
        self.said: list[str] = []

    def make_template(
        self, machine: Machine, directory: Path, prepare: Callable[[VmNode], str]
    ) -> str:
        known = prepare(cast("VmNode", None))
        self.machines.append(machine)
        assert machine.initramfs.parent == directory
        archive = machine.initramfs.read_bytes()
        assert b".harness/agent.pyz\0" in archive
        assert carried.program() in archive
        (directory / vm.RAM).write_bytes(b"memory")
        if machine.accelerator in self.fails:
            raise self.fails[machine.accelerator]
        (directory / vm.STATE).write_bytes(b"state")
        (directory / vm.DISK).write_bytes(b"disk")
        return known

    @property
    def count(self) -> int:
        return len(self.machines)

    def template(self, image: Image, stage: Stage = BOOTED, cards: int = 0) -> templates.Template:
        return template(image, stage, cards=cards, progress=self.said.append)


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Boots:
    made = Boots()
    monkeypatch.setattr(vm, "make_template", made.make_template)
    return made


def set_version(program: Path, said: str, status: int = 0) -> None:
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    program.chmod(0o755)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A QEMU that knows its version."""
    made = tmp_path / "qemu"
    set_version(made, "QEMU emulator version 7.2.22 (Debian 1:7.2)")
    monkeypatch.setattr(qemu, "PROGRAM", str(made))
    return made


@pytest.fixture
def image(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image with a kernel, in a cache of its own, on a machine without KVM."""
    del program
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(emulator, "accelerators", lambda: iter(["tcg"]))
    path = images_directory() / f"trixie-{KEY}"
    (path / "rootfs/etc").mkdir(parents=True)
    (path / "kernel/lib/modules/6.1-x").mkdir(parents=True)
    (path / "kernel/vmlinuz").touch()
    (path / "kernel/lib/modules/6.1-x/modules.dep").touch()
    meta = Meta(
        name="trixie",
        key=KEY,
        suite="trixie",
        version="3.5.0",
        architecture=os.uname().machine,
        packages=(),
        built="2026-01-01T00:00:00+00:00",
        size=1,
    )
    (path / "meta.json").write_bytes(msgspec.json.encode(meta))
    return Image(
        name="trixie",
        version="3.5.0",
        suite="trixie",
        key=KEY,
        lower=(path / "rootfs",),
        ovs_prefix="/usr",
        stored=Stored(meta=meta, path=path, current=True),
    )


def there() -> list[str]:
    """What is in the directory of templates, but locks."""
    return sorted(path.name for path in templates.directory().iterdir() if path.name != "locks")


def test_a_template_is_made_once(image: Image, boots: Boots) -> None:
    first = boots.template(image)
    assert boots.said == ["trixie: booting Linux 6.1-x once, under tcg"]
    assert first.machine.kernel == image.lower[0].parent / "kernel/vmlinuz"
    assert first.machine.initramfs == first.path / "initramfs"
    assert first.machine.cards == templates.CARDS[0]
    assert sorted(path.name for path in first.path.iterdir()) == [
        "disk",
        "initramfs",
        "meta.json",
        "ram",
        "state",
    ]
    again = boots.template(image)
    assert again[:2] == first[:2]
    assert boots.count == 1
    assert there() == [first.path.name]


def truncate(path: Path) -> None:
    with (path / vm.RAM).open("r+b") as ram:
        ram.truncate(3)


def change(path: Path) -> None:
    """As long as before, and other content."""
    (path / vm.STATE).write_bytes(b"stATe")


def set_meta(path: Path, text: str) -> None:
    (path / "meta.json").write_text(text)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated memory": truncate,
    "changed state": change,
    "no state": lambda path: (path / vm.STATE).unlink(),
    "no disk": lambda path: (path / vm.DISK).unlink(),
    "no initramfs": lambda path: (path / "initramfs").unlink(),
    "no meta": lambda path: (path / "meta.json").unlink(),
    "meta is no JSON": lambda path: set_meta(path, "{"),
    "meta of another kind": lambda path: set_meta(path, "{}"),
}


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("used", [False, True])
def test_a_damaged_template_is_made_anew(image: Image, boots: Boots, what: str, used: bool) -> None:
    """Also while machines run that came from it: they have its files, and not their names."""
    first = boots.template(image)
    if not used:
        first.hold.close()
    DAMAGES[what](first.path)
    boots.said.clear()
    second = boots.template(image)
    assert boots.said == [
        f"trixie: the template in {first.path} is damaged",
        "trixie: booting Linux 6.1-x once, under tcg",
    ]
    assert boots.count == 2
    assert second.path == first.path
    assert (second.path / vm.RAM).read_bytes() == b"memory"
    assert (second.path / vm.STATE).read_bytes() == b"state"
    assert there() == [second.path.name]


def test_what_it_is_made_of_changes_and_the_old_one_goes(
    image: Image, boots: Boots, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [boots.template(image).path]

    def made_anew(stage: Stage = BOOTED) -> None:
        made = boots.template(image, stage)
        made.hold.close()
        paths.append(made.path)
        assert boots.count == len(paths) == len(set(paths))

    set_version(program, "QEMU emulator version 10.0.2")
    made_anew()
    # The first is in use: its hold is as long as this process.
    assert len(there()) == 2
    monkeypatch.setattr(qemu, "KERNEL_ARGUMENTS", ("quiet",))
    made_anew()
    monkeypatch.setattr(templates, "INIT", "#!/bin/sh\n")
    made_anew()
    agent = carried.modules()
    for name in agent:
        changed = {**agent, name: agent[name] + b"\n"}
        monkeypatch.setattr(carried, "modules", lambda changed=changed: changed)
        made_anew()
    made_anew(Stage("booted", "more", lambda _: ""))
    assert there() == sorted([paths[0].name, paths[-1].name])
    # Another stage, or more network cards: both are needed.
    made_anew(Stage("further", "", lambda _: ""))
    assert len(there()) == 3


def test_another_qemu_in_its_place_boots_anew(
    image: Image, boots: Boots, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binary is told from another by its file, and is not asked for its version each time."""
    asked: list[str] = []
    monkeypatch.setattr(emulator, "version", lambda: asked.append("its version"))
    shutil.copy("/bin/true", program)
    first = boots.template(image)
    assert boots.template(image)[:2] == first[:2]
    assert asked == ["its version"]
    os.utime(program, (1, 1))
    assert boots.template(image).path != first.path
    assert (boots.count, len(asked)) == (2, 2)


@pytest.fixture(autouse=True)
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let go of what tests hold, now or in the end: otherwise that is as long as this process."""
    held = []

    def remember(path: Path, *, shared: bool = False) -> object:
        found = try_lock(path, shared=shared)
        if found is not None:
            held.append(found)
        return found

    def let_go() -> None:
        for one in held:
            one.close()

    monkeypatch.setattr(templates, "try_lock", remember)
    yield let_go
    let_go()


@pytest.mark.parametrize(("wanted", "cards"), [(0, 4), (4, 4), (5, 24), (24, 24)])
def test_network_cards_come_in_two_sizes(
    image: Image, boots: Boots, wanted: int, cards: int
) -> None:
    assert boots.template(image, cards=wanted).machine.cards == cards


def test_there_is_an_end_to_network_cards(image: Image, boots: Boots) -> None:
    with pytest.raises(ImageError, match="has 24 network cards at most, not 25"):
        boots.template(image, cards=25)


def test_the_machine_s_own_image_has_no_kernel(image: Image, boots: Boots) -> None:
    other = msgspec.structs.replace(image, name="host", stored=None)
    with pytest.raises(ImageError, match="image host has no kernel: those of the catalogue have"):
        boots.template(other)


def laid_over(image: Image, tree: Path) -> Image:
    (tree / "usr/sbin").mkdir(parents=True)
    (tree / "usr/sbin/ovs-vswitchd").write_bytes(b"our own")
    return msgspec.structs.replace(image, name=f"prefix:{tree}", lower=(tree, *image.lower))


def test_what_is_laid_over_an_image_is_in_its_template(
    image: Image, boots: Boots, tmp_path: Path
) -> None:
    plain = boots.template(image).path
    mine, other = (laid_over(image, tmp_path / name) for name in ("mine", "other"))
    own = boots.template(mine).path
    assert b"our own" in (own / "initramfs").read_bytes()
    assert b"our own" not in (plain / "initramfs").read_bytes()
    # Neither replaces another one's, and each is found again.
    theirs = boots.template(other).path
    assert there() == sorted([plain.name, own.name, theirs.name])
    assert [boots.template(one).path for one in (image, mine, other)] == [plain, own, theirs]
    assert boots.count == 3
    assert templates.of("trixie") == sorted([plain, own, theirs])


def test_an_installation_that_was_made_anew_boots_anew(
    image: Image, boots: Boots, tmp_path: Path, released: Callable[[], None]
) -> None:
    mine = laid_over(image, tmp_path / "mine")
    before = boots.template(mine).path
    released()
    (tmp_path / "mine/usr/sbin/ovs-vswitchd").write_bytes(b"another one")
    after = boots.template(mine).path
    assert b"another one" in (after / "initramfs").read_bytes()
    assert there() == [after.name] != [before.name]


def test_templates_of_installations_that_are_gone_are_removed(
    image: Image, boots: Boots, tmp_path: Path, released: Callable[[], None]
) -> None:
    gone, kept = (laid_over(image, tmp_path / name) for name in ("gone", "kept"))
    wanted = [boots.template(one).path.name for one in (gone, kept)][1:]
    released()
    shutil.rmtree(tmp_path / "gone")
    wanted.append(boots.template(image).path.name)
    assert there() == sorted(wanted)


def test_an_image_that_lost_its_kernel(image: Image, boots: Boots) -> None:
    (image.lower[0].parent / "kernel/vmlinuz").unlink()
    with pytest.raises(ImageError, match="image trixie holds no kernel/vmlinuz"):
        boots.template(image)
    assert there() == []


def test_half_made_ones_are_swept_unless_somebody_makes_them(image: Image, boots: Boots) -> None:
    label = boots.template(image).path.name
    busy = f"bookworm-booted-4-tcg-{KEY}"
    for name in (f".new-{label}-x_1", f".new-forky-switch-4-kvm-{KEY}-ab", f".new-{busy}-ab"):
        (templates.directory() / name).mkdir()
    with try_lock(templates.directory() / f"locks/{busy}.make") or pytest.fail("it is free"):
        made = boots.template(image, Stage("booted", "more", lambda _: "")).path
        assert [name for name in there() if name.startswith(".")] == [f".new-{busy}-ab"]
    change(made)
    boots.template(image, Stage("booted", "more", lambda _: ""))
    assert [name for name in there() if name.startswith(".")] == []


def test_one_that_somebody_is_about_to_use_is_not_swept(image: Image, boots: Boots) -> None:
    """Another version of the harness has looked at it, and will hold it next."""
    path = boots.template(image).path
    other = path.with_name(f"{path.name[:-16]}{KEY}")
    path.rename(other)
    with try_lock(templates.directory() / f"locks/{other.name}.make") or pytest.fail("it is free"):
        boots.template(image)
        assert other.name in there()


# -- what does not work


def test_what_is_known_of_an_accelerator_that_does_not_work(
    image: Image, boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "accelerators", lambda: iter(["kvm", "tcg"]))
    boots.fails["kvm"] = NodeError("it hangs")
    made = boots.template(image)
    assert [machine.accelerator for machine in boots.machines] == ["kvm", "tcg"]
    assert made.machine.accelerator == "tcg"
    assert there() == [made.path.name]
    change(made.path)
    assert boots.template(image).machine.accelerator == "tcg"
    # It is not waited for again, until the user says so.
    assert [machine.accelerator for machine in boots.machines[2:]] == ["tcg"]
    boots.fails["tcg"] = NodeError("no memory")
    change(made.path)
    with pytest.raises(ImageError) as info:
        boots.template(image)
    said = str(info.value)
    assert said.startswith("image trixie does not boot under kvm: it hangs (remembered in ")
    assert said.endswith("; under tcg: no memory")
    assert there() == []
    # What failed under emulation is tried again.
    boots.fails.clear()
    assert boots.template(image).machine.accelerator == "tcg"


def test_to_remove_an_image_is_to_try_its_accelerators_anew(
    image: Image, boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "accelerators", lambda: iter(["kvm", "tcg"]))
    boots.fails["kvm"] = NodeError("it hangs")
    with boots.template(image).hold, pytest.raises(ImageError, match=f"process {os.getpid()}: end"):
        templates.remove("trixie")
    (removed,) = templates.remove("trixie")
    assert not removed.exists()
    assert there() == []
    boots.fails.clear()
    assert boots.template(image).machine.accelerator == "kvm"


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "is full .*: free 500 MB"), (errno.EACCES, "set XDG_CACHE_HOME")],
)
def test_a_disk_that_is_full_or_closed_is_one_clear_error(
    image: Image, boots: Boots, number: int, said: str
) -> None:
    boots.fails["tcg"] = OSError(number, os.strerror(number))
    with pytest.raises(ImageError, match=said):
        boots.template(image)
    assert there() == []


def test_a_disk_with_too_little_room_is_told_before_anything_boots(
    image: Image, boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "NEEDED_DISK", 1 << 40)
    with pytest.raises(ImageError, match=r"takes up to \d+ MiB, and in .* are \d+ free: make room"):
        boots.template(image)
    assert boots.count == 0
    assert there() == []


ELSEWHERE = """
import sys
from pathlib import Path
import msgspec
from harness.images import Image, emulator, templates
from harness.nodes import qemu, vm

qemu.PROGRAM = sys.argv[1]
emulator.accelerators = lambda: iter(["tcg"])

def make_template(machine, directory, prepare):
    if sys.argv[3] == "never":
        sys.exit("it is made twice")
    open(sys.argv[3]).read()
    for name in (vm.RAM, vm.STATE, vm.DISK):
        (directory / name).touch()
    return ""

vm.make_template = make_template
image = msgspec.json.decode(sys.argv[2], type=Image, dec_hook=lambda kind, value: kind(value))
print(templates.template(image, progress=lambda line: print(line, flush=True)).path)
"""


def elsewhere(program: Path, image: Image, go: Path | str) -> subprocess.Popen[str]:
    text = msgspec.json.encode(image, enc_hook=str).decode()
    argv = [sys.executable, "-c", ELSEWHERE, str(program), text, str(go)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_it_once(image: Image, program: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    with elsewhere(program, image, go) as first:
        assert first.stdout is not None
        assert "booting Linux 6.1-x" in first.stdout.readline()
        with elsewhere(program, image, "never") as second:
            assert second.stdout is not None
            waiting = f"trixie: waiting for process {first.pid}, which boots it\n"
            assert second.stdout.readline() == waiting
            go.write_text("go")
            assert first.stdout.read() == second.stdout.read()
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(there()) == 1


def test_a_process_that_is_killed_while_it_makes_one_is_no_obstacle(
    image: Image, boots: Boots, program: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    with elsewhere(program, image, go) as other, go.open("w"):
        other.kill()
    assert len(there()) == 1
    made = boots.template(image)
    assert there() == [made.path.name]


# -- QEMU's version


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", None),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", None),
        ("QEMU emulator version 7.10.0", None),
        (
            "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)",
            r"^VMs need QEMU 7\.2 or later, .* is 5\.2$",
        ),
        ("QEMU emulator version 7.1.94 (v7.2.0-rc4)", r"^VMs need QEMU 7\.2 .* is 7\.1$"),
        ("hello", "--version` says 'hello'$"),
        ("", "--version` says ''$"),
    ],
)
def test_qemu_is_new_enough_or_an_error(program: Path, said: str, wrong: str | None) -> None:
    set_version(program, said, status=0 if said else 1)
    if wrong is None:
        assert emulator.version() == said
        return
    with pytest.raises(ImageError, match=wrong):
        emulator.version()


def test_without_qemu_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "PROGRAM", "qemu-system-none")
    with pytest.raises(ImageError, match="run `sudo apt-get install .*qemu-system-x86`"):
        emulator.version()


# -- the command line


def test_the_command_shows_and_removes_them_with_their_image(
    image: Image, boots: Boots, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = boots.template(image)
    (made.path / vm.RAM).write_bytes(bytes(3 << 20))
    monkeypatch.setattr(templates, "disk_usage", lambda path: (path / vm.RAM).stat().st_size)
    # The machine's own engine is nothing to this test.
    monkeypatch.setattr(command, "_in_engine", lambda: ({}, "none is asked"))
    assert _list(argparse.Namespace()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "VM, MiB" in next(line for line in lines if "Open vSwitch" in line)
    assert "Docker: none is asked" in lines
    arguments = argparse.Namespace(names=["trixie"])
    # Who has a template has the image, too.
    with image.hold(), made.hold, pytest.raises(ImageError, match="in use by"):
        _remove(arguments)
    assert made.path.is_dir()
    assert image.lower[0].is_dir()
    assert _remove(arguments) == 0
    assert f"removed {made.path}" in capsys.readouterr().out
    assert there() == []


def test_what_was_never_written_takes_no_place(tmp_path: Path) -> None:
    with (tmp_path / "ram").open("wb") as ram:
        ram.truncate(1 << 30)
    (tmp_path / "state").write_bytes(bytes(10_000))
    assert 10_000 <= templates.disk_usage(tmp_path) < 1 << 20
