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
    answers = yield [node.json_rpc_soon(socket, "memory/show", [])]
    return "revalidators:" in answers[0]


def _round(place: int, after: tuple[int, ...] = ()) -> list[Question]:
    """One round of revalidation, from this place in a list of questions on. That it has ended is
    told on a connection of its own, and is asked for before it is begun."""
    # A question that the main loop of ovs-vswitchd has answered is a turn that it has made. Open
    # vSwitch 2.15 can't be made to begin a round, and later versions do not list the commands. If
    # something else is wrong, another answer says so too.
    turn = (place + 1,)
    return [
        Question("revalidator/wait", after, line=1),
        Question("version", after),
        Question("revalidator/pause", turn, may_fail=True),
        Question("revalidator/resume", turn, may_fail=True),
    ]


# The first round credits the tables with what the datapath has seen, and so may learn an address;
# the main loop notes that in two turns; the second round then acts upon it.
_CATCH_UP = (
    *_round(0),
    Question("version", after=(0, 2, 3)),
    Question("version", after=(4,)),
    *_round(6, after=(5,)),
)
