"""The data of a topology: immutable, comparable, and the same whether it came from Python or YAML.

Names of columns and values are Open vSwitch's own: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from typing import Literal

import msgspec

FailMode = Literal["standalone", "secure"]
VlanMode = Literal["access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel"]
BondMode = Literal["active-backup", "balance-slb", "balance-tcp"]
Lacp = Literal["active", "passive", "off"]
TunnelType = Literal["vxlan", "gre", "ip6gre", "geneve", "erspan", "ip6erspan", "gtpu", "bareudp"]
Map = dict[str, str]


class _Data(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """The settings that all of the data shares; a subclass inherits them."""


class Vlan(_Data, frozen=True, kw_only=True):
    """The VLAN columns of a Port (ovs-vswitchd.conf.db(5), "VLAN Configuration")."""

    tag: int | None = None
    trunks: tuple[int, ...] = ()
    mode: VlanMode | None = None
    cvlans: tuple[int, ...] = ()


class _Port(_Data, frozen=True, kw_only=True):
    """What every kind of port has.

    ``name`` is the Port's name, and its Interface's but for bonds.
    """

    name: str
    vlan: Vlan = Vlan()
    protected: bool = False
    """True: nothing passes between this port and other protected ones of its bridge."""
    other_config: Map = {}
    """Port ``other_config``: ``qinq-ethtype``, ``priority-tags``, bond settings and so on."""
    interface: dict[str, str | int | bool | Map] = {}
    """Further columns of the Interface: ``ingress_policing_rate``, ``other_config``,
    ``mtu_request``, ``ofport_request`` … A bond's are those of its members."""
    qos: Map = {}
    """A QoS record for the Port: ``type`` and its ``other_config`` keys."""
    queues: dict[int, Map] = {}
    """The QoS's queues: number to Queue ``other_config``."""


class HostPort(_Port, frozen=True, kw_only=True, tag="host", tag_field="kind"):
    """A port with a host behind it: a network namespace of its own, joined by a veth pair.

    ``name`` is the host's name (unique in the lab) and that of the interface in the switch.
    """

    addresses: tuple[str, ...] = ()
    """IPv4 and IPv6 addresses with prefix length, on the host's interface ``eth0``."""
    mac: str | None = None
    """The host's MAC address; None: derived from its place in the topology."""
    mtu: int = 1500


class UplinkPort(_Port, frozen=True, kw_only=True, tag="uplink", tag_field="kind"):
    """A physical port: an attachment to an underlay, whose MTU it has."""

    underlay: str


class PatchPort(_Port, frozen=True, kw_only=True, tag="patch", tag_field="kind"):
    """One end of a patch; ``peer`` is the other end's port name on the same switch."""

    peer: str
    peer_missing: bool = False
    """True when the peer is left out on purpose; otherwise a missing peer is a mistake."""


class TunnelPort(_Port, frozen=True, kw_only=True, tag="tunnel", tag_field="kind"):
    """A tunnel port. Addresses and keys as in Interface ``options``: an IP address or ``flow``."""

    type: TunnelType
    remote_ip: str
    local_ip: str | None = None
    key: str | None = None
    in_key: str | None = None
    out_key: str | None = None
    options: Map = {}
    detached: bool = False
    """True when no interface has the local address on purpose; otherwise that is a mistake."""


class InternalPort(_Port, frozen=True, kw_only=True, tag="internal", tag_field="kind"):
    """An internal port. What arrives at it is seen as at a host: the point ``switch:port``."""

    addresses: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int | None = None


class BondMember(_Data, frozen=True, kw_only=True):
    """One physical interface of a bond, attached to an underlay of its own."""

    name: str
    underlay: str
    interface: dict[str, str | int | bool | Map] = {}


class BondPort(_Port, frozen=True, kw_only=True, tag="bond", tag_field="kind"):
    """A bond over two or more uplinks."""

    members: tuple[BondMember, ...]
    mode: BondMode = "active-backup"
    lacp: Lacp = "off"
    updelay: int = 0
    downdelay: int = 0
    fake_iface: bool = False


Port = HostPort | UplinkPort | PatchPort | TunnelPort | InternalPort | BondPort


class Mirror(_Data, frozen=True, kw_only=True):
    """A Mirror record; ports by name. Exactly one of the two outputs is set."""

    name: str
    select_all: bool = False
    select_src_port: tuple[str, ...] = ()
    select_dst_port: tuple[str, ...] = ()
    select_vlan: tuple[int, ...] = ()
    filter: str | None = None
    """What a selected frame has to match as well, as in ovs-fields(7). From Open vSwitch 3.4 on."""
    output_port: str | None = None
    output_vlan: int | None = None
    snaplen: int | None = None


class Bridge(_Data, frozen=True, kw_only=True):
    """A bridge. ``addresses``, ``mac`` and ``mtu`` are those of its local interface, ``vlan`` and
    ``protected`` those of its local port."""

    name: str
    ports: tuple[Port, ...] = ()
    datapath_type: Literal["", "system", "netdev", "dummy"] | None = None
    """None: the datapath of the target that the lab runs on."""
    fail_mode: FailMode | None = None
    protocols: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    vlan: Vlan = Vlan()
    protected: bool = False
    local: bool = False
    """True: the local port is an attachment point as an :class:`InternalPort` is."""
    mcast_snooping: bool = False
    stp: bool = False
    rstp: bool = False
    other_config: Map = {}
    mirrors: tuple[Mirror, ...] = ()
    flows: str = ""
    """OpenFlow flows, one a line, as in ``ovs-ofctl add-flows FILE``."""
    groups: str = ""
    meters: str = ""
    tlv_map: str = ""
    """As in ``ovs-ofctl add-tlv-map``: ``{class=0xffff,type=0,len=4}->tun_metadata0``."""


class Switch(_Data, frozen=True, kw_only=True):
    """One Open vSwitch instance. ``other_config`` is the Open_vSwitch table's."""

    name: str
    bridges: tuple[Bridge, ...] = ()
    other_config: Map = {}
    routes: tuple[str, ...] = ()
    """IP routes of the switch's own network stack, as in ``ip route add …``."""


class Underlay(_Data, frozen=True, kw_only=True):
    """A plain L2 segment between uplinks. Two ends are one cable; more are a hub."""

    name: str
    mtu: int = 1500


class TopologySpec(_Data, frozen=True, kw_only=True):
    """A whole topology as data."""

    name: str
    underlays: tuple[Underlay, ...] = ()
    switches: tuple[Switch, ...] = ()
