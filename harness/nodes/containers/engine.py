"""Which engine there is, and how it is spoken to: found as the command `docker` finds it.

Importing this module loads the Docker SDK, which takes long: the harness itself does not.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import docker
import requests
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.tls import TLSConfig

OLDEST_API = "1.41"
"""Of Docker 20.10, and what Podman 4 speaks."""
BOUND = 60.0
"""Seconds that an engine may take for one answer. It says nothing while it pulls or imports."""
SSH_BOUND = 30.0
ENGINES_SOCKET = "/var/run/docker.sock"


class EngineError(RuntimeError):
    """The engine can't be spoken to, or refused what was asked for; the message says how to get
    further."""


class Address(NamedTuple):
    """Where an engine is."""

    url: str
    """``unix:///path``, ``tcp://host:port`` or ``ssh://user@host``."""
    named_by: str
    """What says so."""
    tls: TLSConfig | None = None


def find() -> Address:
    """The engine that the user means: ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the context that `docker
    context use` chose, or else the first socket of Docker or Podman that is there. Raise
    :class:`EngineError` for a context that there is not."""
    host = os.environ.get("DOCKER_HOST")
    if host:
        with _explained(f"DOCKER_HOST={host}"):
            settings = docker.utils.kwargs_from_env()
        return Address(host, f"DOCKER_HOST={host}", settings.get("tls") or None)
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name != "default":
        with _explained(f"the docker context {name}"):
            context = ContextAPI.get_context(name)
        if context is None:
            raise EngineError(
                f"there is no docker context {name!r}: `docker context ls` lists them"
            )
        return Address(context.Host, f"the docker context {name}", context.TLSConfig)
    there = next((path for path in _usual_sockets() if path.exists()), Path(ENGINES_SOCKET))
    return Address(f"unix://{there}", "nothing else was named")


def _usual_sockets() -> Iterator[Path]:
    """Those of Docker, of Docker without root, and of Podman."""
    yield Path(ENGINES_SOCKET)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime, "docker.sock")
        yield Path(runtime, "podman/podman.sock")
    yield Path("/run/podman/podman.sock")


class Engine:
    """An engine that answers."""

    def __init__(self, address: Address | None = None) -> None:
        """Find it and greet it. Raise :class:`EngineError`."""
        self.address = find() if address is None else address
        self._forwarding: _Forwarding | None = None
        self._url = self.address.url
        if self._url.startswith("ssh://"):
            self._forwarding = _Forwarding(self.address)
            self._url = f"unix://{self._forwarding.socket}"
        try:
            with self.explained():
                _try_socket(self._url)
                said = self._client("auto").version()
        except BaseException:
            self.close()
            raise
        self.version: str = said["Version"]
        self.api: str = said["ApiVersion"]
        kinds = {part.get("Name", "") for part in said.get("Components") or ()}
        self.is_podman = any("podman" in kind.lower() for kind in kinds)

    def client(self) -> docker.APIClient:
        """A client of its own for one thread."""
        return self._client(self.api)

    def _client(self, version: str) -> docker.APIClient:
        tls = self.address.tls or False
        return docker.APIClient(base_url=self._url, version=version, timeout=BOUND, tls=tls)

    def explained(self) -> Any:
        """A context that turns what the SDK raises into :class:`EngineError`."""
        return _explained(f"the engine at {self.address.url}", self.address)

    def close(self) -> None:
        """Let go of what leads to it. Idempotent."""
        if self._forwarding is not None:
            self._forwarding.close()


class _Forwarding:
    """A socket of ours that leads to an engine's on another machine, as ssh's ``-L`` does it: with
    the user's own keys, known hosts and settings. It ends with this process: with its standard
    input the command ends that ssh runs there, and with that ssh."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        if shutil.which("ssh") is None:
            raise EngineError(f"{address.url} is reached by ssh, which is not installed here")
        self._place = tempfile.mkdtemp(prefix="ovs-harness-ssh-")
        self.socket = f"{self._place}/engine.sock"
        user = ["-l", parts.username] if parts.username else []
        port = ["-p", str(parts.port)] if parts.port else []
        theirs = parts.path if len(parts.path) > 1 else ENGINES_SOCKET
        options = ["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"]
        forward = ["-T", "-L", f"{self.socket}:{theirs}"]
        self._ssh = subprocess.Popen(
            ["ssh", *options, *forward, *user, *port, "--", parts.hostname or "", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        with suppress(BrokenPipeError):
            self._ssh.stdin.write(b"there\n")
            self._ssh.stdin.flush()
        ready, _, _ = select.select([self._ssh.stdout], [], [], SSH_BOUND)
        if not ready or not self._ssh.stdout.readline():
            self._ssh.terminate()
            said = self._ssh.communicate()[1].decode(errors="replace").strip()
            self.close()
            raise EngineError(f"ssh does not lead to the engine at {address.url}: {said}")

    def close(self) -> None:
        self._ssh.terminate()
        self._ssh.communicate()
        shutil.rmtree(self._place, ignore_errors=True)


def _try_socket(url: str) -> None:
    """Raise OSError when nobody listens at the unix socket that ``url`` names: the SDK wraps the
    system's words in others."""
    scheme, _, path = url.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
            tried.settimeout(BOUND)
            tried.connect(path)


@contextmanager
def _explained(what: str, address: Address | None = None) -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(f"{what} refused: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"{what}: {_said(error, address)}") from error


def _said(error: BaseException, address: Address | None) -> str:
    """What went wrong, and the way out."""
    reasons = list(_reasons(error))
    if any(isinstance(one, PermissionError) for one in reasons):
        return (
            "no permission on its socket: `sudo usermod -aG docker $USER` and log in again, or use "
            "an engine without root (https://docs.docker.com/go/rootless/)"
        )
    if any(isinstance(one, TimeoutError | requests.Timeout) for one in reasons):
        return f"it did not answer within {BOUND:g} s: is it stopped, or overloaded?"
    if any(isinstance(one, FileNotFoundError | ConnectionRefusedError) for one in reasons):
        named = f" ({address.named_by})" if address is not None else ""
        return (
            f"nobody answers there{named}: start it (`sudo systemctl start docker`), or name "
            "another one with DOCKER_HOST or `docker context use`"
        )
    return str(error)


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """An error and what lies behind it: the SDK and requests pass reasons on as arguments too."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


if __name__ == "__main__":
    # For scripts: whether an engine answers.
    print(Engine().address.url)
