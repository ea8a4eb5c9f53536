"""What the relay does to frames that go out at an end, when it is told to be a bad wire."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple


class Impairment(NamedTuple):
    """How bad a wire is. Probabilities are from 0 to 1 and for each frame, times in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    """One bit of the frame is turned over."""
    delay: float = 0.0
    jitter: float = 0.0
    """Up to so much more delay, another for each frame: with more than what lies between two
    frames, they overtake each other."""

    def check(self) -> Impairment:
        """Return self; raise ``ValueError`` naming the first value that makes no sense."""
        for name in ("loss", "duplicate", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, from 0 to 1, not {getattr(self, name)}")
        for name in ("delay", "jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is in seconds, and not {getattr(self, name)}")
        return self


class BadWire:
    """An impairment at work; what it draws repeats with its seed."""

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self._impairment = impairment
        self._random = random.Random(seed)

    def fate(self, frame: bytes) -> Iterator[tuple[float, bytes]]:
        """What comes of a frame: nothing, or frames, each with the delay after which it comes."""
        bad, draw = self._impairment, self._random.random
        if draw() < bad.loss:
            return
        for _ in range(2 if draw() < bad.duplicate else 1):
            data = self._corrupted(frame) if draw() < bad.corrupt else frame
            yield bad.delay + bad.jitter * draw(), data

    def _corrupted(self, frame: bytes) -> bytes:
        bit = self._random.randrange(8 * len(frame))
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)
