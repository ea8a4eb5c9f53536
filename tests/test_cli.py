"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main

TOPOLOGY = """
name: one
switches:
- name: s1
  bridges:
  - name: br0
    ports:
    - {kind: host, name: h1}
"""


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "topo.yaml"
    path.write_text(TOPOLOGY)
    return path


def test_draw_writes_svg_to_standard_output(
    topology: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", str(topology)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("<svg")
    assert "h1" in said


@pytest.mark.parametrize("ending", ["svg", "dot", "gv", "mmd"])
def test_draw_takes_the_format_from_the_ending(topology: Path, ending: str) -> None:
    output = topology.with_suffix(f".{ending}")
    assert main(["draw", str(topology), "-o", str(output)]) == 0
    assert "h1" in output.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["draw", "{there}", "-o", "x.png"], 2, "FILE ends in .svg, .dot, .gv, .mmd, not '.png'"),
        (["draw", "/none"], 1, "/none: can't read the topology"),
        (["draw", "{there}", "-o", "/none/x.svg"], 1, "/none/x.svg: No such file or directory"),
        (["image", "remove", "trixie"], 1, "no image 'trixie' is built"),
        (["image", "build", "sid"], 1, "there is no image 'sid'"),
        (["image", "export", "trixie", "/none/x"], 1, "image trixie is not built"),
        (["image", "import", "/none"], 1, "/none: No such file or directory"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_no_traceback(
    topology: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    assert main([argument.format(there=topology) for argument in arguments]) == status
    error = capsys.readouterr().err
    assert error.startswith("ovs-harness: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("topology")
def test_image_list_shows_what_could_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "list"]) == 0
    said = capsys.readouterr().out
    for name in ("bullseye", "bookworm", "trixie", "forky"):
        assert name in said
    assert "not built" in said


@pytest.mark.parametrize("arguments", [[], ["image"], ["nonsense"], ["image", "remove"]])
def test_what_is_not_understood_ends_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
