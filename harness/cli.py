"""The command ``ovs-harness``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import doctor
from harness.checks import command as judgement
from harness.images import ImageError
from harness.images import command as image
from harness.live import command as live
from harness.live.errors import LiveError
from harness.nodes.base import NodeError


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="ovs-harness",
        description="Integration test harness and topology simulator for Open vSwitch.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    doctor.add_parser(commands)
    image.add_parser(commands)
    _add_draw(commands)
    live.add_parsers(commands)
    judgement.add_parser(commands)
    return top


def _add_draw(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    draw = commands.add_parser("draw", help="draw a topology: SVG, Graphviz or Mermaid")
    draw.add_argument("topology", metavar="TOPOLOGY.yaml", type=Path)
    draw.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=Path,
        help="ending in .svg, .dot, .gv or .mmd; default: SVG on standard output",
    )
    draw.set_defaults(run=_draw)


def _draw(arguments: argparse.Namespace) -> int:
    from harness.topology import load
    from harness.topology.draw import to_dot, to_mermaid, to_svg

    formats = {".svg": to_svg, ".dot": to_dot, ".gv": to_dot, ".mmd": to_mermaid}
    output: Path | None = arguments.output
    ending = output.suffix if output else ".svg"
    if ending not in formats:
        print(f"ovs-harness: FILE ends in {', '.join(formats)}, not {ending!r}", file=sys.stderr)
        return 2
    text = formats[ending](load(arguments.topology))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
    return 0


def _expected(error: Exception) -> bool:
    """Whether the message of ``error`` is for the user, and a traceback would only hide it."""
    from harness.topology import TopologyError

    return isinstance(error, ImageError | LiveError | NodeError | TopologyError | OSError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0 done, 1 not done, 2 not understood, 130
    ended with Ctrl-C. What the user can mend is one message and no traceback."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _expected(error):
            raise
        print(f"ovs-harness: {_message(error)}", file=sys.stderr)
        return 1
    return status


def _message(error: Exception) -> str:
    """An error of the operating system without its number, and with the file first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
