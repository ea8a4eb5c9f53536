"""What the drain waits for, where no switch has to take part."""

from __future__ import annotations

import socket
import time

from harness.lab.drain import SPELL_PER_LATENCY, Drain
from harness.nodes.channel import unwatch, watch


def test_the_quiet_spell_lasts_however_much_is_said_meanwhile() -> None:
    drain = Drain({}, {})
    drain.learn_latency(0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # Somebody has always something to say.
        theirs.send(b"x")
        watch(ours, lambda _events: None)
        began = time.monotonic()
        assert drain.finish() == ""
        assert time.monotonic() - began >= SPELL_PER_LATENCY * 0.05
        unwatch(ours)
