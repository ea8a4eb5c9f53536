"""A history on disk: one directory, read back as the same data or refused with one clear error.

``history.json`` says what the history is of and names the other files, each with a digest. It is
written last, so that a directory without it holds a history that was never finished.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.traffic import pcapng
from harness.traffic.history import About, History, SentFlow, StatePair
from harness.traffic.operations import Event
from harness.traffic.pcapng import Packet

FORMAT = "ovs-harness history"
VERSION = 1
HEADER, EVENTS, FLOWS = "history.json", "history.jsonl", "flows.jsonl"
FRAMES, STATES, TOPOLOGY = "frames.pcapng", "states.jsonl", "topology.yaml"
_LOG = ".log"


class HistoryError(ValueError):
    """A directory that holds no history, or one that can't be read."""


class _Envelope(msgspec.Struct):
    format: str
    version: int
    sha256: str
    """Of the bytes of ``body``."""
    body: msgspec.Raw


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    about: About
    files: dict[str, str]
    """The other files, and their SHA-256."""


def save(history: History, directory: Path) -> None:
    """Write a history into a directory, which is made when it is not there; what else it holds is
    left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / HEADER).unlink(missing_ok=True)
    lines = msgspec.json.Encoder().encode_lines
    contents = {
        EVENTS: lines(history.events),
        FLOWS: lines(history.flows),
        FRAMES: _frames(history),
        STATES: lines(history.states),
        TOPOLOGY: history.topology.encode(),
    }
    for switch, logs in history.logs.items():
        contents.update({f"{switch}/{name}{_LOG}": text.encode() for name, text in logs.items()})
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    body = _Body(history.about, {name: _digest(content) for name, content in contents.items()})
    raw = msgspec.json.format(msgspec.json.encode(body))
    envelope = _Envelope(FORMAT, VERSION, _digest(raw), msgspec.Raw(raw))
    (directory / HEADER).write_bytes(msgspec.json.encode(envelope))


def load(directory: Path) -> History:
    """Read what :func:`save` wrote. Raise :class:`HistoryError` for anything else."""
    body = _header(directory / HEADER)
    contents = {name: _content(directory, name, digest) for name, digest in body.files.items()}
    try:
        return History(
            about=body.about,
            topology=contents[TOPOLOGY].decode(),
            events=_lines(contents[EVENTS], Event),
            flows=_lines(contents[FLOWS], SentFlow),
            packets=_packets(contents[FRAMES], body.about),
            states=_lines(contents[STATES], StatePair),
            logs=_logs(contents),
        )
    except KeyError as error:
        raise HistoryError(f"{directory}: a history without its {error.args[0]}") from None
    except ValueError as error:
        raise HistoryError(f"{directory}: a history that contradicts itself: {error}") from error


def _header(path: Path) -> _Body:
    try:
        envelope = msgspec.json.decode(path.read_bytes(), type=_Envelope)
    except FileNotFoundError:
        raise HistoryError(
            f"{path.parent}: there is no history here, or one that was never finished: "
            f"no {path.name}"
        ) from None
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise HistoryError(f"{path}: not the beginning of a history: {error}") from None
    if envelope.format != FORMAT:
        raise HistoryError(f"{path}: not the beginning of a history but {envelope.format!r}")
    if envelope.version != VERSION:
        raise HistoryError(
            f"{path}: a history of version {envelope.version}; only version {VERSION} can be read"
        )
    raw = bytes(envelope.body)
    if _digest(raw) != envelope.sha256:
        raise HistoryError(f"{path}: damaged: it is not as it was written")
    try:
        return msgspec.json.decode(raw, type=_Body)
    except ValueError as error:
        raise HistoryError(f"{path}: not the beginning of a history: {error}") from None


def _content(directory: Path, name: str, digest: str) -> bytes:
    path = directory / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise HistoryError(f"{directory}: a history without its {name}") from None
    except OSError as error:
        raise HistoryError(f"{path}: {error.strerror}") from None
    if _digest(content) != digest:
        raise HistoryError(f"{path}: damaged: it is not as it was written")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _frames(history: History) -> bytes:
    points = {point.name: point for point in history.about.points}
    interfaces = [pcapng.interface_of(place, points) for place in history.about.places]
    file = io.BytesIO()
    pcapng.write(file, interfaces, history.packets)
    return file.getvalue()


def _packets(content: bytes, about: About) -> tuple[Packet, ...]:
    interfaces, packets = pcapng.read(io.BytesIO(content))
    counted = sum(segment.packets for segment in about.segments)
    if len(interfaces) != len(about.places) or len(packets) != counted:
        raise ValueError(
            f"{FRAMES} has {len(packets)} frames of {len(interfaces)} places, not {counted} of "
            f"{len(about.places)}"
        )
    return tuple(packets)


def _lines(content: bytes, kind: Any) -> tuple[Any, ...]:
    found: Sequence[Any] = msgspec.json.Decoder(kind).decode_lines(content)
    return tuple(found)


def _logs(contents: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    logs: dict[str, dict[str, str]] = {}
    for name, content in contents.items():
        switch, slash, daemon = name.partition("/")
        if slash:
            logs.setdefault(switch, {})[daemon.removesuffix(_LOG)] = content.decode()
    return logs
