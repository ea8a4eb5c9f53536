"""The same with scapy: ``sendp`` into one end of a veth pair, ``AsyncSniffer`` at the other.

Run in a network namespace of its own as ``python -m benchmarks.programs.scapy_rate FRAMES``.
Prints a JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.sendrecv import AsyncSniffer, sendp

QUIET = 1.0
"""Seconds without a frame after which no more are waited for."""


def main(count: int) -> None:
    """Send so many tagged frames and count what the sniffer makes of them."""
    for command in (
        "ip link add one type veth peer name other",
        "ip link set one up",
        "ip link set other up",
    ):
        subprocess.run(command.split(), check=True)
    arrived: list[float] = []
    tagged = threading.Event()
    ready = threading.Event()

    def take(packet: Ether) -> None:
        if packet.haslayer(Dot1Q) and packet[Dot1Q].vlan == 900:
            arrived.append(time.monotonic())
            tagged.set()

    sniffer = AsyncSniffer(iface="other", prn=take, store=False, started_callback=ready.set)
    sniffer.start()
    ready.wait()
    frames = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / Dot1Q(vlan=900)
        / Raw(number.to_bytes(46, "big"))
        for number in range(count)
    ]
    began = time.monotonic()
    sendp(frames, iface="one", verbose=False)
    sent = time.monotonic()
    tagged.wait(QUIET)
    while len(arrived) < count and time.monotonic() - max([sent, *arrived[-1:]]) < QUIET:
        tagged.clear()
        tagged.wait(QUIET)
    sniffer.stop()
    took = (arrived[-1] if arrived else sent) - began
    print(json.dumps({"sent": sent - began, "matched": took, "arrived": len(arrived)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
