"""Having a switch's datapath catch up with its tables.

Frames go by flows that ovs-vswitchd put into the datapath for their like. When a table changes, or
a MAC address is learned, its revalidator threads mend them, and until then frames go the old way
("Flow Tables and Revalidation" in its design documentation). Left to themselves, the next round
begins half a second later; pausing and resuming the revalidators begins one at once. It mends what
the tables' change marked, nothing else. Where no datapath holds a flow, as before the first frame,
there is nothing to mend and nothing to learn from.
"""

from __future__ import annotations

from harness.nodes.base import Node, Question
from harness.ovs.datapaths import SECOND_LINE, SHOW, Datapaths, ask_for_memory, parse
from harness.ovs.tasks import Steps


def settle(node: Node, socket: str) -> Steps[Datapaths]:
    """Have the datapaths catch up; ``socket`` is the control socket of ovs-vswitchd. Returns what
    they were like before. While saved flows are restored nobody mends any."""
    (_version, shown), memory = yield [
        node.json_rpc_all_soon(socket, _IN_A_LATER_TURN),
        ask_for_memory(node, socket),
    ]
    found = parse(shown, memory)
    if found.flows and not found.waiting:
        yield [node.json_rpc_all_soon(socket, _CATCH_UP)]
    return found


_END = SECOND_LINE
"""The connection on which the end of a round is told: not a new one by then."""
_TURN = 10
"""As many questions on one connection as the main loop of ovs-vswitchd answers in a turn (its
unixctl.c, run_connection()): what is asked behind them is heard in a later turn than the first of
them. That one was answered does not say so: if the next comes at once, it is heard in that turn."""

# What a command changed (a bond's active member, say) is noted in the next turn and goes for new
# flows from the one behind it (ofproto-dpif.c, run() and type_run()).
_IN_A_LATER_TURN = [Question("version", times=2 * _TURN), SHOW._replace(after=(0,))]


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
