"""Where keepers are found: a directory of the user's own, with a socket and a log for each lab."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.live.errors import LiveError
from harness.topology.values import node_name

LONGEST_NAME = 64
LONGEST_ADDRESS = 107
"""Bytes of a unix socket's path (unix(7), sun_path, less the final NUL)."""
BACKLOG = 64


def directory() -> Path:
    """The directory of this user's keepers, made where it is missing: in ``XDG_RUNTIME_DIR`` where
    that is this user's own, else ``/tmp/ovs-harness-UID``.

    Raise :class:`LiveError` when it is not a directory that only this user can enter.
    """
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # After `su` or `sudo` it may still be that of somebody else.
    own = runtime.startswith("/") and _owner(Path(runtime)) == user
    path = Path(runtime, "ovs-harness") if own else Path(f"/tmp/ovs-harness-{user}")
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_foreign(path, user)
    return path


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _refuse_foreign(path: Path, user: int) -> None:
    found = path.lstat()
    way_out = "remove it, or set XDG_RUNTIME_DIR to a directory of your own"
    if not stat.S_ISDIR(found.st_mode):
        raise LiveError(f"{path} is not a directory: {way_out}")
    if found.st_uid != user:
        raise LiveError(f"{path} belongs to user {found.st_uid}, not to you: {way_out}")
    if found.st_mode & 0o077:
        raise LiveError(f"{path} can be entered by others: `chmod 700 {path}`")


def check_name(name: str) -> None:
    """Raise :class:`LiveError` when a lab cannot be called ``name``."""
    fault = node_name(name, LONGEST_NAME)
    if fault is not None:
        raise LiveError(f"a lab cannot be called so: {fault}")


def socket_path(name: str) -> Path:
    """The socket of the keeper of the lab ``name``. Raise :class:`LiveError` for a bad name."""
    check_name(name)
    path = directory() / f"{name}.sock"
    if len(os.fsencode(path)) > LONGEST_ADDRESS:
        raise LiveError(
            f"{path} is longer than the {LONGEST_ADDRESS} bytes of a socket's path: use a shorter "
            "name, or a shorter XDG_RUNTIME_DIR"
        )
    return path


def log_path(name: str) -> Path:
    """Where the keeper of the lab ``name`` writes what it has to say."""
    return socket_path(name).with_suffix(".log")


def take(name: str) -> socket.socket:
    """Take a lab's name: return the socket that its keeper is to serve.

    Raise :class:`LiveError` when a lab of that name is up.
    """
    path = socket_path(name)
    with _locked():
        _sweep()
        if path.exists():
            raise LiveError(
                f"a lab called {name} is up already: `ovs-harness down {name}` ends it, and "
                "`--name` gives another one another name"
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    return listener


def names() -> list[str]:
    """The labs whose keepers live, in alphabetical order; the sockets of dead ones are removed."""
    with _locked():
        _sweep()
        return sorted(path.stem for path in directory().glob("*.sock"))


def chosen(name: str | None) -> str:
    """``name``, or the name of the only lab that is up. Raise :class:`LiveError` when there is
    none, or more than one."""
    if name is not None:
        return name
    there = names()
    if not there:
        raise LiveError("no lab is up: `ovs-harness up TOPOLOGY.yaml` builds one")
    if len(there) > 1:
        raise LiveError(f"more than one lab is up: name one of {', '.join(there)}")
    return there[0]


def connect(name: str) -> socket.socket:
    """A connection to the keeper of the lab ``name``. Raise :class:`LiveError` when there is no
    such lab."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(str(socket_path(name)))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        stream.close()
        raise LiveError(_absent(name)) from error
    except BaseException:
        stream.close()
        raise
    return stream


def _absent(name: str) -> str:
    there = names()
    labs = f"there is {', '.join(there)}" if there else "none is up"
    log = log_path(name)
    died = f"; the last one of that name broke off, see {log}" if log.exists() else ""
    return f"no lab is called {name!r}: {labs}{died}"


@contextmanager
def _locked() -> Iterator[None]:
    """Nobody else takes a name or removes a socket meanwhile."""
    descriptor = os.open(directory(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep() -> None:
    for path in directory().glob("*.sock"):
        if _is_dead(path):
            path.unlink()


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.setblocking(False)
        try:
            stream.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            # It is there, and has a full queue.
            return False
    return False
