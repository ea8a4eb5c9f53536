"""Questions to servers that speak JSON-RPC, many under way at once."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any, Callable, List, Optional

from .jsonrpc import AnswerTaker, JsonRpc
from .loop import Loop
from .requests import Fields, Operations, Request


class Conversation:
    """Requests to one server, each asked as soon as those are answered that it comes after."""

    def __init__(
        self,
        requests: List[Fields],
        timeout: float,
        ask: Callable[[Fields, float, AnswerTaker], None],
        done: Callable[[Any, Optional[Exception]], None],
    ) -> None:
        """``done`` gets all answers in order, or the first reason why there is none."""
        self.requests, self.timeout = requests, timeout
        self.ask, self.done = ask, done
        self.answers: List[Optional[Fields]] = [None] * len(requests)
        self.begun: set[int] = set()
        self.over = False
        self.go_on()

    def go_on(self) -> None:
        for place, request in enumerate(self.requests):
            due = all(self.answers[other] is not None for other in request["after"])
            if due and place not in self.begun and not self.over:
                self.begun.add(place)
                try:
                    for _ in range(request["times"] - 1):
                        self.ask(request, self.timeout, _ignore)
                    self.ask(request, self.timeout, partial(self.take, place))
                except (OSError, ValueError) as error:
                    self.end(error)

    def take(self, place: int, answer: Optional[Fields], error: Optional[Exception]) -> None:
        self.answers[place] = answer
        if error is not None:
            self.end(error)
        elif all(self.answers):
            self.end(None)
        else:
            self.go_on()

    def end(self, error: Optional[Exception]) -> None:
        if not self.over:
            self.over = True
            self.done(self.answers, error)


class Servers:
    """Connects to servers, and asks them what the harness wants to know."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._connections: dict[tuple[str, int], JsonRpc] = {}
        self.operations: Operations = {"jsonrpc": self.ask, "jsonrpc_all": self.ask_all}

    def ask(self, request: Request) -> None:
        """One question to the server at ``path``."""
        self._ask(
            request["path"], request.fields, request["timeout"], partial(_tell_answer, request)
        )

    def ask_all(self, request: Request) -> None:
        """Several ``requests`` to one server, each as soon as those are answered that it is to come
        ``after``, given as their places in the list. All answers, in order."""
        ask = partial(self._ask, request["path"])
        Conversation(request["requests"], request["timeout"], ask, partial(_tell_answer, request))

    def _ask(self, path: str, asked: Fields, timeout: float, taker: AnswerTaker) -> None:
        # A server may answer the questions of one connection one after the other; a second
        # connection (another ``line``) is heard while the first one waits.
        key = (path, asked.get("line", 0))
        rpc = self._connections.get(key)
        if rpc is not None and rpc.ended:
            # Whoever listened there has gone; perhaps somebody else listens now.
            self._hang_up(rpc, ConnectionError("the socket was closed by the other side"))
            rpc = None
        begin = rpc is None
        if rpc is None:
            rpc = self._connections[key] = JsonRpc(*key)
        question = rpc.ask(asked["method"], asked["params"], taker)
        self._loop.after(timeout, partial(self._unanswered, rpc, question))
        if begin:
            self._connect(rpc)
        elif rpc.connected:
            self._push(rpc)

    def _connect(self, rpc: JsonRpc) -> None:
        """Connect; where too many wait to be, as long as somebody wants an answer."""
        if self._connections.get(rpc.key) is not rpc:
            return
        if not rpc.waiting:
            self._hang_up(rpc, ConnectionError("nobody asks"))
            return
        try:
            connected = rpc.connect()
        except (OSError, ValueError) as error:
            self._hang_up(rpc, error)
            return
        if not connected:
            self._loop.after(rpc.patience, partial(self._connect, rpc))
            return
        self._loop.watch(rpc.socket, self._converse, rpc)
        self._converse(rpc)

    def _converse(self, rpc: JsonRpc) -> None:
        """Take in what a JSON-RPC server says, and tell it what it has room for."""
        if self._connections.get(rpc.key) is not rpc:
            # Hung up on in this very turn.
            return
        try:
            for taker, message in rpc.receive():
                taker({"result": message.get("result"), "error": message.get("error")}, None)
        except OSError as error:
            if self._connections.get(rpc.key) is rpc:
                self._hang_up(rpc, error)
            return
        self._push(rpc)

    def _push(self, rpc: JsonRpc) -> None:
        """Tell a JSON-RPC server what it has room for. Takes nothing in: who gets an answer may
        ask the next question at once, in the middle of what is being taken in."""
        if self._connections.get(rpc.key) is not rpc:
            return
        try:
            rpc.push()
        except OSError as error:
            self._hang_up(rpc, error)
            return
        self._loop.watch_room(rpc.socket, bool(rpc.outbox))

    def _hang_up(self, rpc: JsonRpc, error: Exception) -> None:
        del self._connections[rpc.key]
        if rpc.connected:
            self._loop.leave(rpc.socket)
        rpc.socket.close()
        # Forgotten, or their timers would answer them a second time.
        waiting, rpc.waiting = rpc.waiting, {}
        for taker in waiting.values():
            taker(None, error)

    def _unanswered(self, rpc: JsonRpc, asked: int) -> None:
        taker, why = rpc.forget(asked)
        if taker is not None:
            said = "no answer in time" + (f": {why}" if why else "")
            taker(None, OSError(errno.ETIMEDOUT, said))


def _ignore(answer: Any, error: Optional[Exception]) -> None:
    """An answer that another one stands for, on the same connection and behind it."""


def _tell_answer(request: Request, answer: Any, error: Optional[Exception]) -> None:
    if error is None:
        request.reply(answer)
    else:
        request.refuse(error)
