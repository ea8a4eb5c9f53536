"""JSON objects in a stream, found where they end."""

from __future__ import annotations

import codecs
import json
import re
from typing import Iterator

from .requests import Fields

ANSWER_LIMIT = 256 << 20
"""Characters of an answer at most: it is kept in memory."""
DEPTH_LIMIT = 256
"""Brackets within each other at most. What reads or writes JSON here and in the harness is
recursive, and has less than 1000 levels for everything."""
ESCAPED = re.compile(r"\\.", re.DOTALL)
NO_BRACKET = re.compile(r"[^][{}]+")
BLANK = re.compile(r"[ \t\n\r]*")


class JsonObjects:
    """Cuts a stream of JSON objects, which nothing need separate, where they end.

    Each character is looked at once as it comes, however many pieces an object comes in, and once
    more when its object is complete.
    """

    def __init__(self) -> None:
        # A character may come in two pieces.
        self.characters = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.decoder = json.JSONDecoder()
        self.pieces: list[str] = []
        """The beginning of an object that is not complete."""
        self.size = self.depth = 0
        self.carried = ""
        """What the pieces end in the middle of: a string, or an escape sequence in one."""

    def feed(self, data: bytes) -> Iterator[Fields]:
        """The objects that ``data`` completes. Raise ConnectionError for what is no object."""
        piece = self.characters.decode(data)
        complete = self._scan(piece)
        self.size += len(piece)
        if self.size > ANSWER_LIMIT:
            raise ConnectionError("the answer is too long")
        self.pieces.append(piece)
        if complete or len(self.pieces) == 1:
            yield from self._decode(complete)

    def _scan(self, piece: str) -> int:
        """How many times the outermost bracket is closed in ``piece``."""
        bare = ESCAPED.sub("", self.carried + piece)
        parts = bare.split('"')
        in_string = len(parts) % 2 == 0
        self.carried = ('"' if in_string else "") + ("\\" if bare.endswith("\\") else "")
        complete = 0
        for bracket in NO_BRACKET.sub("", "".join(parts[::2])):
            if bracket in "{[":
                self.depth += 1
                if self.depth > DEPTH_LIMIT:
                    raise ConnectionError("the answer is nested too deeply")
            else:
                self.depth -= 1
                complete += self.depth == 0
        return complete

    def _decode(self, count: int) -> Iterator[Fields]:
        """Take ``count`` objects off the pieces, and look at what the next one begins with."""
        text = "".join(self.pieces)
        position = self._skip(text, 0)
        for _ in range(count):
            try:
                message, position = self.decoder.raw_decode(text, position)
            except ValueError:
                raise ConnectionError("the other side does not speak JSON-RPC") from None
            position = self._skip(text, position)
            yield message
        rest = text[position:]
        self.pieces = [rest] if rest else []
        self.size = len(rest)

    @staticmethod
    def _skip(text: str, position: int) -> int:
        """Where the next object begins: after the blanks at ``position``."""
        position = BLANK.match(text, position).end()  # type: ignore[union-attr]
        if position < len(text) and text[position] != "{":
            raise ConnectionError("the other side does not speak JSON-RPC")
        return position
