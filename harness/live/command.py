"""The subcommands that keep a lab up and work in it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

Commands = argparse._SubParsersAction  # its only name


def add_parsers(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the subcommands ``up``, ``labs``, ``exec``, ``shell``, ``probe``, ``capture``, ``state``
    and ``down``."""
    one = commands.add_parser("up", help="build a lab and keep it up, to work in by hand")
    one.add_argument("topology", metavar="TOPOLOGY.yaml", type=Path)
    one.add_argument("--target", metavar="IMAGE/BACKEND/DATAPATH")
    one.add_argument("--name", help="what to call the lab (default: as the topology is called)")
    one.set_defaults(run=_up)

    commands.add_parser("labs", help="the labs that are up").set_defaults(run=_labs)

    one = _at_lab(commands, "exec", "run a command in a switch or a host of a lab")
    one.add_argument("place", metavar="SWITCH-OR-HOST")
    one.add_argument("words", metavar="-- COMMAND", nargs=argparse.REMAINDER)
    one.set_defaults(run=_exec)

    one = _at_lab(commands, "shell", "open a shell in a switch or a host of a lab")
    one.add_argument("place", metavar="SWITCH-OR-HOST")
    one.set_defaults(run=_shell)

    one = _at_lab(commands, "probe", "send a frame between two hosts and say where it was heard")
    one.add_argument("hosts", metavar="HOST", nargs="*", help="from which host, and to which")
    one.add_argument("--all", action="store_true", help="every host to every other one")
    one.set_defaults(run=_probe, parser=one)

    one = _at_lab(commands, "capture", "show what arrives at hosts and crosses underlays")
    one.add_argument("points", metavar="POINT", nargs="*", help="hosts and underlays; default: all")
    one.add_argument("-w", dest="output", metavar="FILE.pcapng", type=Path, help="write a file")
    one.add_argument("-c", dest="count", metavar="COUNT", type=_count, help="end after so many")
    one.set_defaults(run=_capture)

    one = _at_lab(commands, "state", "what a restart of a switch must keep, as JSON")
    one.add_argument("switch", metavar="SWITCH")
    one.add_argument("--save", metavar="FILE", type=Path, help="write it to a file")
    one.add_argument(
        "--diff", metavar="FILE", type=Path, help="how it differs from a saved one (status 1)"
    )
    one.set_defaults(run=_state)

    one = commands.add_parser("down", help="end a lab")
    one.add_argument("lab", metavar="NAME", nargs="?")
    one.set_defaults(run=_down)


def _at_lab(
    commands: Commands[argparse.ArgumentParser], name: str, what: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what)
    parser.add_argument("--lab", metavar="NAME", help="needed when more than one is up")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _up(arguments: argparse.Namespace) -> int:
    from harness.images.command import shown
    from harness.images.image import is_known, resolve
    from harness.lab.target import DEFAULT_TARGET, Target, TargetError
    from harness.live import places, show, starting
    from harness.live.errors import LiveError
    from harness.topology import load

    spec = load(arguments.topology)
    name = arguments.name or spec.name
    try:
        target = Target.parse(arguments.target or DEFAULT_TARGET)
    except TargetError as error:
        raise LiveError(str(error)) from error
    places.check_name(name)
    if is_known(target.image) or target.backend not in ("docker", "ssh"):
        with shown() as progress:
            # Here and not in the keeper, where nobody would see how it goes.
            resolve(target.image, progress=progress)
    info = starting.start(spec, str(target), name)
    print("\n".join(show.ready(info, alone=places.names() == [name])))
    return 0


def _labs(_: argparse.Namespace) -> int:
    from harness.live import places, show
    from harness.live.client import Connection
    from harness.live.errors import LiveError
    from harness.live.messages import Info, Look

    found: list[tuple[str, Info | None]] = []
    for name in places.names():
        try:
            with Connection(name) as connection:
                connection.patience(2)
                found.append((name, connection.ask(Look(), Info)))
        except TimeoutError:
            found.append((name, None))
        except LiveError:
            # It has ended just now.
            continue
    if found:
        show.print_table(show.labs(found))
    else:
        print("no lab is up")
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    import msgspec

    from harness.live import places
    from harness.live.client import Connection
    from harness.live.errors import LiveError
    from harness.live.messages import Done, Exec, Output

    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        raise LiveError("no command is given: ovs-harness exec SWITCH-OR-HOST -- COMMAND…")
    streams = {1: sys.stdout.buffer, 2: sys.stderr.buffer}
    status = 0
    with Connection(places.chosen(arguments.lab)) as connection:
        for answer in connection.answers(Exec(arguments.place, words)):
            if isinstance(answer, Output):
                streams[answer.descriptor].write(answer.data)
                streams[answer.descriptor].flush()
            elif isinstance(answer, Done):
                status = msgspec.json.decode(answer.value, type=int)
    # As a shell has it: what a signal ended has 128 more than the signal's number.
    return status if status >= 0 else 128 - status


def _shell(arguments: argparse.Namespace) -> int:
    from harness.live.client import ask
    from harness.live.messages import Shell

    argv = ask(arguments.lab, Shell(arguments.place, os.environ.get("TERM", "dumb")), list[str])
    os.execvp(argv[0], argv)


def _probe(arguments: argparse.Namespace) -> int:
    from harness.live import show
    from harness.live.client import ask
    from harness.live.messages import Matrix, Probe, ProbeAll, Probed

    if arguments.all == bool(arguments.hosts) or (not arguments.all and len(arguments.hosts) != 2):
        arguments.parser.error("give two hosts, or --all")
    if arguments.all:
        matrix = ask(arguments.lab, ProbeAll(), Matrix)
        show.print_table(show.matrix(matrix))
        print("".join(f"{line}\n" for line in matrix.surprises), end="")
        return 0
    probed = ask(arguments.lab, Probe(*arguments.hosts), Probed)
    print("\n".join(show.probed(probed)))
    return 0 if probed.to in probed.heard else 1


def _capture(arguments: argparse.Namespace) -> int:
    from harness.live import frames, places
    from harness.live.client import Connection
    from harness.live.messages import Capture, Places

    with contextlib.ExitStack() as later:
        connection = later.enter_context(Connection(places.chosen(arguments.lab)))
        answers = connection.answers(Capture(arguments.points))
        first = next(answers)
        assert isinstance(first, Places)
        reader = frames.Reader(first.places, answers, arguments.count)
        try:
            if arguments.output is None:
                frames.prepare()
                for burst in reader.bursts():
                    lines = [frames.text(seen) for _place, seen in burst]
                    print("\n".join(lines), flush=True)
            else:
                file = later.enter_context(arguments.output.open("wb"))
                frames.record(file, first.places, reader)
        except KeyboardInterrupt:
            # The way to end a capture.
            print(file=sys.stderr)
        finally:
            frames_seen = "1 frame" if reader.seen == 1 else f"{reader.seen} frames"
            missed = f"; {reader.missed} more came faster than they could be read"
            print(frames_seen + missed * bool(reader.missed), file=sys.stderr)
    return 0


def _state(arguments: argparse.Namespace) -> int:
    import msgspec

    from harness.live.client import ask
    from harness.live.messages import ReadState
    from harness.ovs.state import State, diff, load

    before = load(arguments.diff) if arguments.diff else None
    state = ask(arguments.lab, ReadState(arguments.switch), State)
    if arguments.save:
        state.save(arguments.save)
    if before is not None:
        differences = diff(before, state)
        print("".join(f"{line}\n" for line in differences), end="")
        return 1 if differences else 0
    if not arguments.save:
        print(msgspec.json.format(msgspec.json.encode(state)).decode())
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from harness.live import places
    from harness.live.client import Connection
    from harness.live.messages import Down

    name = places.chosen(arguments.lab)
    with Connection(name) as connection:
        connection.ask(Down(), object)
    print(f"lab {name} has ended")
    return 0
