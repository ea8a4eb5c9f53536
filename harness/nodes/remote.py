"""A node as seen through its agent's channel: what every backend's nodes have in common."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.nodes.base import Completed, NodeError, NodeLost, Pending, Question
from harness.nodes.channel import Answer, Channel


class _Mapped:
    """An answer whose value is made into something else once it is there."""

    def __init__(self, answer: Answer, make: Callable[[Answer], Any]) -> None:
        self._answer, self._make = answer, make

    def result(self, timeout: float | None = None) -> Any:
        self._answer.wait(timeout)
        return self._make(self._answer)


class RemoteNode:
    """A node driven over a :class:`Channel`. Backends add how it starts and what ends it."""

    patience = 1.0
    """How many times as long as usual what is done in it may take, for its processor is slow."""

    clock: str | None = None
    """Whose real-time clock its time stamps are of, if not this machine's own or one that was set
    to that."""

    def __init__(self, name: str, channel: Channel, pid: int) -> None:
        self.name = name
        self.channel = channel
        self.pid = pid
        """The agent's process id, as the process that started it sees it."""
        self.ran_in_hosts = False
        """Whether any command was run in a host, whose kernel may then talk to others."""
        self._commands: list[Completed] = []
        self._callbacks: list[Callable[[], None]] = []
        channel.ended = self._ended

    # -- commands and files

    @property
    def programs(self) -> Channel:
        """To the agent that runs commands, reads files and asks sockets: once the image has changed
        it may be another one than that of interfaces and frames."""
        return self.channel

    @property
    def commands(self) -> Sequence[Completed]:
        """Every command that was run in this node, in order of completion."""
        return tuple(self._commands)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        """Run a command and wait for it (see :meth:`harness.nodes.base.Node.run`)."""
        done: Completed = self.run_soon(
            argv, stdin=stdin, timeout=timeout, host=host, env=env
        ).result()
        return done.check() if check else done

    def run_soon(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Pending:
        """Run a command without waiting; the result is a :class:`Completed`, not checked."""
        words = tuple(argv)
        if not words:
            raise ValueError("a command needs at least a name")
        if any("\0" in word for word in words):
            raise ValueError(f"a command's argument holds a NUL character: {words!r}")
        self.ran_in_hosts |= host is not None
        request = {"argv": words, "timeout": timeout, "netns": host, "env": env}
        blob = stdin.encode() if isinstance(stdin, str) else stdin
        what = f"run `{shlex.join(words)}`"
        answer = self.programs.ask("run", request, blob, what=what, bound=timeout)
        return _Mapped(answer, lambda a: self._completed(a, words, host, timeout))

    def output(self, argv: Sequence[str], *, timeout: float = 30.0) -> tuple[int, bytes, bytes]:
        """Run a command and wait for it (see :meth:`harness.nodes.base.Node.output`)."""
        words = tuple(argv)
        bound = timeout * self.patience
        request = {"argv": words, "timeout": bound, "netns": None, "env": None}
        what = f"run `{shlex.join(words)}`"
        answer = self.programs.ask("run", request, what=what, bound=bound)
        done = self._completed(answer, words, None, bound)
        return done.status, *_written(answer)

    def _completed(
        self, answer: Answer, argv: tuple[str, ...], host: str | None, timeout: float
    ) -> Completed:
        value = answer.result()
        out, err = map(_printed, _written(answer), value["left_out"])
        done = Completed(
            node=self.name,
            argv=argv,
            status=value["status"],
            stdout=out,
            stderr=err,
            duration=value["seconds"],
            host=host,
        )
        self._commands.append(done)
        if value["too_much"]:
            raise NodeError(
                f"{self.name}: `{shlex.join(argv)}` printed more than is kept in memory and was "
                f"killed; it ended with: {(err or out)[-200:]}"
            )
        if value["timed_out"]:
            said = (done.stderr + done.stdout).strip()[-2000:] or "nothing"
            raise NodeLost(
                f"{self.name}: `{shlex.join(argv)}` did not end within {timeout:g} s and was "
                f"killed; it had printed: {said}"
            )
        return done

    def follow(
        self, argv: Sequence[str], output: Callable[[int, bytes], None], *, host: str | None = None
    ) -> Answer:
        """Run a command by hand, however long it takes: ``output`` gets what it writes as it does,
        with the descriptor (1 or 2). Not waited for, and not noted in :attr:`commands`.

        Value: ``status`` (negative: the signal that ended it) and ``too_much``.
        """
        request = {"argv": list(argv), "timeout": None, "netns": host, "follow": True}
        answer = self.programs.ask("run", request, what=f"run `{shlex.join(argv)}`")
        answer.output = output
        return answer

    def end_followed(self, followed: Answer) -> Answer:
        """Kill a command that :meth:`follow` began, with everything in its process group."""
        request = {"run": followed.number}
        return self.programs.ask("run_end", request, what="end a command by hand")

    def read_file(self, path: str) -> bytes:
        """The content of a file in the node."""
        answer = self.programs.ask("read", {"paths": [path]}, what=f"read {path}")
        error = answer.result()["errors"][0]
        if error is not None:
            raise NodeError(f"{self.name}: cannot read {path}: {error}")
        return answer.blob()

    def read_files(self, paths: Sequence[str], host: str | None = None) -> list[bytes | None]:
        """Several files in one message; None where one could not be read."""
        content: list[bytes | None] = self.read_files_soon(paths, host).result()
        return content

    def read_files_soon(self, paths: Sequence[str], host: str | None = None) -> Pending:
        """Like :meth:`read_files`, not waiting."""
        request = {"paths": list(paths), "netns": host}
        answer = self.programs.ask("read", request, what=f"read {', '.join(paths)}")
        return _Mapped(answer, _split)

    def try_open(self, path: str) -> str | None:
        """Open a file for reading and writing; None when that works, else the system's words."""
        answer = self.programs.ask("try_open", {"path": path}, what=f"open {path}")
        said: str | None = answer.result()
        return said

    def exists(self, path: str) -> bool:
        """Whether there is such a file in the node."""
        return self.run(["test", "-e", path], check=False).status == 0

    def write_file(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        """Write a file whole."""
        blob = data.encode() if isinstance(data, str) else data
        request = {"path": path, "mode": mode}
        self.programs.ask("write", request, blob, what=f"write {path}").result()

    def json_rpc(self, path: str, method: str, params: list[Any], timeout: float = 10.0) -> Any:
        """One JSON-RPC request over a unix socket in the node; its result."""
        return self.json_rpc_soon(path, method, params, timeout).result()

    def json_rpc_soon(
        self, path: str, method: str, params: list[Any], timeout: float = 10.0, *, line: int = 0
    ) -> Pending:
        """Like :meth:`json_rpc`, not waiting; ``line`` numbers connections to the same socket."""
        bound = timeout * self.patience
        request = {"path": path, "method": method, "params": params, "timeout": bound}
        request["line"] = line
        what = f"ask {path} for {method}"
        answer = self.programs.ask("jsonrpc", request, what=what, bound=bound)
        return _Mapped(answer, lambda a: self._rpc_result(a, what))

    def json_rpc_all_soon(
        self, path: str, questions: Sequence[Question], timeout: float = 10.0
    ) -> Pending:
        """Several JSON-RPC requests in one message (see :class:`Question`), not waited for; each
        may take ``timeout`` seconds. The result is the list of their results."""
        bound = timeout * self.patience
        asked = [
            {
                "method": one.method,
                "params": [],
                "after": list(one.after),
                "line": one.line,
                "times": one.times,
            }
            for one in questions
        ]
        methods = list(dict.fromkeys(one.method for one in questions))
        what = f"ask {path} for {', '.join(methods)}"
        request = {"path": path, "requests": asked, "timeout": bound}
        answer = self.programs.ask("jsonrpc_all", request, what=what, bound=bound * len(asked))
        return _Mapped(answer, lambda a: self._rpc_results(a, path, questions))

    def _rpc_results(self, answer: Answer, path: str, questions: Sequence[Question]) -> list[Any]:
        values = answer.result()
        for value, question in zip(values, questions, strict=True):
            if value["error"] is not None and not question.may_fail:
                said = f"cannot ask {path} for {question.method}: {value['error']}"
                raise NodeError(f"{self.name}: {said}")
        return [value["result"] for value in values]

    def _rpc_result(self, answer: Answer, what: str) -> Any:
        value = answer.result()
        if value["error"] is not None:
            raise NodeError(f"{self.name}: cannot {what}: {value['error']}")
        return value["result"]

    # -- interfaces

    def add_spaces(self, names: Sequence[str]) -> Answer:
        """Make network namespaces in the node (hosts live in them)."""
        return self.channel.ask("space_add", {"names": list(names)}, what="make network namespaces")

    def keep_spaces(self, count: int) -> Answer:
        """Make network namespaces now that :meth:`add_spaces` will give names to."""
        return self.channel.ask("space_spare", {"count": count}, what="make network namespaces")

    def remove_spaces(self, names: Sequence[str]) -> Answer:
        """Let go of network namespaces; the kernel removes them with what is in them."""
        what = "remove network namespaces"
        return self.channel.ask("space_remove", {"names": list(names)}, what=what)

    def change_links(self, changes: Sequence[dict[str, Any]], host: str | None = None) -> Answer:
        """Carry out changes to interfaces, in order: ``do`` is veth, bridge, set or remove."""
        words = ", ".join(f"{change['do']} {change['name']}" for change in changes[:3])
        if len(changes) > 3:
            words += f" and {len(changes) - 3} more"
        request = {"changes": list(changes), "netns": host}
        return self.channel.ask("link", request, what=f"change interfaces ({words})")

    def add_addresses(
        self, addresses: Iterable[tuple[str, str]], host: str | None = None
    ) -> Answer:
        """Give interfaces addresses: pairs of interface and ``address/length``."""
        request = {"addresses": [list(pair) for pair in addresses], "netns": host}
        return self.channel.ask("address", request, what="add addresses")

    def no_offload(self, interfaces: Sequence[str], host: str | None = None) -> Answer:
        """Turn transmit checksum offload off, so that frames carry real checksums."""
        request = {"names": list(interfaces), "netns": host}
        return self.channel.ask("no_offload", request, what="turn checksum offload off")

    def take_networks(self, addresses: Sequence[str]) -> Answer:
        """Take the interfaces that have these addresses (with lengths) out of the node's own
        network namespace (:mod:`harness.agent.underlays`). Value: their MAC addresses."""
        request = {"addresses": list(addresses)}
        return self.channel.ask("underlay_networks", request, what="take networks")

    def make_underlay_ends(self, ends: Sequence[dict[str, Any]]) -> Answer:
        """Make ends of underlays over those networks: ``name``, ``mtu``, ``local`` address, UDP
        ``port``, and of the ``others`` of the same underlay the address, MAC address and port."""
        request = {"ends": list(ends)}
        return self.channel.ask("underlay_ends", request, what="make ends of underlays")

    def set_underlay_carrier(self, name: str, *, up: bool) -> Answer:
        """Let one of those ends have a carrier, or none."""
        request = {"name": name, "up": up}
        return self.channel.ask("underlay_carrier", request, what=f"set the carrier of {name}")

    # -- frames

    def open_ports(self, at: Sequence[tuple[str | None, str]]) -> Answer:
        """Open sockets to send through, each on (host or None, interface). Value: their numbers."""
        return self.channel.ask("port", {"at": [list(pair) for pair in at]}, what="open ports")

    def send_frames(self, batch: Sequence[tuple[int, list[int]]], frames: bytes) -> Answer:
        """Send frames: (port, their lengths) each, back to back in ``frames``.

        Value: for each entry how many were sent, when it began (ns, kernel's clock) and an error.
        """
        request = {"batch": [list(entry) for entry in batch]}
        return self.channel.ask("send", request, frames, what="send frames")

    def start_stream(self, port: int, spec: dict[str, Any], frame: bytes) -> Answer:
        """Send a stream of frames in the background. Value: its number."""
        return self.channel.ask(
            "stream_start", {"port": port, **spec}, frame, what="start a stream"
        )

    def stop_stream(self, stream: int, *, wait: bool = False, bound: float = 30.0) -> Answer:
        """End a stream, or wait until it has sent what it was to send."""
        request = {"stream": stream, "wait": wait}
        return self.channel.ask("stream_stop", request, what="stop a stream", bound=bound)

    def open_captures(
        self,
        at: Sequence[tuple[str | None, str, str]],
        handlers: Sequence[Callable[[bytes], None]],
        *,
        blocks: int,
        block_size: int,
        retire: int,
    ) -> Pending:
        """Capture at (host or None, interface, direction: in, out or both); each handler gets the
        raw TPACKET_V3 blocks of its capture: ``blocks`` of ``block_size`` bytes each, handed over
        when full or after ``retire`` ms. Not waited for; the value is the captures' numbers."""
        ring = {"blocks": blocks, "block_size": block_size, "retire": retire}
        request = {"at": [list(point) for point in at], **ring}
        answer = self.channel.ask("capture", request, what="open captures")
        return _Mapped(answer, lambda a: self._listen(a.result(), handlers))

    def _listen(self, numbers: list[int], handlers: Sequence[Callable[[bytes], None]]) -> list[int]:
        self.channel.events.update(zip(numbers, handlers, strict=True))
        return numbers

    def queues(self, threads: tuple[int, str] | None = None, idle: int | None = None) -> Answer:
        """What waits in the packet sockets of the node's own network namespace, the harness's
        aside. Value: ``sockets`` ([inode, interface index, bytes that wait, frames dropped or None]
        each) and ``backlog``, the frames that the machine's kernel had no room for while they were
        between two interfaces; where the node has a processor of its own, ``idle``, how often that
        had nothing to do; blob: the interfaces' counters as in /proc/net/dev.

        With ``threads``, a process id and the beginning of its threads' names, there is also
        ``threads`` (the state of each as a letter, and how often a processor was taken from it) and
        ``unread``, the bytes that wait in generic netlink sockets. With ``idle`` from an earlier
        answer, the look is taken when the processor had nothing to do since, if that is soon.
        """
        request = {"threads": threads, "idle": idle}
        return self.channel.ask("queues", request, what="read queues and counters")

    def sync_captures(self, captures: Sequence[int]) -> Answer:
        """Value: frames and drops counted by the kernel, for each capture, once all that were
        counted have been handed to the handlers."""
        request = {"captures": list(captures)}
        return self.channel.ask("capture_sync", request, what="read captures to their end")

    def close_captures(self, captures: Sequence[int]) -> Answer:
        """End captures."""
        for capture in captures:
            self.channel.events.pop(capture, None)
        return self.channel.ask("capture_close", {"captures": list(captures)}, what="end captures")

    def shell_argv(self, host: str | None = None, terminal: str = "") -> list[str]:
        """A command for this machine that opens a shell in the node, or in the network namespace
        of one of its hosts; ``terminal`` is what ``TERM`` is to be, if not what it is here. Raise
        :class:`NodeError` where that can't be."""
        del host, terminal
        raise NodeError(
            f"{self.name}: a shell can be opened in nodes made of namespaces; in this one "
            "`ovs-harness exec` runs commands"
        )

    # -- its kernel, where it has one of its own

    @property
    def kernel_said(self) -> str:
        """What its kernel has said on its console so far; empty for a node that shares the
        machine's kernel."""
        return ""

    @property
    def kernel_trouble(self) -> str:
        """The first thing that says that its kernel is broken (a panic, an oops, a ``BUG:``, a
        KASAN report), with what follows it; empty when nothing does."""
        return ""

    # -- life and death

    def rest(self) -> None:
        """Have it do nothing until :meth:`go_on`, if it has a processor of its own: one that is
        emulated costs a twelfth of a real one when it idles. Its clock is then behind."""

    def go_on(self) -> None:
        """End :meth:`rest`; nothing when it does not."""

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once when the node has ended by itself."""
        self._callbacks.append(callback)

    def _ended(self) -> None:
        for callback in self._callbacks:
            callback()

    def close(self) -> None:
        """End the node and everything in it. Idempotent."""
        self.channel.close()


def _written(answer: Answer) -> tuple[bytes, bytes]:
    """What a command wrote to standard output, and to standard error."""
    value, blob = answer.result(), answer.blob()
    return blob[: value["out"]], blob[value["out"] :]


def _printed(output: bytes, left_out: int) -> str:
    said = output.decode(errors="replace")
    return f"[{left_out} bytes left out]\n{said}" if left_out else said


def _split(answer: Answer) -> list[bytes | None]:
    value, blob = answer.result(), answer.blob()
    content: list[bytes | None] = []
    position = 0
    for length, error in zip(value["lengths"], value["errors"], strict=True):
        content.append(None if error is not None else blob[position : position + length])
        position += length
    return content
