"""Where keepers are found: whose directory it is, which names are taken, what dead ones leave."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.live import places
from harness.live.errors import LiveError


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "ovs-harness"


@pytest.fixture
def later() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_directory_is_the_users_own_and_nobody_elses(runtime: Path) -> None:
    assert places.directory() == runtime
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert places.directory() == runtime


@pytest.mark.parametrize("value", [None, "", "relative", "/nowhere"])
def test_without_a_runtime_directory_it_is_in_tmp(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setattr(Path, "mkdir", lambda *_args, **_options: None)
    assert places.directory() == Path(f"/tmp/ovs-harness-{os.geteuid()}")


def test_a_runtime_directory_of_somebody_else_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(Path, "mkdir", lambda *_args, **_options: None)
    assert places.directory() == Path("/tmp/ovs-harness-4711")


def test_a_directory_that_others_can_enter_is_refused(runtime: Path) -> None:
    runtime.mkdir()
    runtime.chmod(0o755)
    with pytest.raises(LiveError, match=r"can be entered by others: `chmod 700 "):
        places.directory()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_is_refused(runtime: Path, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        runtime.touch()
    else:
        runtime.symlink_to(tmp_path)
    with pytest.raises(LiveError, match="is not a directory: remove it"):
        places.directory()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_that_somebody_else_made_is_refused(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 4711, 4711)
    with pytest.raises(LiveError, match="belongs to user 4711, not to you"):
        places.directory()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("name", ["", "a/b", "..", "../x", ".hidden", "a b", "-x", "\n", "x" * 65])
def test_names_that_no_lab_can_have(name: str) -> None:
    with pytest.raises(LiveError, match="a lab cannot be called so: "):
        places.take(name)


def test_a_socket_path_that_is_too_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(LiveError, match="longer than the 107 bytes of a socket's path"):
        places.take("one")


@pytest.mark.usefixtures("runtime")
def test_a_name_is_taken_once_and_two_names_live_side_by_side(later: ExitStack) -> None:
    later.enter_context(places.take("one"))
    with pytest.raises(LiveError, match="a lab called one is up already: `ovs-harness down one`"):
        places.take("one")
    later.enter_context(places.take("two"))
    assert places.names() == ["one", "two"]


def test_the_socket_of_a_dead_keeper_is_swept(runtime: Path, later: ExitStack) -> None:
    places.take("dead").close()
    later.enter_context(places.take("alive"))
    assert (runtime / "dead.sock").exists() is False
    places.take("other").close()
    assert places.names() == ["alive"]
    later.enter_context(places.take("other"))


@pytest.mark.usefixtures("runtime")
def test_a_keeper_that_is_busy_is_not_taken_for_dead(later: ExitStack) -> None:
    listener = later.enter_context(places.take("busy"))
    listener.listen(0)
    streams = [later.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
    for stream in streams:
        stream.setblocking(False)
        stream.connect_ex(str(places.socket_path("busy")))
    assert places.names() == ["busy"]


@pytest.mark.usefixtures("runtime")
def test_the_only_lab_needs_no_name(later: ExitStack) -> None:
    with pytest.raises(LiveError, match=r"no lab is up: `ovs-harness up TOPOLOGY.yaml` builds one"):
        places.chosen(None)
    later.enter_context(places.take("one"))
    assert places.chosen(None) == "one"
    later.enter_context(places.take("two"))
    with pytest.raises(LiveError, match="more than one lab is up: name one of one, two"):
        places.chosen(None)
    assert places.chosen("two") == "two"


def test_a_lab_that_is_not_there_is_told_with_those_that_are(
    runtime: Path, later: ExitStack
) -> None:
    with pytest.raises(LiveError, match=r"^no lab is called 'x': none is up$"):
        places.connect("x")
    places.take("x").close()
    (runtime / "x.log").write_text("said")
    later.enter_context(places.take("one"))
    with pytest.raises(LiveError, match=r"no lab is called 'x': there is one; .* see .*/x\.log$"):
        places.connect("x")
