"""Blocks of a TPACKET_V3 ring: made ones, and real ones from a veth pair of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.traffic import ring
from harness.traffic.frames import Tag, tags_of, untagged
from harness.traffic.ring import Unpacked

FRAME = bytes.fromhex("020000000002020000000001 88b5") + bytes(range(50))


@pytest.mark.parametrize(
    ("frame", "tag", "expected"),
    [
        (FRAME, None, ()),
        (FRAME, Tag.of(0), (Tag.of(0),)),
        (FRAME, Tag.of(5, tpid=0x88A8, pcp=7, dei=1), (Tag.of(5, tpid=0x88A8, pcp=7, dei=1),)),
        (FRAME[:12] + Tag.of(9).wire + FRAME[12:], Tag.of(5), (Tag.of(5), Tag.of(9))),
    ],
)
def test_the_tag_is_put_back_in_front(
    frame: bytes, tag: Tag | None, expected: tuple[Tag, ...]
) -> None:
    block = ring.pack([Unpacked(FRAME), Unpacked(frame, 1_700_000_000_123_456_789, tag=tag)])
    first, second = ring.walk(block)
    assert ring.restore(block, first) == FRAME
    restored = ring.restore(block, second)
    assert (tags_of(restored), untagged(restored)) == (expected, FRAME)
    assert second[4] == 1_700_000_000_123_456_789
    assert ring.frame_at(block, second[0]) == second


def test_a_tag_without_a_valid_tpid_is_8021q() -> None:
    block = bytearray(ring.pack([Unpacked(FRAME, tag=Tag.of(5, tpid=0x88A8))]))
    status = 48 + 20
    block[status] &= ~ring.VLAN_TPID_VALID
    (frame,) = ring.walk(bytes(block))
    assert tags_of(ring.restore(bytes(block), frame)) == (Tag.of(5),)
    assert ring.frame_at(bytes(block), frame[0]) == frame


@pytest.mark.parametrize("size", [0, 20, 48, 100, 180])
def test_a_damaged_block_is_refused(size: int) -> None:
    block = ring.pack([Unpacked(FRAME), Unpacked(FRAME)])
    with pytest.raises(ValueError, match=r"damaged capture block|ends behind"):
        list(ring.walk(block[:size]))


# What the kernel really writes. The frames go through a veth pair in a network namespace that
# exists as long as the child does.

CHILD = """
import json, select, socket, subprocess, sys
from harness.agent.captures import Capture
ip = lambda *argv: subprocess.run(["ip", *argv], check=True)
# `lo` stays down, and no address is given: nothing but our frames is on this wire.
ip("link", "add", "left", "mtu", "9100", "type", "veth", "peer", "name", "right", "mtu", "9100")
for end in ("left", "right"):
    with open(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6", "w") as knob:
        knob.write("1")
    ip("link", "set", end, "up")
captures = [Capture("right", "in", 8, 1 << 20, 2), Capture("left", "out", 8, 1 << 20, 2)]
port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
port.bind(("left", 0))
frames = [bytes.fromhex(frame) for frame in json.load(sys.stdin)]
for frame in frames:
    port.send(frame)
found = []
for capture in captures:
    blocks = []
    while capture.read < len(frames):
        if not select.select([capture.socket], [], [], 10)[0]:
            break
        blocks += capture.take()
    capture.count()
    found.append({"drops": capture.drops, "blocks": [block.hex() for block in blocks]})
json.dump(found, sys.stdout)
"""

REAL: dict[str, bytes] = {
    "untagged": FRAME,
    "vid 0": FRAME[:12] + Tag.of(0, pcp=6).wire + FRAME[12:],
    "802.1q": FRAME[:12] + Tag.of(900).wire + FRAME[12:],
    "802.1q dei": FRAME[:12] + Tag.of(4095, pcp=7, dei=1).wire + FRAME[12:],
    "802.1ad": FRAME[:12] + Tag.of(7, tpid=0x88A8).wire + FRAME[12:],
    "qinq": FRAME[:12] + Tag.of(7, tpid=0x88A8).wire + Tag.of(5).wire + FRAME[12:],
    "two 802.1q": FRAME[:12] + Tag.of(7).wire + Tag.of(5).wire + FRAME[12:],
    "three tags": FRAME[:12] + Tag.of(7).wire + Tag.of(0).wire + Tag.of(5).wire + FRAME[12:],
    "jumbo": FRAME + bytes(8900),
    "short": FRAME[:20],
    "broadcast": b"\xff" * 6 + FRAME[6:],
}


@pytest.fixture(scope="module")
def captured() -> list[list[tuple[bytes, ring.RingFrame]]]:
    """What the two ends of a real veth pair saw: [arriving, leaving], each (frame, header)."""
    space = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "-r", "--net"]
    probe = subprocess.run(
        [*space, "ip", "link", "add", "left", "type", "veth", "peer", "name", "right"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        pytest.skip(f"no veth pair in a network namespace of our own: {probe.stderr.strip()}")
    done = subprocess.run(
        [*space, sys.executable, "-c", CHILD],
        input=json.dumps([frame.hex() for frame in REAL.values()]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert [end["drops"] for end in ends] == [0, 0]
    seen = []
    for end in ends:
        blocks = [bytes.fromhex(block) for block in end["blocks"]]
        seen.append([(ring.restore(b, frame), frame) for b in blocks for frame in ring.walk(b)])
    return seen


@pytest.mark.parametrize("end", [0, 1], ids=["arriving", "leaving"])
@pytest.mark.parametrize("name", REAL)
def test_the_kernel_s_own_blocks(
    captured: list[list[tuple[bytes, ring.RingFrame]]], end: int, name: str
) -> None:
    data, header = captured[end][list(REAL).index(name)]
    assert data == REAL[name]
    assert header[2] == header[3]
    assert len(data) == header[3] + (4 if header[6] else 0)


def test_real_blocks_hold_nothing_else(
    captured: list[list[tuple[bytes, ring.RingFrame]]],
) -> None:
    assert [len(end) for end in captured] == [len(REAL), len(REAL)]


def test_real_time_stamps_and_kinds(captured: list[list[tuple[bytes, ring.RingFrame]]]) -> None:
    arriving, leaving = captured
    times = [header[4] for _, header in arriving]
    assert times == sorted(times)
    assert times[0] > 1_600_000_000_000_000_000
    assert {header[5] for _, header in leaving} == {ring.OUTGOING}
    kinds = dict(zip(REAL, (header[5] for _, header in arriving), strict=True))
    assert kinds["broadcast"] == ring.BROADCAST
    assert kinds["untagged"] == ring.OTHERHOST
