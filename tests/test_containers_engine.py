"""Which engine is meant, and what is said when it can't be used. No engine is needed."""

from __future__ import annotations

import json
import socket
from hashlib import sha256
from pathlib import Path

import docker
import pytest
import requests

from harness.nodes.containers import engine
from harness.nodes.containers.engine import Address, Engine, EngineError, find


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any setting of Docker's."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path


def add_context(home: Path, name: str, host: str) -> None:
    directory = home / ".docker/contexts/meta" / sha256(name.encode()).hexdigest()
    directory.mkdir(parents=True)
    endpoint = {"Host": host, "SkipTLSVerify": False}
    meta = {"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (directory / "meta.json").write_text(json.dumps(meta))
    # The SDK looks for contexts beside this file, if there is one.
    (home / ".docker/config.json").write_text("{}")


def test_what_docker_host_says_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_context(home, "lab", "tcp://192.0.2.7:2375")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    monkeypatch.setenv("DOCKER_HOST", "ssh://someone@192.0.2.1")
    assert find().url == "ssh://someone@192.0.2.1"


def test_a_context_that_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_context(home, "lab", "tcp://192.0.2.7:2375")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert find().url == "tcp://192.0.2.7:2375"


def test_the_context_in_use(home: Path) -> None:
    add_context(home, "lab", "ssh://192.0.2.7")
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": "lab"}))
    assert find() == Address("ssh://192.0.2.7", "the docker context lab")


def test_a_context_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "lost")
    with pytest.raises(EngineError, match="there is no docker context 'lost'"):
        find()


def test_tls_is_used_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text("")
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    tls = find().tls
    assert tls is not None
    assert tls.cert == (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


def test_podmans_socket_is_found_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ENGINES_SOCKET", str(home / "none.sock"))
    socket_ = home / "run/podman/podman.sock"
    socket_.parent.mkdir(parents=True)
    assert find().url == f"unix://{home}/none.sock"
    socket_.touch()
    assert find().url == f"unix://{socket_}"


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nobody answers there \(the test\): start it"):
        Engine(Address(f"unix://{tmp_path}/none.sock", "the test"))


def test_nobody_listens_any_more(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    with pytest.raises(EngineError, match="nobody answers there"):
        Engine(Address(f"unix://{path}", "the test"))


def test_an_engine_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BOUND", 0.2)
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(EngineError, match=r"did not answer within 0\.2 s"):
            Engine(Address(f"unix://{path}", "the test"))


def test_a_machine_that_ssh_does_not_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: no such machine' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(EngineError, match="does not lead to the engine at .*: ssh: no such mach"):
        Engine(Address("ssh://nobody@nowhere.invalid", "the test"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "no permission on its socket: `sudo usermod"),
        (requests.ReadTimeout("Read timed out"), "did not answer within"),
        (docker.errors.DockerException("odd"), "the engine: odd"),
        (docker.errors.APIError("500", explanation="no space left"), "refused: no space left"),
    ],
)
def test_what_the_sdk_raises_is_told(error: Exception, words: str) -> None:
    wrapped = docker.errors.DockerException("Error while fetching server API version")
    wrapped.__cause__ = requests.ConnectionError(error)
    raised = wrapped if isinstance(error, PermissionError) else error
    with pytest.raises(EngineError, match=words), engine._explained("the engine"):
        raise raised
