"""What a target can do, found by trying it on a switch of that target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from harness.faults import Fault, FaultError, PowerCut, Upgrade
from harness.lab.environment import environment
from harness.lab.errors import LabError
from harness.lab.lab import Lab
from harness.lab.target import Target
from harness.nodes.base import CommandFailed
from harness.nodes.impairment import Impairment
from harness.ovs import DaemonError, ModuleError, OvsError, PortError, Switch
from harness.topology import Topology

BRIDGE = "br-try"
UNDERLAY = "try-wire"


class UnknownFeatureError(ValueError):
    """A scenario requires a feature that nobody knows how to try."""


@cache
def missing(target: Target, feature: str) -> str | None:
    """Why ``target`` lacks ``feature``, in words; None when it has it.

    Features are ``tunnel:TYPE`` (an Interface type), ``datapath:NAME`` (a line of ``ovs-appctl
    dpif/show-dp-features``), ``openflow:VERSION`` (a value of Bridge ``protocols``),
    ``appctl:COMMAND`` (a command of ovs-appctl(8)), ``column:TABLE.COLUMN`` (of the database),
    ``program:NAME`` (in the switch's node), ``users`` (more than one there), ``meters``, ``kernel
    module`` (one of the node's own, which can be reloaded), ``bad links`` (underlays that lose,
    double, corrupt and delay frames when told to), ``upgrades`` (nodes that can run another
    image) and ``power cuts`` (nodes that boot from a disk).
    Raise :class:`UnknownFeatureError` for any other.
    """
    kind, _, name = feature.partition(":")
    if kind not in {*_ATTEMPTS, *_ON_A_LAB} or bool(name) != (kind not in _NAMELESS):
        raise UnknownFeatureError(
            f"requires({feature!r}): there is tunnel:TYPE, datapath:FEATURE, openflow:VERSION, "
            "appctl:COMMAND, column:TABLE.COLUMN, program:NAME, users, meters, kernel module, "
            "bad links, upgrades and power cuts"
        )
    lab = _trial(target)
    node = lab.node("trial")
    node.go_on()
    try:
        if kind in _ON_A_LAB:
            return _ON_A_LAB[kind](lab, name)
        return _ATTEMPTS[kind](lab.switch("trial"), name)
    finally:
        node.rest()


@cache
def _trial(target: Target) -> Lab:
    """A switch of the target, for trying things on; it lives as long as the process."""
    topology = Topology("trial")
    bridge = topology.switch("trial").bridge(
        BRIDGE,
        addresses=["192.0.2.2/24", "2001:db8::2/64"],
        protocols=["OpenFlow10", "OpenFlow13", "OpenFlow15"],
    )
    bridge.uplink(topology.underlay(UNDERLAY))
    return Lab(topology, environment(target)).start()


def _tunnel(switch: Switch, name: str) -> str | None:
    port = "try-tunnel"
    options = ["options:remote_ip=192.0.2.1"]
    if name == "bareudp":
        options = [
            "options:remote_ip=192.0.2.1",
            "options:dst_port=6635",
            "options:payload_type=mpls",
        ]
    elif name.startswith("ip6"):
        options = ["options:remote_ip=2001:db8::1"]
    elif name in ("erspan", "ip6erspan"):
        options += ["options:erspan_ver=1", "options:erspan_idx=1"]
    try:
        switch.vsctl(
            *("--", "add-port", BRIDGE, port),
            *("--", "set", "Interface", port, f"type={name}", *options),
        )
        (row,) = switch.db("Interface", ["error", "ofport"], {"name": port})
        if row["error"]:
            return str(row["error"])
        if (row["ofport"] or -1) <= 0:
            return _complaint(switch, port)
        # The user-space datapath makes a port of a type whose packets it cannot build or read.
        if switch.datapath == "netdev" and "ref_cnt" not in switch.unixctl("tnl/ports/show"):
            return "the user-space datapath does not listen for it"
        return None
    except PortError as error:
        return error.failures[0].reason
    finally:
        switch.vsctl("--", "--if-exists", "del-port", port)


def _complaint(switch: Switch, port: str) -> str:
    """What ovs-vswitchd logged last about a port."""
    lines = [line for line in switch.logs()["ovs-vswitchd"].splitlines() if port in line]
    return lines[-1].rpartition("|")[2] if lines else "the port got no number"


def _datapath(switch: Switch, name: str) -> str | None:
    lines = switch.unixctl("dpif/show-dp-features", BRIDGE).splitlines()
    features = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.partition(":") for line in lines)
    }
    found = features.get(name.lower())
    if found is None:
        return f"the datapath does not name it; it names {', '.join(sorted(features))}"
    return None if found.lower() != "no" else "the datapath says No"


def _openflow(switch: Switch, name: str) -> str | None:
    try:
        switch.vsctl("--", "set", "Bridge", BRIDGE, f"protocols={name}")
        switch.ofctl("-O", name, "show", BRIDGE)
    except (CommandFailed, PortError) as error:
        return str(error)
    finally:
        switch.vsctl("--", "clear", "Bridge", BRIDGE, "protocols")
    return None


def _appctl(switch: Switch, name: str) -> str | None:
    known = {line.split()[0] for line in switch.unixctl("list-commands").splitlines()[1:]}
    return None if name in known else "ovs-vswitchd does not know the command"


def _column(switch: Switch, name: str) -> str | None:
    table, _, column = name.partition(".")
    try:
        switch.db(table, [column])
    except OvsError as error:
        return str(error)
    return None


def _meters(switch: Switch, _name: str) -> str | None:
    said = switch.ofctl("-O", "OpenFlow13", "meter-features", BRIDGE)
    return None if "max_meter:0 " not in said + " " else "the datapath has no meters"


def _program(switch: Switch, name: str) -> str | None:
    found = switch.node.run(["sh", "-c", 'command -v "$1"', "sh", name], check=False)
    return None if found.status == 0 else "the image has no such program"


def _users(switch: Switch, _name: str) -> str | None:
    done = switch.node.run(["setpriv", "--reuid=1", "--clear-groups", "true"], check=False)
    return None if done.status == 0 else f"root can't become anybody else: {done.stderr.strip()}"


def _module(switch: Switch, _name: str) -> str | None:
    try:
        switch.force_reload_kmod()
    except (ModuleError, DaemonError) as error:
        return str(error).partition("\n")[0]
    return None


def _bad_links(lab: Lab, _name: str) -> str | None:
    try:
        lab.impair(UNDERLAY, Impairment(loss=1))
        lab.impair(UNDERLAY, None)
    except LabError as error:
        return str(error)
    return None


def _upgrades(lab: Lab, _name: str) -> str | None:
    return _fault(lab, Upgrade("trial", lab.target.image))


def _power_cuts(lab: Lab, _name: str) -> str | None:
    return _fault(lab, PowerCut("trial"))


def _fault(lab: Lab, fault: Fault) -> str | None:
    try:
        with lab.fault(fault):
            pass
    except (FaultError, LabError) as error:
        return str(error)
    return None


_NAMELESS = ("meters", "users", "kernel module", "bad links", "upgrades", "power cuts")
_ATTEMPTS: dict[str, Callable[[Switch, str], str | None]] = {
    "tunnel": _tunnel,
    "datapath": _datapath,
    "openflow": _openflow,
    "appctl": _appctl,
    "column": _column,
    "program": _program,
    "users": _users,
    "meters": _meters,
    "kernel module": _module,
}
_ON_A_LAB: dict[str, Callable[[Lab, str], str | None]] = {
    "bad links": _bad_links,
    "upgrades": _upgrades,
    "power cuts": _power_cuts,
}
