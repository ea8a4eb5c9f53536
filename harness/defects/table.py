"""What the table of known defects says: which scenario fails on which versions, how, and why.

A row is data about Open vSwitch, so it holds its versions, not images: a build laid over an image
is of the version that its own ``ovs-lib`` states.
"""

from __future__ import annotations

import builtins
import pkgutil
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from harness.lab.target import BACKENDS, DATAPATHS, split

_VERSION = re.compile(r"\d+\.\d+(\.\d+)*")
_COMMIT = re.compile(r"[0-9a-f]{9,40}")


class DefectsError(ValueError):
    """The table has a mistake; the message says in which row."""


class Defect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row: a scenario that fails because Open vSwitch does something wrong."""

    scenario: str
    """``vlans/test_modes.py::test_name``, below the directory of the table."""
    what: str
    """What goes wrong, in one line."""
    symptom: str
    """Regular expression that is found in the failure, which is a defect's only with it."""
    raises: str = "AssertionError"
    """The exception that the failure is: a builtin one, or with its module."""
    cases: tuple[str, ...] = ()
    """Which parameters fail, as in the scenario's id without the target; ``*`` is any text. Empty:
    all of them."""
    targets: tuple[str, ...] = ()
    """Where it matters: ``image/backend/datapath``, with ``*`` for any. Empty: all of them."""
    since: str = ""
    """The first version that has the defect; empty: all have that came before it was mended."""
    fixed_in: tuple[str, ...] = ()
    """The first version without it, of each series (3.5, 3.6) that was mended; series after the
    last of these were made without it. Empty: it is still there."""
    upstream: str = ""
    """The commit to Open vSwitch that mends it."""
    finding: str = ""
    """The file that describes it, below the project's directory."""

    @property
    def reason(self) -> str:
        """What goes wrong and who says so, in one line."""
        sources = [f"upstream {self.upstream}"] if self.upstream else []
        sources += [self.finding] if self.finding else []
        fixed = f"; fixed in {', '.join(self.fixed_in)}" if self.fixed_in else ""
        return f"{self.what}: {', '.join(sources)}{fixed}"

    def is_of(self, scenario: str, case: str) -> bool:
        """Whether it is about a scenario, with these parameters."""
        return self.scenario == scenario and (
            not self.cases or any(_matches(case, pattern) for pattern in self.cases)
        )

    def is_met_on(self, target: str) -> bool:
        """Whether it matters on a target, of whatever version."""
        written = "/".join(split(target) or (target,))
        return not self.targets or any(fnmatchcase(written, pattern) for pattern in self.targets)

    def is_in(self, version: str) -> bool:
        """Whether a version of Open vSwitch has it. One that nobody knows has what all have."""
        if not self.since and not self.fixed_in:
            return True
        found = _VERSION.match(version)
        if found is None:
            return False
        this = _parse(found[0])
        fixes = [_parse(text) for text in self.fixed_in]
        if (self.since and this < _parse(self.since)) or (fixes and this >= max(fixes)):
            return False
        return not any(this[:2] == fix[:2] and this >= fix for fix in fixes)

    def explains(self, error: BaseException) -> bool:
        """Whether a failure is this defect, and not another one of the same scenario."""
        said = f"{type(error).__name__}: {error}"
        return isinstance(error, self.exception) and re.search(self.symptom, said) is not None

    @property
    def exception(self) -> type[BaseException]:
        """The class that ``raises`` names. Raise ValueError when there is none."""
        found = getattr(builtins, self.raises, None)
        if found is None and "." in self.raises:
            try:
                found = pkgutil.resolve_name(self.raises)
            except (ImportError, AttributeError):
                found = None
        if not isinstance(found, type) or not issubclass(found, BaseException):
            raise ValueError(f"raises: there is no exception {self.raises}")
        return found


class _File(msgspec.Struct, forbid_unknown_fields=True):
    defect: tuple[Defect, ...] = ()


def read(path: Path) -> tuple[Defect, ...]:
    """The rows of the table in ``path``, which lies in the directory of the scenarios, which lies
    in that of the project. Raise :class:`DefectsError`."""
    try:
        rows = msgspec.toml.decode(path.read_bytes(), type=_File).defect
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DefectsError(f"{path.name}: {error}") from None
    for number, row in enumerate(rows, 1):
        try:
            _check(row, path.parent)
        except ValueError as error:
            raise DefectsError(f"{path.name}, defect {number} ({row.scenario}): {error}") from None
    return rows


def _check(row: Defect, scenarios: Path) -> None:
    """Raise ValueError for what can't be meant."""
    _check_scenario(row.scenario, scenarios)
    for name in ("what", "symptom"):
        if not getattr(row, name):
            raise ValueError(f"{name} is empty")
    try:
        re.compile(row.symptom)
    except re.error as error:
        raise ValueError(f"symptom: {row.symptom!r} is no regular expression: {error}") from None
    _check_versions(row)
    for target in row.targets:
        parts = target.rsplit("/", 2)
        if len(parts) != 3 or parts[1] not in ("*", *BACKENDS) or parts[2] not in ("*", *DATAPATHS):
            raise ValueError(f"targets: {target!r} is not of the form IMAGE/BACKEND/DATAPATH")
    if not row.upstream and not row.finding:
        raise ValueError("it names neither upstream, a commit, nor finding, a file")
    if row.upstream and not _COMMIT.fullmatch(row.upstream):
        raise ValueError(f"upstream: {row.upstream!r} is no commit: 9 to 40 hexadecimal digits")
    if row.finding and not (scenarios.parent / row.finding).is_file():
        raise ValueError(f"finding: there is no file {row.finding}")
    _ = row.exception


def _check_scenario(scenario: str, scenarios: Path) -> None:
    name, _, function = scenario.partition("::")
    if not function:
        raise ValueError("scenario is not of the form FILE::TEST")
    path = scenarios / name
    if not path.is_file():
        raise ValueError(f"there is no file {name}")
    test = function.rpartition("::")[2]
    if not re.search(rf"^\s*def {re.escape(test)}\(", path.read_text("utf-8"), re.MULTILINE):
        raise ValueError(f"there is no {test} in {name}")


def _check_versions(row: Defect) -> None:
    for name, texts in (("since", (row.since,) if row.since else ()), ("fixed_in", row.fixed_in)):
        for text in texts:
            if not _VERSION.fullmatch(text):
                raise ValueError(f"{name}: {text!r} is no version, as 3.5 or 3.5.0")
    if row.since and row.fixed_in and max(map(_parse, row.fixed_in)) <= _parse(row.since):
        raise ValueError(f"no version is from {row.since} on and before {', '.join(row.fixed_in)}")


def _matches(case: str, pattern: str) -> bool:
    """Like fnmatch(3), but only ``*`` is special: ids of parameters have brackets."""
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), case, re.DOTALL) is not None


def _parse(version: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in version.split("."))
    return numbers + (0,) * (3 - len(numbers))


def unmatched(rows: Iterable[Defect], collected: Iterable[tuple[str, str]]) -> list[Defect]:
    """Those of ``rows`` that no test is about; ``collected`` has its scenario and its case."""
    found = set(collected)
    return [row for row in rows if not any(row.is_of(*test) for test in found)]
