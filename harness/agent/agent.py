"""The agent put together: a loop, the stream to the harness, and all that it can be asked for."""

from __future__ import annotations

# Imported for their effect: once the root file system has changed, no module can be loaded.
import encodings.ascii
import encodings.latin_1  # noqa: F401
import os
import sys
import time
from functools import partial

from .captures import SYNC_AGAIN, Captures
from .channel import ByteStream, Channel
from .children import Children
from .commands import Commands
from .files import Files
from .interfaces import Interfaces
from .looks import Looks
from .loop import File, Loop
from .machine import Machine
from .requests import Operations, Request
from .sending import Sending
from .servers import Servers
from .side_by_side import SideBySide
from .spaces import Spaces
from .underlays import Underlays


class Agent:
    """Serves one stream until it ends."""

    def __init__(self, stream: ByteStream, sink: File | None = None) -> None:
        """``sink`` is what has room to write to or not, if that is not the stream itself."""
        self.loop = Loop()
        self.children = Children(self.loop)
        self.spaces = Spaces()
        self._channel = Channel(stream, self.loop, self._take, sink)
        self._sending = Sending(self.loop, self.spaces)
        side_by_side = SideBySide(self.loop)
        self._captures = Captures(self.loop, self._channel, side_by_side, self.spaces)
        self.looks = Looks(self._sending, self._captures)
        self._operations: Operations = {"hello": _greet}
        self.offer(Commands(self.loop, self._channel, self.children, self.spaces).operations)
        self.offer(Files(self.spaces).operations)
        self.offer(Servers(self.loop).operations)
        self.offer(self.spaces.operations)
        self.offer(Interfaces(self.spaces).operations)
        self.offer(self._sending.operations)
        self.offer(self._captures.operations)
        self.offer(self.looks.operations)
        self.offer(Machine(self.spaces).operations)
        self.offer(Underlays(self.spaces).operations)

    def offer(self, operations: Operations) -> None:
        """Do these too when they are asked for, in place of any that go by the same names."""
        self._operations.update(operations)

    def serve(self) -> None:
        """Answer until the stream ends."""
        try:
            while True:
                self._turn()
        except EOFError:
            self._captures.end()

    def _turn(self) -> None:
        self.loop.wait(self._patience())
        now = time.monotonic()
        self.loop.call_due(now)
        self._sending.push_due(now)
        self._captures.look_again()
        self._captures.hand_over()
        self._channel.flush()

    def _patience(self) -> float | None:
        """Seconds until there is something to do, whatever happens."""
        if self._captures.syncing:
            return SYNC_AGAIN
        soon = self._sending.next_times()
        timer = self.loop.next_time()
        if timer is not None:
            soon.append(timer)
        if not soon:
            return None
        return max(0.0, min(soon) - time.monotonic())

    def _take(self, request: Request) -> None:
        operation = self._operations.get(request.operation)
        if operation is None:
            request.fail(f"the agent knows no operation {request.operation!r}")
        else:
            request.attempt(partial(operation, request))


def _greet(request: Request) -> None:
    request.reply({"pid": os.getpid(), "python": list(sys.version_info[:3])})
