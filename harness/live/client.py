"""A command's side of the connection to a keeper."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

import msgspec

from harness.live import places
from harness.live.errors import LiveError
from harness.live.messages import Answer, Done, Failed, Request, line, parse_answer

T = TypeVar("T")


class Connection:
    """One request to the keeper of a lab; a context manager that hangs up."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self._stream = places.connect(lab)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, which ends what was asked for."""
        self._stream.close()

    def patience(self, seconds: float) -> None:
        """Let whatever takes longer raise ``TimeoutError``."""
        self._stream.settimeout(seconds)

    def answers(self, request: Request) -> Iterator[Answer]:
        """Ask; the answers as they come, the last one :class:`Done`. Raise :class:`LiveError` with
        the keeper's words, or when it has ended."""
        try:
            asked = line(request)
        except UnicodeEncodeError as error:
            raise LiveError("an argument is not UTF-8 text") from error
        try:
            self._stream.sendall(asked)
            with self._stream.makefile("rb") as lines:
                for data in lines:
                    answer = parse_answer(data)
                    if isinstance(answer, Failed):
                        raise LiveError(answer.reason)
                    yield answer
                    if isinstance(answer, Done):
                        return
        except ConnectionError:
            pass
        raise LiveError(self._ended())

    def ask(self, request: Request, kind: type[T]) -> T:
        """Ask what has one answer, of the type ``kind``."""
        for answer in self.answers(request):
            if isinstance(answer, Done):
                return msgspec.json.decode(answer.value, type=kind)
        raise LiveError(self._ended())

    def _ended(self) -> str:
        log = places.log_path(self.lab)
        said = log.read_text(errors="replace").strip() if log.exists() else ""
        if not said:
            return f"the lab {self.lab} has ended"
        return f"the keeper of the lab {self.lab} broke off: {said.splitlines()[-1]} (all: {log})"


def ask(lab: str | None, request: Request, kind: type[T]) -> T:
    """Ask the lab called so, or the only one that is up, what has one answer."""
    with Connection(places.chosen(lab)) as connection:
        return connection.ask(request, kind)
