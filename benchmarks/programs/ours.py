"""A whole run of the harness from nothing: a new process, no Open vSwitch running yet.

Run as ``python -m benchmarks.programs.ours TARGET SWITCHES HOSTS PAIRS``: so many switches, each
with so many hosts, joined by one underlay. Prints a JSON object of times on the monotonic clock.
"""

from __future__ import annotations

import json
import sys
import time

from harness import Lab, Topology
from harness.lab import Target
from harness.lab.environment import environment, fabric
from harness.traffic import Reach


def topology(switches: int, hosts: int) -> Topology:
    """Switches with one bridge each; more than one switch are joined by an underlay."""
    topo = Topology("benchmark")
    wire = topo.underlay("wire") if switches > 1 else None
    for number in range(1, switches + 1):
        bridge = topo.switch(f"s{number}").bridge("br0")
        if wire is not None:
            bridge.uplink(wire)
        for host in range(1, hosts + 1):
            bridge.host(f"h{number}-{host}")
    return topo


def main(target: Target, switches: int, hosts: int, pairs: bool) -> None:
    """Build a lab, verify one frame and, with ``pairs``, every ordered pair of hosts."""
    found = environment(target)
    marks: dict[str, object] = {"version": found.image.version}
    with Lab(topology(switches, hosts), found) as lab:
        names = list(lab.hosts)
        # The switches have learned nothing yet, so a unicast is heard by everybody.
        others = frozenset(names[1:])
        sent = lab.probe(names[0], to=names[1] if others else None)
        if sent.heard_at != others:
            raise AssertionError(f"the first frame was heard at {sorted(sent.heard_at)}")
        marks["first"] = time.monotonic()
        marks["switch"] = sum(done.duration for done in lab.commands)
        if pairs:
            matrix = lab.probe_all()
            if matrix.reach != Reach.groups(names):
                raise AssertionError(matrix.reach.difference(Reach.groups(names))[:10])
            lab.verify()
            marks["paired"] = time.monotonic()
    fabric().close()
    marks["gone"] = time.monotonic()
    print(json.dumps(marks))


if __name__ == "__main__":
    main(Target.parse(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "pairs")
