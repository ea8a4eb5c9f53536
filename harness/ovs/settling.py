"""Having a switch's datapath catch up with its tables.

Frames go by flows that ovs-vswitchd put into the datapath for their like. When a table changes, or
a MAC address is learned, its revalidator threads mend them, and until then frames go the old way
("Flow Tables and Revalidation" in its design documentation). Left to themselves, the next round
begins half a second later; pausing and resuming the revalidators begins one at once. It mends what
the tables' change marked, nothing else.
"""

from __future__ import annotations

from harness.nodes.base import Node, Question
from harness.ovs.tasks import Steps


def settle(node: Node, socket: str) -> Steps[None]:
    """Have the datapath catch up; ``socket`` is the control socket of ovs-vswitchd."""
    if (yield from revalidates(node, socket)):
        yield [node.json_rpc_all_soon(socket, _CATCH_UP)]


def revalidates(node: Node, socket: str) -> Steps[bool]:
    """Whether there are revalidator threads. There are none while saved flows are restored
    (ovs-vswitchd.conf.db(5), ``flow-restore-wait``), and nothing in the datapath to mend."""
    # Asked where the end of a round is told, so that this connection is not a new one then.
    answers = yield [node.json_rpc_soon(socket, "memory/show", [], line=_END)]
    return "revalidators:" in answers[0]


_END = 1
"""The connection on which the end of a round is told."""
_TURN = 10
"""As many questions on one connection as the main loop of ovs-vswitchd answers in a turn (its
unixctl.c, run_connection()): what is asked behind them is heard in a later turn than the first of
them. That one was answered does not say so: if the next comes at once, it is heard in that turn."""


def _round(after: tuple[int, ...] = ()) -> list[Question]:
    """One round of revalidation. Its end is asked for before it is begun, or it could have been
    over by then: the next one's would be told, half a second later."""
    # Open vSwitch 2.15 can't be made to begin a round, and later versions do not list the commands.
    # If something else is wrong, another answer says so too.
    return [
        Question("revalidator/wait", after, line=_END),
        Question("version", after, times=_TURN),
        Question("revalidator/pause", after, may_fail=True),
        Question("revalidator/resume", after, may_fail=True),
    ]


# The first round credits the tables with what the datapath has seen, and so may learn an address.
# In the turn in which its end is told, the main loop notes that, and in the next it marks what is
# to be mended (ofproto-dpif.c, run() and type_run()); the second round begins behind both.
_CATCH_UP = (*_round(), *_round(after=(0, 3)))
