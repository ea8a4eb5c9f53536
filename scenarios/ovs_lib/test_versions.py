"""version_geq: dot separated numbers, compared as numbers.

Source: ovs-lib, the comment on ``version_geq``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.ovs_lib.conftest import Library

IS_AT_LEAST = {
    ("2.5.90", "2.5.90"): True,
    ("2.5.91", "2.5.90"): True,
    ("2.5.9", "2.5.90"): False,
    ("2.5.0", "2.5.90"): False,
    ("2.10.0", "2.9.9"): True,
    ("2.9.9", "2.10.0"): False,
    ("3", "2.99.99"): True,
    ("2", "3.0"): False,
    # What is missing is zero.
    ("2.15", "2.15.0"): True,
    ("2.15.0", "2.15"): True,
    ("2.15", "2.15.1"): False,
    ("2.15.1", "2.15"): True,
    ("4.0.0", "3.5.0"): True,
    ("10.0", "9.9"): True,
    ("02.05.90", "2.5.90"): True,
}


def test_versions_are_compared_number_by_number(library: Library) -> None:
    calls = (f"version_geq {a} {b}; echo $?" for a, b in IS_AT_LEAST)
    said = library.run("\n".join(calls)).stdout.split()
    assert dict(zip(IS_AT_LEAST, [word == "0" for word in said], strict=True)) == IS_AT_LEAST


def test_no_version_counts_as_newer(library: Library) -> None:
    """A daemon that does not answer has none: ``stop_daemon`` asks it to exit all the same."""
    said = library.run('version_geq "" 2.5.90; echo $?; version_geq 2.5.0 2.5.90; echo $?')
    assert said.stdout.split() == ["0", "1"]


def test_the_library_knows_its_own_version(library: Library) -> None:
    done = library.run('echo "$VERSION"')
    assert done.stdout.strip() == library.switch.version()
    assert library.run("version_geq $VERSION 99").status == 1
