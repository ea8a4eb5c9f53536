"""The subcommand ``image`` of the command line."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.images import templates
from harness.images.archive import export, import_
from harness.images.cache import Progress, list_images, remove
from harness.images.catalogue import catalogue, default_name
from harness.images.errors import ImageError
from harness.images.image import resolve
from harness.images.mmdebstrap import MIRROR_VARIABLE, build

_PLAIN_WIDTH = 160
"""Of a table in columns that is written to no terminal: wide enough that nothing is folded."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand ``image`` with its own."""
    parser = subparsers.add_parser("image", help="build, list, remove, export and import images")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("build", help="make images that the cache lacks")
    one.add_argument("names", nargs="*", metavar="NAME", help=f"default: {default_name()}")
    one.add_argument("--mirror", metavar="URL", help=f"a Debian mirror (or set {MIRROR_VARIABLE})")
    one.add_argument("--docker", action="store_true", help="give them to the container engine too")
    one.set_defaults(run=_build)

    one = commands.add_parser("list", help="what there is")
    one.set_defaults(run=_list)

    one = commands.add_parser("remove", help="remove images from the cache")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.set_defaults(run=_remove)

    one = commands.add_parser("export", help="write an image to one file")
    one.add_argument("name", metavar="NAME")
    one.add_argument("file", metavar="FILE", type=Path, help="a tar, compressed with gzip")
    one.set_defaults(run=_export)

    one = commands.add_parser("import", help="put the image of an exported file into the cache")
    one.add_argument("file", metavar="FILE", type=Path)
    one.set_defaults(run=_import)


@contextmanager
def shown() -> Iterator[Progress]:
    """A progress callback that shows lines on standard error: on a terminal the present stage with
    the time it takes, elsewhere a plain line for each stage."""
    if not sys.stderr.isatty():
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") as status:
        ended = threading.Event()
        present = [("", time.monotonic())]

        def say(line: str) -> None:
            if present[0][0]:
                console.print(present[0][0], markup=False, highlight=False)
            present[0] = (line, time.monotonic())

        def tick() -> None:
            while not ended.wait(0.2):
                line, since = present[0]
                status.update(f"{line} … {time.monotonic() - since:.0f} s" if line else "")

        ticker = threading.Thread(target=tick)
        ticker.start()
        try:
            yield say
        finally:
            ended.set()
            ticker.join()
            say("")


def _build(arguments: argparse.Namespace) -> int:
    for name in arguments.names or [default_name()]:
        with shown() as progress:
            stored = build(name, mirror=arguments.mirror, progress=progress)
            place = str(stored.path)
            if arguments.docker:
                from harness.images.engines import load

                place += f", and in the engine as {load(resolve(name), progress=progress)}"
        print(f"{name}: Open vSwitch {stored.meta.version} in {place}")
    return 0


def _list(_: argparse.Namespace) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    in_engine, no_engine = _in_engine()
    sizes = ("Namespace", "VM", "Docker")
    table = Table("Image", "Open vSwitch", *(f"{one}, MiB" for one in sizes), "Built", "")
    table.box = box.SIMPLE
    there = list_images()
    for stored in there:
        meta = stored.meta
        state = catalogue()[meta.name].description if stored.current else "outdated: not used"
        built = meta.built[:16].replace("T", " ")
        booted = sum(map(templates.disk_usage, templates.of(meta.name))) if stored.current else 0
        forms = meta.size, booted, in_engine.get((meta.name, meta.key), 0)
        shown = [str(size >> 20) if size else "" for size in forms]
        table.add_row(meta.name, meta.version, *shown, built, state)
    for name, recipe in catalogue().items():
        if not any(stored.meta.name == name and stored.current for stored in there):
            table.add_row(name, "", "", "", "", "not built", recipe.description)
    with suppress(ImageError):  # none is installed: `doctor` says how to
        table.add_row("host", resolve("host").version, "", "", "", "", "installed on this machine")
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    if no_engine:
        print(f"Docker: {no_engine}")
    return 0


def _in_engine() -> tuple[dict[tuple[str, str], int], str]:
    """The sizes of images that the container engine has, by name and key; or why it is not known
    which."""
    from harness.images.engines import loaded

    try:
        return {(one.name, one.key): one.size for one in loaded()}, ""
    except ImageError as error:
        return {}, str(error)


def _remove(arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        for path in (*remove(name), *templates.remove(name), *_remove_from_engine(name)):
            print(f"removed {path}")
    return 0


def _remove_from_engine(name: str) -> list[str]:
    from harness.images import engines

    # Where there is no engine, there is nothing to be removed from.
    return engines.remove(name) if not _in_engine()[1] else []


def _export(arguments: argparse.Namespace) -> int:
    with shown() as progress:
        stored = export(arguments.name, arguments.file, progress=progress)
    size = arguments.file.stat().st_size
    print(f"{arguments.file}: {stored.meta.name} ({stored.meta.key}), {size >> 20} MiB")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    with shown() as progress:
        stored = import_(arguments.file, progress=progress)
    print(f"{stored.meta.name}: Open vSwitch {stored.meta.version} in {stored.path}")
    if not stored.current:
        print(
            f"warning: this harness's catalogue describes {stored.meta.name} otherwise, so that "
            "this image will not be used: export it with the same version of the harness",
            file=sys.stderr,
        )
    return 0
