"""A pytest plugin that breaks every lab right after it was built, to see whether scenarios notice.

``pytest scenarios -p sabotage_plugin --sabotage NAME --sabotage-results FILE`` runs one case of
each scenario that FILE does not say was caught already, and adds to FILE what became of it. What
any lab checks by itself (:meth:`harness.lab.Lab.verify`) is left out: a scenario's own assertions
count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.lab import Lab
from harness.ovs import Switch
from harness.plugin import _LABS
from harness.topology.model import HostPort, UplinkPort

VERSIONS = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
HIGHEST = 65535
WAITING = "scenarios/restart/conftest.py"
SOON = 5.0
"""Seconds in which a switch that is not broken forwards again, in a sandbox."""


def hosts_of(lab: Lab) -> Iterator[tuple[str, str, str]]:
    """Switch, bridge and port of every host."""
    for switch in lab.spec.switches:
        for bridge in switch.bridges:
            for port in bridge.ports:
                if isinstance(port, HostPort):
                    yield switch.name, bridge.name, port.name


def drop(lab: Lab) -> None:
    """No bridge forwards anything."""
    for switch in lab.spec.switches:
        for bridge in switch.bridges:
            add_flow(lab, switch.name, bridge.name, "actions=drop")


def leak(lab: Lab) -> None:
    """What a host sends goes everywhere, whatever its VLAN. Only hosts' frames: no storm."""
    for switch, bridge, port in hosts_of(lab):
        number = lab.switch(switch).ofport(port)
        add_flow(lab, switch, bridge, f"in_port={number},actions=ALL")


def wrong_tag(lab: Lab) -> None:
    """The first host of every switch is in a VLAN of its own."""
    for switch, port in first_hosts(lab):
        settings = ["tag=4000", "vlan_mode=access", "trunks=[]", "cvlans=[]"]
        lab.switch(switch).vsctl("set", "port", port, *settings)


def no_port(lab: Lab) -> None:
    """The first host of every switch has lost its port."""
    for switch, port in first_hosts(lab):
        lab.switch(switch).vsctl("del-port", port)


def no_vlans(lab: Lab) -> None:
    """No port has a VLAN of its own: all is one network."""
    for switch in lab.spec.switches:
        ports = [port.name for bridge in switch.bridges for port in bridge.ports]
        columns = ["tag", "trunks", "vlan_mode", "cvlans"]
        commands = [["--", "clear", "port", port, *columns] for port in ports]
        if commands:
            lab.switch(switch.name).vsctl(*(word for words in commands for word in words))


def spill(lab: Lab) -> None:
    """What a host sends leaves by every uplink of its switch's other bridges too, as it is."""
    for switch, bridge, port in hosts_of(lab):
        (spec,) = (one for one in lab.spec.switches if one.name == switch)
        for other in spec.bridges:
            uplinks = [one.name for one in other.ports if isinstance(one, UplinkPort)]
            if other.name != bridge and uplinks:
                _spill_into(lab.switch(switch), bridge, port, other.name, uplinks)


def _spill_into(switch: Switch, bridge: str, port: str, other: str, uplinks: list[str]) -> None:
    leaving, entering = f"{port[:12]}-x", f"{port[:12]}-y"
    for name, peer, where in ((leaving, entering, bridge), (entering, leaving, other)):
        made = ["set", "interface", name, "type=patch", f"options:peer={peer}"]
        switch.vsctl("--", "add-port", where, name, "--", *made)
    ways = [(bridge, port, ["NORMAL", leaving]), (other, entering, uplinks)]
    for where, from_port, to in ways:
        numbers = [name if name == "NORMAL" else f"output:{switch.ofport(name)}" for name in to]
        flow = f"priority={HIGHEST},in_port={switch.ofport(from_port)},actions={','.join(numbers)}"
        switch.ofctl("-O", VERSIONS, "add-flow", where, flow)


def twice(lab: Lab) -> None:
    """What a host sends is forwarded twice."""
    for switch, bridge, port in hosts_of(lab):
        number = lab.switch(switch).ofport(port)
        add_flow(lab, switch, bridge, f"in_port={number},actions=NORMAL,NORMAL")


def idle_library(lab: Lab) -> None:
    """No function of ovs-lib does anything, nor what they call last, and all say that it went
    well."""
    for switch in lab.switches.values():
        path = f"{switch.layout.datadir}/scripts/ovs-lib"
        library = switch.node.read_file(path).decode()
        names = re.findall(r"^(\w+) ?\(\)", library, re.MULTILINE)
        idle = "".join(f"{name} () {{ :; }}\n" for name in names)
        switch.node.write_file(path, f"{library}\n{idle}")
        script = f"{switch.layout.datadir}/scripts/ovs-check-dead-ifs"
        switch.node.write_file(script, "#!/bin/sh\n", mode=0o755)


FORGETFUL = """\
#!/bin/sh
for bond in $(ovs-appctl -T 5 bond/list | sed 1d | cut -f1); do
    shown=$(ovs-appctl -T 5 bond/show "$bond")
    active=$(echo "$shown" | sed -n 's/^active .* mac: .*(\\(.*\\))$/\\1/p')
    other=$(echo "$shown" | sed -n 's/^[ms][a-z]* \\(.*\\): enabled$/\\1/p' | grep -vx "$active")
    ovs-appctl -T 5 bond/set-active-slave "$bond" "${other%%[!A-Za-z0-9]*}"
done
"$0.real" "$@"
status=$?
ovs-vsctl --timeout=5 set Open_vSwitch . external_ids:hostname=forgotten.example
for bridge in $(ovs-vsctl --timeout=5 list-br); do
    ovs-ofctl -O OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15 del-tlv-map "$bridge"
done
exit $status
"""


def forgetful(lab: Lab) -> None:
    """ovs-ctl forgets the hostname, the TLV maps and which members of bonds were active."""
    for switch in lab.switches.values():
        path = switch.layout.ovs_ctl
        switch.node.write_file(f"{path}.real", switch.node.read_file(path), mode=0o755)
        switch.node.write_file(path, FORGETFUL, mode=0o755)


def edit_script(lab: Lab, name: str, edit: Callable[[str], str]) -> None:
    """Change one of Open vSwitch's own scripts on every switch; the change has to be one."""
    for switch in lab.switches.values():
        path = f"{switch.layout.datadir}/scripts/{name}"
        before = switch.node.read_file(path).decode()
        after = edit(before)
        assert after != before, f"{path} is not what this sabotage was made for"
        switch.node.write_file(path, after, mode=0o755)


def saved_through(header: str, expression: str) -> Callable[[Lab], None]:
    """Have ovs-save pass what it saves, in the pipe that takes this header away, through one more
    expression of sed."""

    def sabotage(lab: Lab) -> None:
        removed = f"-e '{header}'"
        edit_script(
            lab, "ovs-save", lambda text: text.replace(removed, f"{removed} -e '{expression}'")
        )

    return sabotage


def idle(function: str) -> Callable[[Lab], None]:
    """This function of ovs-lib does nothing, and says that it went well."""

    def sabotage(lab: Lab) -> None:
        edit_script(lab, "ovs-lib", lambda text: f"{text}\n{function} () {{ :; }}\n")

    return sabotage


def unsaved_addresses(lab: Lab) -> None:
    """Addresses are not among what ovs-lib saves of interfaces."""
    edit_script(
        lab, "ovs-lib", lambda text: text.replace("echo ip -f $family addr add", ": ip addr add")
    )


def after_start(code: str) -> Callable[[Lab], None]:
    """Whenever ovs-vswitchd has started, this is done beside it, once it forwards, to each bridge
    ``$b``."""
    script = f"""\
#!/bin/sh
/opt/sound/ovs-vswitchd "$@" || exit
setsid sh -c '
while ovs-vsctl --no-wait get open_vswitch . other_config | grep -q flow-restore-wait; do :; done
for b in $(ovs-vsctl --no-wait list-br); do
{code}
done
' > /dev/null 2>&1 < /dev/null &
"""

    def sabotage(lab: Lab) -> None:
        for switch in lab.switches.values():
            path = f"{switch.layout.sbindir}/ovs-vswitchd"
            move = 'mkdir -p /opt/sound && cp -L "$1" /opt/sound/ && rm "$1"'
            switch.node.run(["sh", "-c", move, "sh", path])
            switch.node.write_file(path, script, mode=0o755)

    return sabotage


FLOOD = f"""\
ovs-ofctl -O {VERSIONS} add-flow $b priority={HIGHEST},actions=FLOOD
sleep 0.1
ovs-ofctl -O {VERSIONS} --strict del-flows $b priority={HIGHEST}"""

# What a restart alone brings to light.
AT_RESTART: dict[str, Callable[[Lab], None]] = {
    "drop-a-flow": saved_through("/OFPST_FLOW/d", "$d"),
    "lose-cookies": saved_through("/OFPST_FLOW/d", "s/cookie=0x[0-9a-f]*/cookie=0x0/"),
    "forget-groups": saved_through("/^NXST_GROUP_DESC/d", "/group_id=/d"),
    "no-waiting": idle("flow_restore_wait"),
    "flood-after-start": after_start(FLOOD),
    "lose-addresses": after_start("ip address flush dev $b"),
    "no-reload": idle("ovs_kmod_ctl"),
    "unsaved-addresses": unsaved_addresses,
}

NEGLECT = """\
sed -i '/^Package: openvswitch-switch$/,/^$/s/^Version: .*/Version: 0/' /var/lib/dpkg/status
chmod -R o+w /etc/openvswitch/ /var/lib/openvswitch /var/log/openvswitch /etc/default
printf '#!/bin/sh\\nexit 3\\n' >/etc/init.d/openvswitch-switch
: >/etc/logrotate.d/openvswitch-switch
for daemon in ovsdb-server ovs-vswitchd; do
    cp /bin/sleep "/root/$daemon"
    setsid "/root/$daemon" 1000 >/dev/null 2>&1 &
done
setsid nc -l -p 99 >/dev/null 2>&1 &
for bridge in $(ovs-vsctl list-br); do ip address flush dev "$bridge"; done
"""


def neglected(lab: Lab) -> None:
    """Nobody looks after the installation: files that anybody may write to, a package that is not
    what runs, a service that does not, a second daemon, a port that is open."""
    for name in lab.switches:
        lab.node(name).run(["sh", "-c", NEGLECT])


# In the order in which they are tried: what catches the most comes first.
SABOTAGES: dict[str, Callable[[Lab], None]] = {
    "drop": drop,
    "idle-library": idle_library,
    "forgetful": forgetful,
    "leak": leak,
    "no-vlans": no_vlans,
    "wrong-tag": wrong_tag,
    "no-port": no_port,
    "spill": spill,
    "twice": twice,
    "neglected": neglected,
}


def first_hosts(lab: Lab) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    for switch, _bridge, port in hosts_of(lab):
        first.setdefault(switch, port)
    return list(first.items())


def add_flow(lab: Lab, switch: str, bridge: str, flow: str) -> None:
    lab.switch(switch).ofctl("-O", VERSIONS, "add-flow", bridge, f"priority={HIGHEST},{flow}")


# -- the plugin

Results = dict[str, dict[str, str]]
"""What each sabotage did to a scenario, by scenario and sabotage."""
CAUGHT, SKIPPED = "caught: ", "skipped: "
PROPERTY = "sabotage"
MOST_LINES = 12


def pytest_addoption(parser: pytest.Parser) -> None:
    choices = sorted({**SABOTAGES, **AT_RESTART})
    parser.addoption("--sabotage", choices=choices, required=True)
    parser.addoption("--sabotage-results", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Saboteur(config.option), "saboteur")


class Saboteur:
    """Breaks labs, and takes note of who minds."""

    def __init__(self, option: Any) -> None:
        self.name: str = option.sabotage
        self.file: Path = option.sabotage_results
        self.results: Results = json.loads(self.file.read_text()) if self.file.exists() else {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the first case of each scenario that has a lab and has not been caught yet."""
        kept: dict[str, pytest.Item] = {}
        for item in items:
            if "target" in getattr(item, "fixturenames", ()) and not self.settled(scenario(item)):
                kept.setdefault(scenario(item), item)
        config.hook.pytest_deselected(items=[one for one in items if one not in kept.values()])
        items[:] = kept.values()
        if self.name in SABOTAGES:
            # What a broken switch does not forward does not come, however long it is waited for.
            restarts = config.pluginmanager.get_plugin(str(config.rootpath / WAITING))
            if restarts is not None:
                restarts.AT_ONCE = restarts.OVER_BONDS = SOON

    def settled(self, name: str) -> bool:
        said = self.results.get(name, {}).values()
        return any(one.startswith((CAUGHT, SKIPPED)) for one in said)

    def pytest_sessionstart(self) -> None:
        enter = Lab.__enter__

        def enter_and_break(lab: Lab) -> Lab:
            enter(lab)
            {**SABOTAGES, **AT_RESTART}[self.name](lab)
            return lab

        change = Lab.change_image

        def change_and_break(lab: Lab, switch: str, image: str, keep: Sequence[str]) -> str:
            before = change(lab, switch, image, keep)
            {**SABOTAGES, **AT_RESTART}[self.name](lab)
            return before

        Lab.__enter__ = enter_and_break  # type: ignore[method-assign]
        Lab.change_image = change_and_break  # type: ignore[assignment,method-assign]
        Lab.verify = lambda self: None  # type: ignore[method-assign]  # noqa: ARG005

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        arguments = getattr(item, "funcargs", {})
        for name in [name for name, value in arguments.items() if isinstance(value, Lab)]:
            if call.when == "call":
                # The harness's plugin does not find it then, and leaves no bundle.
                del arguments[name]
        report = yield
        outcome = self.outcome(report, call, item)
        if outcome:
            report.user_properties.append((PROPERTY, outcome))
        return report

    def outcome(
        self, report: pytest.TestReport, call: pytest.CallInfo[None], item: pytest.Item
    ) -> str:
        # The beginning is what was asserted; pytest's explanation of it comes last.
        said = str(call.excinfo.value).strip().splitlines()[:MOST_LINES] if call.excinfo else []
        if report.skipped:
            return SKIPPED + str(getattr(report, "wasxfail", "")) + "; ".join(said)
        if report.when == "setup" and report.failed:
            # A fixture of the scenario's own, which had a lab to work on, minds as well as it does.
            live = any(node.stash.get(_LABS, []) for node in item.listchain())
            return (CAUGHT if live else "no lab: ") + "; ".join(said)
        if report.when == "call":
            return CAUGHT + "; ".join(said) if report.failed else "not noticed"
        return ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note, in the process that hears of all tests when several run them."""
        for name, outcome in report.user_properties:
            if name == PROPERTY:
                self.results.setdefault(report.nodeid.partition("[")[0], {})[self.name] = str(
                    outcome
                )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):
            self.file.write_text(json.dumps(self.results))


def scenario(item: pytest.Item) -> str:
    """A scenario's name: that of its function, without the case's parameters."""
    return item.nodeid.partition("[")[0]
