"""What a node needs of the kernel, tried one by one. A program that `doctor` runs in namespaces of
its own (``python -m harness.probes``): it prints one JSON object, a name and "" or an error each.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from harness.agent.captures import PACKET_RX_RING, PACKET_VERSION, SOL_PACKET, TPACKET_V3
from harness.agent.libc import CLONE_NEWNET, check, libc
from harness.agent.rtnetlink import (
    IFLA_IFNAME,
    NLM_CREATE,
    NLM_EXCL,
    RTM_NEWLINK,
    VETH_INFO_PEER,
    Netlink,
    attribute,
    link_info,
    link_message,
    text,
)

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
"""linux/if_tun.h"""


def _mount(kind: str, target: str, options: str = "") -> None:
    """mount(2) of something without a source."""
    words = [kind.encode(), target.encode(), kind.encode()]
    check(libc.mount(*words, ctypes.c_ulong(0), options.encode()), f"mount {kind}")


def _fresh(kind: str) -> Callable[[], None]:
    """Mount a new ``kind`` of file system over /mnt, which every machine has."""
    return lambda: _mount(kind, "/mnt")


def overlay() -> None:
    """A throw-away layer over a directory, as a node's root is made: write, and look below."""
    _mount("tmpfs", "/tmp")
    here = Path("/tmp")
    for name in ("lower", "upper", "work", "root"):
        (here / name).mkdir()
    (here / "lower/file").write_text("below")
    _mount("overlay", "/tmp/root", "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work")
    (here / "root/file").write_text("above")
    if (here / "lower/file").read_text() != "below":
        raise OSError(errno.EIO, "overlayfs let a write through to the layer below")


def tun() -> None:
    """Open /dev/net/tun and make a TAP interface, as the netdev datapath does for its ports."""
    with Path("/dev/net/tun").open("r+b", buffering=0) as device:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"probe0", IFF_TAP | IFF_NO_PI))


def _link(kind: str, data: bytes = b"") -> None:
    body = link_message(f"probe-{kind}", more=link_info(kind.encode(), data))
    Netlink().request([(RTM_NEWLINK, NLM_CREATE | NLM_EXCL, body, f"make a {kind} interface")])


def veth() -> None:
    """A pair of virtual Ethernet interfaces: what a host is attached with."""
    peer = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(
        IFLA_IFNAME, text("probe-peer")
    )
    _link("veth", attribute(VETH_INFO_PEER, peer))


def bridge() -> None:
    """A Linux bridge: what an underlay with more than two ends is."""
    _link("bridge")


def ring() -> None:
    """A TPACKET_V3 ring (packet(7)): what frames are captured with."""
    block, blocks, frame = 1 << 16, 2, 2048
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        request = struct.pack("=7I", block, blocks, frame, block * blocks // frame, 10, 0, 0)
        packets.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        mmap.mmap(packets.fileno(), block * blocks).close()


def network() -> None:
    """One more network namespace in a node: what a host is."""
    check(libc.unshare(CLONE_NEWNET), "unshare")


PROBES: dict[str, Callable[[], None]] = {
    "/proc": _fresh("proc"),
    "/sys": _fresh("sysfs"),
    "devpts": _fresh("devpts"),
    "overlayfs": overlay,
    "/dev/net/tun": tun,
    "veth": veth,
    "bridge": bridge,
    "packet ring": ring,
    "network namespace": network,
}
"""In the order in which they are tried: the last one leaves the first network namespace."""


def main() -> None:
    """Try them all."""
    found = {}
    for name, probe in PROBES.items():
        try:
            probe()
            found[name] = ""
        except OSError as error:
            found[name] = str(error.strerror or error)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
