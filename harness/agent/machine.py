"""A machine of the node's own: its name, its clock, its root, and its share of the processor."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time

from .files import overwrite
from .quiet import ETHTOOL_SGRO, turn_off
from .requests import Fields, Operations, Request
from .rtnetlink import (
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_MTU,
    RTM_NEWLINK,
    attribute,
    mac_bytes,
    text,
)
from .spaces import Spaces

RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
"""linux/random.h"""


class Machine:
    """Wakes a machine up, sets its clock, and changes its root."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self.operations: Operations = {
            "awake": self.awake,
            "change_root": self.change_root,
            "clock": self.clock,
        }

    def awake(self, request: Request) -> None:
        """Become a machine of one's own, having been a twin of another: with a name, an id, network
        cards, the right time, and in the blob something random that nobody else has."""
        time.clock_settime_ns(time.CLOCK_REALTIME, request["time_ns"])
        _add_entropy(request.blob)
        socket.sethostname(request["name"])
        overwrite("/etc/hosts", hosts_file(request["name"]))
        overwrite("/etc/machine-id", request["machine_id"] + "\n")
        cards = request["cards"]
        for card in cards:
            # What is captured here has to be what is on the wire: each segment by itself.
            turn_off(card["card"], ETHTOOL_SGRO)
        changes = [(RTM_NEWLINK, 0, card_message(card), f"set {card['card']}") for card in cards]
        self._spaces.netlink(None).request(changes)
        request.reply()

    def change_root(self, request: Request) -> None:
        """Run everything from now on in what is mounted at ``root``. What runs already stays."""
        os.chroot(request["root"])
        os.chdir("/")
        request.reply()

    def clock(self, request: Request) -> None:
        """Set the clock forward by ``step`` nanoseconds, if any; answer with the time."""
        if request["step"]:
            time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + request["step"])
        request.reply(time.time_ns())


def _add_entropy(data: bytes) -> None:
    with open("/dev/urandom", "wb") as device:
        fcntl.ioctl(device, RNDADDENTROPY, struct.pack("=ii", 8 * len(data), len(data)) + data)
        fcntl.ioctl(device, RNDRESEEDCRNG)


def card_message(card: Fields) -> bytes:
    """An ifinfomsg that gives the interface ``card`` a ``name``, a ``mac`` and an ``mtu``."""
    index = socket.if_nametoindex(card["card"])
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
    body += attribute(IFLA_IFNAME, text(card["name"]))
    body += attribute(IFLA_ADDRESS, mac_bytes(card["mac"]))
    return body + attribute(IFLA_MTU, struct.pack("=I", card["mtu"]))


def hosts_file(name: str) -> str:
    """A node's hosts(5), in which it finds itself."""
    return f"127.0.0.1 localhost\n127.0.1.1 {name}\n"


def keep_up() -> None:
    """Have as much of the processor as Open vSwitch's daemons, which ovs-ctl starts with a niceness
    of -10, so that what they do does not keep frames from being seen. Whatever is started from
    here has the usual niceness (sched(7), ``SCHED_RESET_ON_FORK``)."""
    policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(0, policy, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, -10)
