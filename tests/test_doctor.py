"""What doctor concludes from what it found, and that it finds what is wrong by trying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import doctor
from harness.cli import main
from harness.doctor import Finding, default_target, examine, targets

OK = Finding("node", "veth", True, "")
BROKEN = Finding("node", "veth", False, "not supported", "sudo modprobe veth")
TRIXIE = Finding("image", "trixie", True, "Open vSwitch 3.5.0")
FORKY = Finding("image", "forky", False, "not built")


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
    found = {target.target: "" if target.ok else target.said for target in targets(findings)}
    assert found == {f"{image}/namespace/netdev": said for image, said in expected.items()}


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
        if finding.area == "node" and not finding.ok:
            assert finding.remedy
    tried = {finding.subject for finding in findings if finding.area == "node" and finding.ok}
    assert tried <= {*doctor._PURPOSE, "namespaces"}


def test_trying_leaves_no_interface_behind() -> None:
    before = sorted(Path("/sys/class/net").iterdir())
    examine()
    assert sorted(Path("/sys/class/net").iterdir()) == before
