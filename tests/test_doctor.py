"""What doctor concludes from what it found, and that it finds what is wrong by trying."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import doctor, images
from harness.cli import main
from harness.doctor import Finding, default_target, examine, targets
from harness.nodes import qemu

OK = Finding("node", "veth", True, "")
BROKEN = Finding("node", "veth", False, "not supported", "sudo modprobe veth")
TRIXIE = Finding("image", "trixie", True, "Open vSwitch 3.5.0")
FORKY = Finding("image", "forky", False, "not built")


def missing_for(findings: list[Finding], kind: str) -> dict[str, str]:
    """What the targets of a kind lack, by image; empty for those that lack nothing."""
    return {
        target.target.removesuffix(f"/{kind}"): "" if target.ok else target.said
        for target in targets(findings)
        if target.target.endswith(f"/{kind}")
    }


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([OK, TRIXIE], {"trixie": ""}),
        ([OK, TRIXIE, FORKY], {"trixie": "", "forky": "missing: image forky (not built)"}),
        ([BROKEN, TRIXIE], {"trixie": "missing: veth"}),
        ([BROKEN, FORKY], {"forky": "missing: veth, image forky (not built)"}),
        ([Finding("build", "mmdebstrap", False, ""), TRIXIE], {"trixie": ""}),
    ],
)
def test_a_target_runs_when_nothing_is_missing_for_it(
    findings: list[Finding], expected: dict[str, str]
) -> None:
    assert missing_for(findings, "namespace/netdev") == expected


ENGINE = Finding("engine", "container engine", True, "Docker 20.10")
NO_ENGINE = Finding("engine", "container engine", False, "nobody answers", "start it")
HOST = Finding("image", "host", True, "Open vSwitch 3.1.0")


@pytest.mark.parametrize(
    ("findings", "missing"),
    [
        ([ENGINE, TRIXIE], {"trixie": ""}),
        ([BROKEN, ENGINE, TRIXIE], {"trixie": ""}),
        ([NO_ENGINE, TRIXIE], {"trixie": "missing: container engine"}),
        ([ENGINE, HOST], {}),
    ],
)
def test_a_container_needs_an_engine_and_an_image_of_the_catalogue(
    findings: list[Finding], missing: dict[str, str]
) -> None:
    assert missing_for(findings, "docker/netdev") == missing


QEMU = Finding("vm", "QEMU", True, "QEMU 7.2")
NO_QEMU = Finding("vm", "QEMU", False, "VMs need it", "sudo apt-get install qemu-system-x86")
LINUX = Finding("kernel", "trixie", True, "Open vSwitch 3.5.0, Linux 6.12")
NO_LINUX = Finding("kernel", "trixie", False, "holds no kernel", "ovs-harness image remove trixie")


@pytest.mark.parametrize(
    ("findings", "missing"),
    [
        ([QEMU, LINUX], ""),
        # Namespaces, /dev/net/tun and what runs in them are nothing to a machine of one's own.
        ([BROKEN, QEMU, LINUX], ""),
        ([NO_QEMU, LINUX], "missing: QEMU"),
        ([QEMU, NO_LINUX], "missing: image trixie (holds no kernel)"),
        ([BROKEN, NO_QEMU, NO_LINUX], "missing: QEMU, image trixie (holds no kernel)"),
    ],
)
def test_a_vm_target_needs_qemu_and_a_kernel_and_nothing_else(
    findings: list[Finding], missing: str
) -> None:
    found = {target.target: "" if target.ok else target.said for target in targets(findings)}
    assert found == {"trixie/vm/kernel": missing, "trixie/vm/netdev": missing}


def test_a_namespace_target_needs_no_qemu() -> None:
    found = {target.target: target.ok for target in targets([OK, NO_QEMU, ENGINE, TRIXIE, LINUX])}
    assert found == {
        "trixie/namespace/netdev": True,
        "trixie/docker/netdev": True,
        "trixie/vm/kernel": False,
        "trixie/vm/netdev": False,
    }


@pytest.mark.parametrize(
    ("version", "ok", "said"),
    [
        ("echo QEMU emulator version 7.2.22 '(Debian)'", True, "QEMU emulator version 7.2.22"),
        ("echo QEMU emulator version 5.2.0 '(Debian)'", False, "VMs need QEMU 7.2 or later"),
        ("exit 1", False, "--version` says ''"),
        (None, False, "VMs need qemu-system-none"),
    ],
)
def test_qemu_is_found_or_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, ok: bool, said: str
) -> None:
    program = tmp_path / "qemu"
    if version is not None:
        program.write_text(f"#!/bin/sh\n{version}\n")
        program.chmod(0o755)
    monkeypatch.setattr(qemu, "PROGRAM", str(program) if version else "qemu-system-none")
    found, *_ = doctor._examine_machines()
    assert found.ok is ok
    assert said in found.said
    assert found.remedy == ("" if ok else doctor._QEMU_REMEDY)


def test_the_accelerator_that_is_tried_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert doctor._examine_accelerator().said.startswith("kvm")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor._examine_accelerator().said.startswith("emulation: /dev/kvm ")
    assert doctor._examine_accelerator().ok


def test_an_image_without_a_kernel_is_to_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images, "obstacles", list)
    unbuilt = doctor._examine_kernel("trixie")
    assert (unbuilt.ok, unbuilt.said.partition(";")[0]) == (True, "not built yet")
    image = SimpleNamespace(version="3.5.0", stored=SimpleNamespace(path=tmp_path))
    monkeypatch.setattr(images, "resolve", lambda *_, **__: image)
    lost = doctor._examine_kernel("trixie")
    assert (lost.ok, lost.said) == (False, "holds no kernel")
    assert lost.remedy == "ovs-harness image remove trixie && ovs-harness image build trixie"
    modules = tmp_path / "kernel/lib/modules/6.1-x"
    modules.mkdir(parents=True)
    for file in (modules / "modules.dep", tmp_path / "kernel/vmlinuz"):
        file.touch()
    assert doctor._examine_kernel("trixie").said == "Open vSwitch 3.5.0, Linux 6.1-x"


@pytest.mark.parametrize(("finding", "status"), [(OK, 0), (BROKEN, 1)])
def test_exit_status_is_that_of_the_default_target(
    finding: Finding,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [finding, TRIXIE, FORKY])
    assert main(["doctor"]) == status
    said = capsys.readouterr().out
    assert "trixie/namespace/netdev (default)" in said
    assert ("veth: sudo modprobe veth" in said) is bool(status)


def test_a_closed_tun_device_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "tun"
    assert doctor._tun_remedy(device).startswith("sudo modprobe tun")
    device.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor._tun_remedy(device) == f"sudo chmod 666 {device}"


def test_every_probe_says_what_it_is_for_and_every_failure_how_to_mend_it() -> None:
    findings = examine()
    assert default_target() in {target.target for target in targets(findings)}
    for finding in findings:
        assert finding.said
        if finding.area in ("node", "vm", "engine") and not finding.ok:
            assert finding.remedy
    machines = {finding.subject for finding in findings if finding.area == "vm"}
    assert machines >= {"QEMU", "accelerator"}
    assert "trixie/vm/kernel" in {target.target for target in targets(findings)}
    tried = {finding.subject for finding in findings if finding.area == "node" and finding.ok}
    assert tried <= {*doctor._PURPOSE, "namespaces"}


def test_trying_leaves_no_interface_behind() -> None:
    before = sorted(Path("/sys/class/net").iterdir())
    examine()
    assert sorted(Path("/sys/class/net").iterdir()) == before
