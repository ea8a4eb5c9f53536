"""What the harness asks for, and the way back to it."""

from __future__ import annotations

import errno
import os
from typing import Any, Callable, Dict

Fields = Dict[str, Any]
"""A JSON object."""
Post = Callable[[Fields, bytes], None]
"""Sends a message and its blob to the harness."""
Job = Callable[[], Any]


class Request:
    """An operation that was asked for, with what it is to be done with. It is answered once, now or
    later, by :meth:`reply`, :meth:`fail` or :meth:`refuse`."""

    def __init__(self, fields: Fields, blob: bytes, post: Post) -> None:
        self.number: int = fields.pop("id")
        self.operation: str = fields.pop("op")
        self.fields = fields
        self.blob = blob
        self._post = post

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """A field that need not be there."""
        return self.fields.get(name, otherwise)

    def reply(self, answer: object = None, blob: bytes = b"") -> None:
        """Answer."""
        self._post({"id": self.number, "ok": answer}, blob)

    def fail(self, said: str, error_number: int = 0) -> None:
        """Answer with an error."""
        self._post({"id": self.number, "error": said, "errno": error_number}, b"")

    def refuse(self, error: Exception) -> None:
        """Answer with what the system said: OSError, or ValueError for a name or setting that it
        cannot take (one with a NUL character, say)."""
        if isinstance(error, OSError):
            said = error.strerror or str(error)
            if error.filename:
                said = f"{error.filename}: {said}"
            self.fail(said, error.errno or 0)
        else:
            self.fail(str(error), errno.EINVAL)

    def attempt(self, job: Job) -> None:
        """Do some of what was asked for; whatever is raised is the answer."""
        try:
            job()
        except (OSError, ValueError) as error:
            self.refuse(error)
        except Exception as error:  # noqa: BLE001 - the caller is told where, and the node lives on
            # A defect of the agent's own.
            self.fail(f"the agent failed: {_whereabouts(error)}")


def _whereabouts(error: Exception) -> str:
    """An error and the last places that it came through. Python's own words for that need modules
    that it loads only then; once the root file system has changed, none can be loaded."""
    places = []
    step = error.__traceback__
    while step is not None:
        file = os.path.basename(step.tb_frame.f_code.co_filename)
        places.append(f"{file}:{step.tb_lineno}")
        step = step.tb_next
    return f"{type(error).__name__}: {error} ({' > '.join(places[-4:])})"


Operation = Callable[[Request], None]
"""Does what was asked for, or begins to. What it raises is the answer."""
Operations = Dict[str, Operation]
"""By the names that they are asked for by."""
