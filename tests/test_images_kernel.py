"""The kernel part of an image: what is taken out of the packages, and what is wrong with it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from harness.images import ImageError, UnsafeArchiveError, kernel
from harness.images.kernel import Extractor, index_modules, place, require, version


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("./boot/vmlinuz-6.12.48-cloud-amd64", "vmlinuz"),
        ("boot/vmlinuz-6.12.48-cloud-amd64", "vmlinuz"),
        ("./usr/lib/modules/7.2.12+deb14-cloud-amd64/vmlinuz", "vmlinuz"),
        ("./lib/modules/6.12/kernel/vmlinuz", "lib/modules/6.12/kernel/vmlinuz"),
        ("./lib/modules/6.12/kernel/net/tun.ko.xz", "lib/modules/6.12/kernel/net/tun.ko.xz"),
        ("./usr/lib/modules/6.12/modules.order", "lib/modules/6.12/modules.order"),
        ("./usr/lib/modules/6.12", "lib/modules/6.12"),
        ("./usr/lib/modules", ""),
        ("./lib/modules", ""),
        ("./lib", ""),
        ("./lib/modules-load.d/a.conf", ""),
        ("./boot", ""),
        ("./boot/System.map-6.12", ""),
        ("./boot/config-6.12", ""),
        ("./boot/grub/vmlinuz-6.12", ""),
        ("./vmlinuz", ""),
        ("./usr/share/doc/linux-image/copyright", ""),
        ("./usr/usr/lib/modules/6.12/x", ""),
        ("./opt/lib/modules/6.12/x", ""),
        (".", ""),
    ],
)
def test_where_a_member_of_the_packages_goes(name: str, where: str) -> None:
    assert place(name) == where


@pytest.mark.parametrize("name", ["./lib/modules/../../etc/passwd", "/boot/vmlinuz-6", "../x"])
def test_a_member_that_leaves_the_archive_is_refused(name: str) -> None:
    with pytest.raises(UnsafeArchiveError, match="is a path outside"):
        place(name)


def test_only_what_belongs_to_the_kernel_is_unpacked(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in {
            "./boot/vmlinuz-6.1-x": b"kernel",
            "./boot/config-6.1-x": b"config",
            "./usr/lib/modules/6.1-x/modules.order": b"order",
            "./etc/passwd": b"root",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data.seek(0)
    target = tmp_path / "kernel"
    with tarfile.open(fileobj=data, mode="r|") as archive:
        Extractor(target).unpack(archive, ((member.name, member) for member in archive))
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"vmlinuz", "lib/modules/6.1-x/modules.order"}
    assert (target / "vmlinuz").read_bytes() == b"kernel"


def test_two_kernels_are_one_too_many(tmp_path: Path) -> None:
    """Which one would a machine boot?"""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("./boot/vmlinuz-6.1-x", "./boot/vmlinuz-6.2-x"):
            archive.addfile(tarfile.TarInfo(name))
    data.seek(0)
    with (
        tarfile.open(fileobj=data, mode="r|") as archive,
        pytest.raises(UnsafeArchiveError, match="in the archive twice"),
    ):
        Extractor(tmp_path / "kernel").unpack(archive, ((one.name, one) for one in archive))


@pytest.mark.parametrize("versions", [[], ["6.1-x", "6.2-x"]])
def test_there_is_one_version_or_an_error(tmp_path: Path, versions: list[str]) -> None:
    for name in versions:
        (tmp_path / kernel.MODULES / name).mkdir(parents=True)
    with pytest.raises(ImageError, match="does not hold a kernel's modules: build it anew"):
        version(tmp_path)
    with pytest.raises(ImageError, match="image trixie holds no kernel$"):
        require(tmp_path, "trixie")


def test_what_depmod_says_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / kernel.MODULES / "6.1-x").mkdir(parents=True)
    tool = tmp_path / "depmod"
    monkeypatch.setattr(kernel, "DEPMOD", str(tool))

    def depmod(script: str) -> None:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    depmod("echo 'depmod: ERROR: out of spirits' >&2; exit 1")
    with pytest.raises(ImageError, match=r"the modules of 6\.1-x: depmod: ERROR: out of spirits"):
        index_modules(tmp_path)
    # kmod's exits 0 also when there was nothing that it could write.
    depmod("echo 'WARNING: could not open modules.order' >&2; exit 0")
    with pytest.raises(ImageError, match=r"WARNING: could not open modules\.order"):
        index_modules(tmp_path)
    depmod('test "$*" = "--basedir $2 6.1-x" && touch "$2/lib/modules/6.1-x/modules.dep"')
    index_modules(tmp_path)
    with pytest.raises(ImageError, match="image trixie holds no kernel/vmlinuz"):
        require(tmp_path, "trixie")
    (tmp_path / kernel.VMLINUZ).touch()
    require(tmp_path, "trixie")


def test_names_of_modules(tmp_path: Path) -> None:
    place = tmp_path / kernel.MODULES / "6.1-x"
    place.mkdir(parents=True)
    (place / "modules.dep").write_text(
        "kernel/net/ipv4/ip_gre.ko.xz: kernel/net/ipv4/gre.ko.xz\nkernel/net/ipv4/gre.ko.xz:\n"
        "kernel/sound/snd-pcm.ko:\n"
    )
    (place / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (place / "modules.alias").write_text(
        "# Aliases extracted from modules themselves.\n"
        "alias netdev-gre0 ip_gre\nalias pci:v00008086d* e1000\nalias char-major-9-* st\n"
    )
    assert kernel.names(tmp_path) == {"ip_gre", "gre", "snd_pcm", "ext4", "netdev_gre0"}
