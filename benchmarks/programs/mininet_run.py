"""A whole run of Mininet: one switch in user space, some hosts, the first ping, every pair.

Run by the Python that has Mininet, inside the sandbox of ``mininet_box.py``, as ``mininet_run.py
HOSTS PAIRS``. Standard library and Mininet only. Prints a JSON object of times on the monotonic
clock.
"""

from __future__ import annotations

import json
import sys
import time

from mininet.log import setLogLevel  # type: ignore[import-not-found]
from mininet.net import VERSION, Mininet  # type: ignore[import-not-found]
from mininet.node import OVSBridge  # type: ignore[import-not-found]
from mininet.topo import SingleSwitchTopo  # type: ignore[import-not-found]


class UserBridge(OVSBridge):  # type: ignore[misc]
    """A bridge of the netdev datapath in fail mode standalone."""

    def __init__(self, name: str, **settings: object) -> None:
        super().__init__(name, datapath="user", **settings)


def main(hosts: int, pairs: bool) -> None:
    """Build the network, ping once and, with ``pairs``, from every host to every other."""
    setLogLevel("critical")
    marks: dict[str, object] = {"version": VERSION}
    net = Mininet(topo=SingleSwitchTopo(k=hosts), switch=UserBridge, controller=None)
    net.start()
    one, other = net.hosts[:2]
    said = one.cmd(f"ping -c1 {other.IP()}")
    if " 0% packet loss" not in said:
        raise AssertionError(f"the first ping was not answered: {said}")
    marks["first"] = time.monotonic()
    if pairs:
        lost = net.pingAll()
        if lost:
            raise AssertionError(f"{lost} % of the pings were not answered")
        marks["paired"] = time.monotonic()
    net.stop()
    marks["gone"] = time.monotonic()
    print(json.dumps(marks))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "pairs")
