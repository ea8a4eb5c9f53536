"""The cache: an image is there whole or not at all, whatever happens; and as one file.

Instead of mmdebstrap a program of a few lines writes the tar of a tiny root file system.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import msgspec
import pytest

from harness import images
from harness.images import ImageError, kernel, rootfs
from harness.images.cache import Meta

FAKE = """#!{python}
import io, os, sys, tarfile
def add(archive, name, content=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname, member.mode = len(content), kind, link, 0o755
    archive.addfile(member, io.BytesIO(content))
print("I: downloading packages with apt...", file=sys.stderr, flush=True)
if "--variant=extract" in sys.argv:
    {kernel}
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        add(archive, "./boot/vmlinuz-6.1-x", b"kernel")
        add(archive, "./boot/config-6.1-x", b"not needed")
        add(archive, "./lib/modules/6.1-x/modules.builtin")
        add(archive, "./lib/modules/6.1-x/modules.order")
        add(archive, "./usr/share/doc/linux/copyright", b"not needed either")
    sys.exit()
{before}
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    add(archive, "./dev/null", kind=tarfile.CHRTYPE)
    add(archive, "./bin", kind=tarfile.SYMTYPE, link="usr/bin")
    add(archive, "./var/run", kind=tarfile.SYMTYPE, link="/run")
    add(archive, "./etc/shadow", b"secret")
    add(archive, "./usr/sbin/ovs-vswitchd", kind=tarfile.SYMTYPE, link="/etc/alternatives/o")
    add(archive, "./usr/share/openvswitch/scripts/ovs-lib", b"x\\nVERSION='3.5.0'\\n")
    add(archive, "./usr/share/openvswitch/scripts/ovs-hard", kind=tarfile.LNKTYPE,
        link="./usr/share/openvswitch/scripts/ovs-lib")
    add(archive, "./var/lib/dpkg/status", b"Package: ovs\\nStatus: install ok installed\\n"
        b"Version: 3.5.0-1\\n\\nPackage: gone\\nStatus: deinstall ok config-files\\nVersion: 1\\n")
    {within}
{after}
"""


class Fake:
    """A fake mmdebstrap on PATH, and the cache that it fills."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.images = directory / "cache/ovs-harness/images"
        self.write()
        # Ordinary users are asked for it, too.
        (self.bin / "newuidmap").symlink_to("/bin/true")

    def write(
        self, *, before: str = "", within: str = "", after: str = "", kernel: str = ""
    ) -> None:
        """``kernel`` is done before it unpacks the kernel's packages, the others around the root
        file system."""
        path = self.bin / "mmdebstrap"
        parts = {"before": before, "within": within, "after": after, "kernel": kernel}
        path.write_text(FAKE.format(python=sys.executable, **parts))
        path.chmod(0o755)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.images.glob(".*")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setattr("harness.images.mmdebstrap._user_obstacles", list)
    return made


def test_resolve_builds_what_is_missing_once(fake: Fake) -> None:
    said: list[str] = []
    image = images.resolve("trixie", progress=said.append)
    assert image.version == "3.5.0"
    assert image.suite == "trixie"
    assert image.ovs_prefix == "/usr"
    assert [line.split(" (")[0] for line in said] == [
        "trixie: making the image of Debian trixie with mmdebstrap",
        "trixie: downloading packages with apt",
        "trixie: unpacking linux-image-cloud-amd64",
        "trixie: downloading packages with apt",
        "trixie: ready, Open vSwitch 3.5.0, 0 MiB",
    ]
    (root,) = image.lower
    assert (root / "etc/shadow").read_bytes() == b"secret"
    assert not (root / "dev/null").exists()
    (stored,) = images.list_images()
    assert stored.meta.packages == ("ovs=3.5.0-1",)
    # What goes with the kernel lies beside the root file system, indexed, and nothing else of it.
    part = stored.path / kernel.DIRECTORY
    assert kernel.version(part) == "6.1-x"
    assert (part / kernel.VMLINUZ).read_bytes() == b"kernel"
    assert (part / kernel.MODULES / "6.1-x/modules.dep").is_file()
    assert sorted(path.name for path in part.iterdir()) == ["lib", "vmlinuz"]
    assert stored.current
    fake.write(before="sys.exit(1)")
    assert images.resolve("trixie") == image
    assert fake.leftovers() == []


def test_without_building_a_missing_image_is_an_error_with_the_command(fake: Fake) -> None:
    with pytest.raises(ImageError, match="run `ovs-harness image build forky`"):
        images.resolve("forky", build=False)
    assert not fake.images.exists()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"before": "print('E: apt-get update failed', file=sys.stderr); sys.exit(25)"},
            "mmdebstrap exited 25. It said: E: apt-get update failed",
        ),
        (
            {"before": "print('E: Failed to fetch x', file=sys.stderr); sys.exit(25)"},
            "set OVS_HARNESS_MIRROR to its URL",
        ),
        (
            {
                "kernel": "print('E: Failed to fetch scheme://mirror/x_1.deb  404  Not Found', "
                "file=sys.stderr); sys.exit(25)"
            },
            "the mirror lists x_1.deb and does not have it: try again later, or set OVS_HARNESS_",
        ),
        (
            {"before": "print('E: x: No space left on device', file=sys.stderr); sys.exit(1)"},
            "is full: free 1 GB there, or set TMPDIR",
        ),
        ({"after": "print('E: late', file=sys.stderr); sys.exit(1)"}, "It said: E: late"),
        ({"within": "os._exit(0)"}, "its tar can't be read"),
        ({"before": "os._exit(3)"}, "mmdebstrap exited 3"),
        ({"within": "add(archive, '../evil')"}, "is a path outside"),
        (
            {"kernel": "print('E: no kernel', file=sys.stderr); sys.exit(7)"},
            "It said: E: no kernel",
        ),
        (
            {"kernel": "tarfile.open(fileobj=sys.stdout.buffer, mode='w|').close(); sys.exit()"},
            "does not hold a kernel's modules",
        ),
    ],
)
def test_a_failed_build_says_why_and_leaves_nothing(
    fake: Fake, parts: dict[str, str], said: str
) -> None:
    fake.write(**parts)
    with pytest.raises(ImageError, match=said):
        images.resolve("trixie")
    assert images.list_images() == []
    assert fake.leftovers() == []


def test_an_image_without_open_vswitch_is_none(fake: Fake) -> None:
    fake.write()
    text = (fake.bin / "mmdebstrap").read_text().replace("sbin/ovs-vswitchd", "sbin/other")
    (fake.bin / "mmdebstrap").write_text(text)
    with pytest.raises(ImageError, match="holds no ovs-vswitchd"):
        images.resolve("trixie")
    assert images.list_images() == []


def test_a_full_disk_is_one_clear_error(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.images.unpack.shutil.copyfileobj", full)
    with pytest.raises(ImageError, match=r"ovs-harness/images is full .*XDG_CACHE_HOME"):
        images.resolve("trixie")
    assert fake.leftovers() == []


def test_a_directory_that_may_not_be_written_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, fake: Fake
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(fake.bin / "mmdebstrap"))
    with pytest.raises(ImageError, match="set XDG_CACHE_HOME"):
        images.resolve("trixie")


def build_elsewhere() -> subprocess.Popen[bytes]:
    program = (
        "from harness import images\nfrom harness.images import mmdebstrap\n"
        "mmdebstrap._user_obstacles = list\n"
        "images.resolve('trixie', progress=lambda line: print(line, flush=True))"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)


def read_until(process: subprocess.Popen[bytes], word: bytes) -> bytes:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return line
    raise AssertionError(f"it ended without {word!r}")


def test_a_killed_build_is_never_an_image_and_is_swept(fake: Fake, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    os.mkfifo(lives)
    # It stays in the middle of the tar, and the pipe has a writer as long as it lives.
    fake.write(
        within=f"""
    add(archive, "./big", bytes(1 << 20))
    sys.stdout.flush()
    print("I: creating tarball...", file=sys.stderr, flush=True)
    import signal
    with open({str(lives)!r}, "w"):
        signal.pause()"""
    )
    with build_elsewhere() as other, lives.open() as alive:
        read_until(other, b"creating tarball")
        other.send_signal(signal.SIGKILL)
        assert alive.read() == ""
    assert images.list_images() == []
    assert len(fake.leftovers()) == 1
    fake.write()
    assert images.resolve("trixie").version == "3.5.0"
    assert fake.leftovers() == []


def test_leftovers_of_another_image_are_swept_unless_it_is_being_built(fake: Fake) -> None:
    forky = f".new-forky-{images.catalogue()['forky'].key}-abc"
    busy = f".new-bookworm-{images.catalogue()['bookworm'].key}-abc"
    for name in (forky, busy, ".old-trixie-x"):
        (fake.images / name / "rootfs").mkdir(parents=True)
    from harness.images.locks import try_lock

    label = busy.removeprefix(".new-").removesuffix("-abc")
    held = try_lock(fake.images / "locks" / f"{label}.build")
    assert held is not None
    with held:
        images.resolve("trixie")
        assert fake.leftovers() == [busy]


def test_two_builds_make_one_image_and_the_second_says_whom_it_waits_for(
    fake: Fake, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    fake.write(before=f"open({str(go)!r}).read()")
    with build_elsewhere() as first:
        read_until(first, b"downloading")
        with build_elsewhere() as second:
            assert f"waiting for process {first.pid}".encode() in read_until(second, b"waiting")
            fake.write(before="sys.exit(1)")
            go.write_text("go")
            assert first.wait() == 0
            assert second.wait() == 0
    assert len(images.list_images()) == 1


def test_an_image_in_use_is_not_removed(fake: Fake) -> None:
    image = images.resolve("trixie")
    with image.hold(), image.hold():
        with pytest.raises(ImageError, match=f"in use by process {os.getpid()}"):
            images.remove("trixie")
        assert image.lower[0].is_dir()
    (removed,) = images.remove("trixie")
    assert not removed.exists()
    assert fake.leftovers() == []
    with pytest.raises(ImageError, match="has been removed"):
        image.hold()
    with pytest.raises(ImageError, match="no image 'trixie' is built"):
        images.remove("trixie")


def test_an_outdated_image_is_not_used_but_listed_and_removed(fake: Fake) -> None:
    image = images.resolve("trixie")
    directory = image.lower[0].parent
    meta = msgspec.json.decode((directory / "meta.json").read_bytes(), type=Meta)
    old = msgspec.structs.replace(meta, key="0" * 16)
    (directory / "meta.json").write_bytes(msgspec.json.encode(old))
    directory.rename(fake.images / f"trixie-{old.key}")
    assert [stored.current for stored in images.list_images()] == [False]
    with pytest.raises(ImageError, match="not built"):
        images.resolve("trixie", build=False)
    images.resolve("trixie")
    assert len(images.remove("trixie")) == 2


@pytest.mark.usefixtures("fake")
def test_a_damaged_image_is_named_and_can_be_removed() -> None:
    image = images.resolve("trixie")
    (image.lower[0].parent / "meta.json").write_text("{")
    with pytest.raises(ImageError, match="ovs-harness image remove trixie"):
        images.resolve("trixie")
    images.remove("trixie")
    assert images.list_images() == []


# ------------------------------------------------------------------------------ one file


def test_an_exported_image_comes_back(fake: Fake, tmp_path: Path) -> None:
    before = images.resolve("trixie")
    stored = images.export("trixie", tmp_path / "t.tar.gz")
    assert [path.name for path in tmp_path.glob(".t*")] == []
    images.remove("trixie")
    fake.write(before="sys.exit(1)")
    back = images.import_(tmp_path / "t.tar.gz")
    assert back == stored
    assert images.resolve("trixie") == before
    assert (stored.path / "kernel/vmlinuz").read_bytes() == b"kernel"
    assert kernel.version(stored.path / "kernel") == "6.1-x"
    # "secret", "ovs-lib" once though it has two names, …: all that is written is counted.
    files = [path for path in stored.path.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = {path.stat().st_ino: path.stat().st_size for path in files if path.name != "meta.json"}
    assert stored.meta.size == sum(sizes.values())
    scripts = before.lower[0] / "usr/share/openvswitch/scripts"
    assert (scripts / "ovs-hard").samefile(scripts / "ovs-lib")
    # Once more: it is there, and stays.
    assert images.import_(tmp_path / "t.tar.gz") == stored


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("kernel/vmlinuz", "image trixie holds no kernel/vmlinuz"),
        ("kernel/lib/modules/6.1-x/modules.dep", "image trixie holds no kernel/lib/modules"),
        ("kernel", "image trixie holds no kernel$"),
    ],
)
def test_an_exported_image_without_its_kernel_is_refused(
    fake: Fake, tmp_path: Path, lost: str, said: str
) -> None:
    directory = images.resolve("trixie").lower[0].parent
    path = directory / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    images.export("trixie", tmp_path / "t.tar.gz")
    images.remove("trixie")
    with pytest.raises(ImageError, match=said):
        images.import_(tmp_path / "t.tar.gz")
    assert images.list_images() == []
    assert fake.leftovers() == []


def test_export_of_what_is_not_built(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not built"):
        images.export("trixie", tmp_path / "t.tar.gz")
    assert fake.leftovers() == []


def exported(path: Path, meta: bytes | None, *members: tuple[str, bytes, str]) -> Path:
    """A file like an exported image: ``meta.json`` and (name, type, link goal)."""
    with tarfile.open(path, "w:gz") as archive:
        if meta is not None:
            header = tarfile.TarInfo("meta.json")
            header.size = len(meta)
            archive.addfile(header, io.BytesIO(meta))
        for name, kind, goal in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, goal
            archive.addfile(member)
    return path


def good_meta(**changes: object) -> bytes:
    fields = {
        "name": "trixie",
        "key": "a" * 16,
        "suite": "trixie",
        "version": "3.5.0",
        "architecture": os.uname().machine,
        "packages": [],
        "built": "2026-01-01T00:00:00+00:00",
        "size": 1,
    }
    return msgspec.json.encode(fields | changes)


FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE
BAD_FILES: dict[str, tuple[bytes | None, list[tuple[str, bytes, str]], str]] = {
    "no meta": (None, [("rootfs/x", FILE, "")], "does not begin with meta.json"),
    "meta is a link": (None, [("meta.json", LINK, "/etc/passwd")], "does not begin with"),
    "meta is no JSON": (b"{", [], "meta.json: "),
    "meta lacks fields": (b"{}", [], "meta.json: .*missing required field"),
    "unknown image": (good_meta(name="../../x"), [], "there is no image"),
    "key is a path": (good_meta(key="../../../../evil"), [], "the key .* is none"),
    "other machine": (good_meta(architecture="vax"), [], "an image for vax"),
    "outside of rootfs": (good_meta(), [("evil", FILE, "")], "not below rootfs or kernel"),
    "outside of kernel": (good_meta(), [("kernel/../x", FILE, "")], "path outside"),
    "hard link to the other part": (
        good_meta(),
        [("rootfs/x", FILE, ""), ("kernel/x", tarfile.LNKTYPE, "rootfs/x")],
        "is a hard link to",
    ),
    "kernel is a file": (good_meta(), [("kernel", FILE, "")], "kernel' is no directory"),
    "up from rootfs": (good_meta(), [("rootfs/../../evil", FILE, "")], "path outside"),
    "rootfs is a link": (good_meta(), [("rootfs", LINK, "/")], "rootfs' is no directory"),
    "hard link": (good_meta(), [("rootfs/x", tarfile.LNKTYPE, "meta.json")], "hard link"),
    "device": (good_meta(), [("rootfs/x", tarfile.CHRTYPE, "")], "neither a file"),
    "no switch": (good_meta(), [("rootfs/x", FILE, "")], "holds no ovs-vswitchd"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_and_leaves_nothing(fake: Fake, tmp_path: Path, name: str) -> None:
    meta, members, said = BAD_FILES[name]
    file = exported(tmp_path / "bad.tar.gz", meta, *members)
    with pytest.raises(ImageError, match=said):
        images.import_(file)
    assert images.list_images() == []
    assert fake.leftovers() == []


@pytest.mark.parametrize("cut", [0, 5, 200, -30])
def test_a_damaged_file_is_refused_and_leaves_nothing(fake: Fake, tmp_path: Path, cut: int) -> None:
    images.resolve("trixie")
    file = tmp_path / "t.tar.gz"
    images.export("trixie", file)
    images.remove("trixie")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ImageError, match=r"no exported image|holds no ovs"):
        images.import_(file)
    assert images.list_images() == []
    assert fake.leftovers() == []


# --------------------------------------------------------------------------- prefix and host


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "usr/sbin").mkdir(parents=True)
    (made / "usr/sbin/ovs-vswitchd").touch()
    return made


def test_a_prefix_lies_over_its_image(fake: Fake, tree: Path) -> None:
    base = images.resolve("bookworm")
    image = images.resolve(f"prefix:{tree}@bookworm")
    assert image.lower == (tree, *base.lower)
    assert image.version == "unknown"
    scripts = tree / "usr/share/openvswitch/scripts"
    scripts.mkdir(parents=True)
    (scripts / "ovs-lib").write_text("VERSION='3.6.90'\n")
    assert images.resolve(f"prefix:{tree}@bookworm").version == "3.6.90"
    with image.hold(), pytest.raises(ImageError, match="in use"):
        images.remove("bookworm")
    assert fake.leftovers() == []


def test_a_prefix_over_the_default_image_in_usr_local(fake: Fake, tmp_path: Path) -> None:
    tree = tmp_path / "local"
    (tree / "usr/local/sbin").mkdir(parents=True)
    (tree / "usr/local/sbin/ovs-vswitchd").touch()
    image = images.resolve(f"prefix:{tree}")
    assert image.ovs_prefix == "/usr/local"
    assert image.suite == "trixie"
    assert fake.leftovers() == []


def test_links_of_the_image_stay_above_empty_directories_of_a_prefix(
    fake: Fake, tree: Path
) -> None:
    (tree / "var/run/openvswitch").mkdir(parents=True)
    first = images.resolve(f"prefix:{tree}")
    assert len(first.lower) == 3
    assert (first.lower[0] / "var/run").readlink() == Path("/run")
    assert [path.name for path in first.lower[0].iterdir()] == ["var"]
    assert images.resolve(f"prefix:{tree}") == first
    (tree / "bin").mkdir()
    (tree / "bin/tool").touch()
    with pytest.raises(ImageError, match=r"tree/bin/tool: in the image /bin is a link to usr/bin"):
        images.resolve(f"prefix:{tree}")
    assert fake.leftovers() == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prefix:relative", "not an absolute path"),
        ("prefix:", "not an absolute path"),
        ("prefix:/does/not/exist", "no directory /does/not/exist"),
        ("prefix:/proc", "neither usr/sbin/ovs-vswitchd"),
        ("prefix:/a:b", "no path with a colon"),
        ("prefix:/a,b", "no path with a comma"),
        ("prefix:/proc@sid", "there is no image 'sid' in the catalogue"),
        ("prefix:/proc@host", "there is no image 'host' in"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_a_wrong_prefix_is_refused(name: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        images.resolve(name)


@pytest.mark.usefixtures("fake")
def test_the_host_has_an_open_vswitch_or_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.images.rootfs.ovs_prefix", lambda _: None)
    with pytest.raises(ImageError, match="apt-get install openvswitch-switch"):
        images.resolve("host")
    monkeypatch.setattr("harness.images.rootfs.ovs_prefix", lambda _: "/usr")
    monkeypatch.setattr("harness.images.rootfs.ovs_version", lambda *_: "3.1.0")
    monkeypatch.setattr("harness.images.rootfs.lacking", lambda *_: ["ping"])
    with pytest.raises(ImageError, match="no ping; run `sudo apt-get install iputils-ping`"):
        images.resolve("host")
    monkeypatch.setattr("harness.images.rootfs.lacking", lambda *_: [])
    image = images.resolve("host")
    own, root = image.lower
    assert (root, image.version, image.suite) == (Path("/"), "3.1.0", None)
    assert list((own / "etc/openvswitch").iterdir()) == []
    assert (own / "var/run").readlink() == Path("/run")
    assert images.resolve("host").lower == image.lower
    image.hold().close()


def test_programs_are_looked_for_where_they_are_installed(tmp_path: Path) -> None:
    for place in ("usr/bin", "sbin", "usr/local/sbin"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / place.replace("/", "-")).symlink_to("/nowhere")
    programs = ["usr-bin", "sbin", "usr-local-sbin", "other"]
    assert rootfs.lacking(tmp_path, programs) == ["other"]


def test_progress_comes_while_a_build_runs(fake: Fake, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    fake.write(before=f"open({str(go)!r}).read()")
    heard = threading.Event()

    def progress(line: str) -> None:
        if "downloading" in line:
            heard.set()

    builder = threading.Thread(target=lambda: images.resolve("trixie", progress=progress))
    builder.start()
    assert heard.wait(10)
    go.write_text("go")
    builder.join()
