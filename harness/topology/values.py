"""What single values may be: names, texts, VLANs, addresses, keys.

Every function returns None for a good value, else one line that says what is wrong with it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

IFNAMSIZ = 15
"""Longest name of a Linux interface, in bytes (linux/if.h, IFNAMSIZ less the final NUL)."""
NODE_NAME = 32
MAP_KEY = 255
MAP_VALUE = 4096
TEXT = 1 << 20
MTU_MIN, MTU_MAX = 68, 65535
"""RFC 791 (every IPv4 link carries 68 bytes); Linux, ETH_MAX_MTU."""
IPV6_MTU_MIN = 1280
"""RFC 8200, section 5."""
PROTOCOLS = ("OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15")
"""ovs-vswitchd.conf.db(5), Bridge ``protocols``."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|0|[1-9][0-9]*", re.ASCII)
_COLUMN = re.compile(r"[a-z][a-z_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# ovs-ofctl(8) reads these words, in any case, as ports of OpenFlow.
_OPENFLOW_PORTS = frozenset(
    ["in_port", "table", "normal", "flood", "all", "controller", "local", "any", "none", "unset"]
)
# Names that exist in every network namespace, or that the kernel or Open vSwitch takes for itself.
_TAKEN = frozenset(
    ["lo", "default", "ovs-system", "ovs-netdev", "gre0", "gretap0", "erspan0", "ip6gre0"]
)
_ROUTE_TYPES = frozenset(
    ["unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole"]
)
_KEY_BITS = {
    "vxlan": 24,  # RFC 7348, section 5: VNI
    "geneve": 24,  # RFC 8926, section 3.4: VNI
    "gre": 32,  # RFC 2890, section 2.1
    "ip6gre": 32,
    "gtpu": 32,  # 3GPP TS 29.281, section 5.1: TEID
    "erspan": 10,  # draft-foschiano-erspan-03, section 4.1: session ID
    "ip6erspan": 10,
}


def node_name(name: str, limit: int = NODE_NAME) -> str | None:
    """A switch, an underlay, a topology, a mirror: ``limit`` is in characters."""
    if not name:
        return "the name is empty"
    if len(name) > limit:
        return f"name {_short(name)} has {len(name)} characters, at most {limit} are allowed"
    if not _NAME.fullmatch(name) or name.startswith("."):
        return (
            f"name {_short(name)} may hold only letters, digits and _ . + - (ASCII), "
            "and begins with a letter, a digit or _"
        )
    return None


def interface_name(name: str) -> str | None:
    """A bridge, a port or a host: also the name of a Linux interface (dev_valid_name())."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > IFNAMSIZ:
        return f"name {_short(name)} has {size} bytes, an interface name has at most {IFNAMSIZ}"
    fault = node_name(name)
    if fault is None and name.isdigit():
        fault = f"name {name!r} is a number, which Open vSwitch would read as a port number"
    if fault is None and name.lower() in _OPENFLOW_PORTS:
        fault = f"name {name!r} is a reserved port of OpenFlow (ovs-ofctl(8)); choose another"
    if fault is None and (name in _TAKEN or "_sys_" in name):
        fault = f"name {name!r} belongs to the kernel or to Open vSwitch; choose another"
    return fault


def one_line(text: str, limit: int = MAP_VALUE) -> str | None:
    """Text that has to stay one argument or one line: no control characters."""
    if len(text) > limit:
        return f"{len(text)} characters, at most {limit} are allowed"
    if found := _CONTROL.search(text):
        return f"{_short(text)} holds a line break or control character ({found.group()!r})"
    return None


def map_key(key: str) -> str | None:
    """The key of an ``options`` or ``other_config`` map."""
    return "the key is empty" if not key else one_line(key, MAP_KEY)


def lines(text: str) -> str | None:
    """OpenFlow text: lines, tabs allowed, no other control characters."""
    if len(text) > TEXT:
        return f"{len(text)} characters of text, at most {TEXT} are allowed"
    if found := _CONTROL_IN_LINES.search(text):
        line = text.count("\n", 0, found.start()) + 1
        return f"line {line} of the text holds a control character ({found.group()!r})"
    return None


def match(text: str) -> str | None:
    """A match of a mirror's: as in a flow, but that it cannot name the port."""
    if not text:
        return "the filter is empty; leave it out"
    if re.search(r"(^|,)\s*in_port", text):
        return "a filter knows no in_port (ovs-vswitchd.conf.db(5)); use select_src_port"
    return one_line(text)


def column(name: str) -> str | None:
    """A column of the Interface table."""
    if not _COLUMN.fullmatch(name):
        return f"{_short(name)} is no column of the Interface table"
    if name in {"name", "type"}:
        return f"column {name!r} follows from the port itself; leave it out"
    return None


def vlan(number: int, low: int = 0) -> str | None:
    """A VLAN ID. IEEE 802.1Q-2018, table 9-2: FFF is reserved, 0 only means priority-tagged."""
    if number == 4095:
        return "VLAN 4095 is reserved (IEEE 802.1Q); use 0 to 4094"
    if not low <= number <= 4094:
        return f"VLAN {number} does not exist; use {low} to 4094"
    return None


def vlans(numbers: Sequence[int], low: int = 0) -> str | None:
    """A set of VLAN IDs: as :func:`vlan`, and none of them twice."""
    seen = set()
    for number in numbers:
        if fault := vlan(number, low):
            return fault
        if number in seen:
            return f"VLAN {number} is listed twice"
        seen.add(number)
    return None


def mac(text: str) -> str | None:
    """An interface's own MAC address: six bytes, unicast, not zero."""
    if not _MAC.fullmatch(text):
        return f"{_short(text)} is no MAC address; write it like 02:00:00:00:00:01"
    if int(text[:2], 16) & 1:
        return f"{text} is a group address; an interface needs a unicast MAC address"
    if not int(text.replace(":", ""), 16):
        return f"{text} is no usable MAC address"
    return None


def mtu(number: int, addresses: Sequence[str] = ()) -> str | None:
    """An MTU in bytes, of an interface that carries ``addresses``."""
    if not MTU_MIN <= number <= MTU_MAX:
        return f"MTU {number} is out of range; use {MTU_MIN} to {MTU_MAX}"
    if number < IPV6_MTU_MIN and any(":" in address for address in addresses):
        return f"MTU {number} can't carry IPv6, which needs {IPV6_MTU_MIN} (RFC 8200)"
    return None


def interface(text: str) -> Interface | str:
    """An interface's address with its prefix length, or what is wrong with it."""
    hint = "write it with its prefix length, like 192.0.2.1/24 or 2001:db8::1/64"
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or not length.isascii() or "%" in address:
        return f"{_short(text)} is no address of an interface; {hint}"
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        return f"{_short(text)} is no address of an interface; {hint}"
    if found.ip.is_multicast or found.ip.is_unspecified:
        return f"{text} can't be the address of an interface"
    return found


def address(text: str) -> Address | str:
    """A tunnel end: an address without prefix length, or what is wrong with it."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return f"{_short(text)} is neither an IP address nor `flow`"
    if getattr(found, "scope_id", None):
        return f"{_short(text)} has a zone; write the address alone"
    if found.is_multicast or found.is_unspecified:
        return f"{text} can't be a tunnel end; only unicast addresses are supported"
    return found


def key(text: str, tunnel_type: str) -> str | None:
    """A tunnel key (ovs-vswitchd.conf.db(5), Interface ``options:key``)."""
    bits = _KEY_BITS.get(tunnel_type)
    if bits is None:
        return f"a {tunnel_type} tunnel has no key"
    if text == "flow":
        return None
    if not _NUMBER.fullmatch(text) or len(text) > 20:
        return f"key {_short(text)} is neither a number nor `flow`"
    if int(text, 0) >= 1 << bits:
        return f"key {text} is too large for {tunnel_type}, whose keys have {bits} bits"
    return None


def route(text: str) -> str | None:
    """A route as in ``ip route add …`` (ip-route(8)): its words become arguments."""
    if fault := one_line(text, 512):
        return fault
    words = text.split()
    if not words:
        return "the route is empty"
    if bad := next((word for word in words if word.startswith("-")), None):
        return f"{_short(bad)} begins with -, which no part of a route may"
    target = words[1] if words[0] in _ROUTE_TYPES and len(words) > 1 else words[0]
    if target == "default":
        return None
    try:
        ipaddress.ip_network(target)
    except ValueError:
        return f"{_short(target)} is no destination of a route; write `default` or 192.0.2.0/24"
    return None


def _short(text: str) -> str:
    shown = ascii(text) if _CONTROL.search(text) else repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}…{shown[0]}"
