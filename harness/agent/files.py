"""Files: read, written, and tried."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .requests import Operations, Request
from .spaces import Spaces


def read_regular(path: str) -> bytes:
    """The content of a regular file: a pipe could have to be waited for, a device have no end."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


class Files:
    """Reads and writes files, for those of /proc in one of the network namespaces."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self.operations: Operations = {
            "read": self.read,
            "write": self.write,
            "try_open": self.try_open,
        }

    def read(self, request: Request) -> None:
        """The content of ``paths``, or the system's words for what can't be read."""
        lengths: list[int] = []
        errors: list[str | None] = []
        content = []
        with self._spaces.inside(request.get("netns")):
            for path in request["paths"]:
                try:
                    content.append(read_regular(path))
                    errors.append(None)
                except OSError as error:
                    content.append(b"")
                    errors.append(error.strerror)
                lengths.append(len(content[-1]))
        request.reply({"lengths": lengths, "errors": errors}, b"".join(content))

    def try_open(self, request: Request) -> None:
        """Whether a file can be opened for reading and writing: null, or the system's words."""
        try:
            os.close(os.open(request["path"], os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            request.reply(error.strerror)
        else:
            request.reply()

    def write(self, request: Request) -> None:
        """Write the blob to ``path``, a file that is made with ``mode`` if there is none."""
        with self._spaces.inside(request.get("netns")):
            # A pipe that nobody reads is an error, and nothing to wait for.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(request["path"], flags, request["mode"]), "wb") as file:
                file.write(request.blob)
        request.reply()


def overwrite(path: str, content: str) -> None:
    """Write a file where it lies: to remove it and make another one takes several times as long
    where layers are laid over each other."""
    data = content.encode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        file.write(data)
        if os.fstat(file.fileno()).st_size > len(data):
            file.truncate(len(data))


def write_anew(path: str, content: str, mode: int) -> None:
    """Write a file that was not there: what the image has there may be somebody else's, and is not
    ours to write to, even as root in a user namespace."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(content)
