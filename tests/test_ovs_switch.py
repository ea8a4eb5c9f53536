"""A switch over a node that answers from a script: what is asked, and how answers are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from harness.nodes.base import Completed, NodeError, NodeLost, Pending, Question
from harness.ovs.apply import errors_in
from harness.ovs.errors import (
    ConfigurationError,
    DaemonError,
    ModuleError,
    OvsError,
    PortError,
)
from harness.ovs.options import Options
from harness.ovs.switch import Learned, Switch, parse_fdb
from harness.ovs.tasks import Task, gather
from harness.topology import model

LIB = """
logdir=${OVS_LOGDIR-'/var/log/openvswitch'}
rundir=${OVS_RUNDIR-'/run/openvswitch'}
bindir=${OVS_BINDIR-'/usr/bin'}
sbindir=${OVS_SBINDIR-'/usr/sbin'}
    dbdir='/etc/openvswitch'
"""
SCRIPTS = "/usr/share/openvswitch/scripts"


class Answer:
    """An answer that is made when somebody waits for it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def result(self, _timeout: float | None = None) -> Any:
        return self._make()


class FakeNode:
    """A node of files, of commands with their outcome, and of rows of a database."""

    name = "hv1"
    patience = 1.0

    def __init__(self) -> None:
        self.files: dict[str, str] = {
            f"{SCRIPTS}/ovs-lib": LIB,
            f"{SCRIPTS}/ovs-ctl": "--no-record-hostname",
        }
        self.outcome: dict[str, tuple[int, str, str]] = {}
        self.effect: dict[str, Callable[[], None]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {"Bridge": [], "Interface": []}
        self.ran: list[tuple[str, ...]] = []
        self.refused: dict[str, tuple[str, str]] = {}
        """Operations of the database, by kind, and what it says instead of carrying them out."""
        self.rpc: list[tuple[str, str, list[Any]]] = []

    @property
    def commands(self) -> Sequence[Completed]:
        return ()

    def run_daemon(
        self, name: str, pid: int, started: int = 100, *, parent: int = 9, session: int = 9
    ) -> None:
        """From now on this daemon runs, as one with a monitor does unless said otherwise."""
        fields = " ".join(str(number) for number in (parent, 5, session, *range(7, 22)))
        self.files[f"/run/openvswitch/{name}.pid"] = f"{pid}\n"
        self.files[f"/proc/{pid}/stat"] = f"{pid} ({name} (x)) S {fields} {started} 0\n"

    def run_both(self) -> None:
        self.run_daemon("ovsdb-server", 10)
        self.run_daemon("ovs-vswitchd", 20)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        del stdin, timeout, env
        self.ran.append(tuple(argv))
        key = next((key for key in self.outcome if key in " ".join(argv)), "")
        status, stdout, stderr = self.outcome.get(key, (0, "", ""))
        self.effect.get(argv[-1], lambda: None)()
        done = Completed(self.name, tuple(argv), status, stdout, stderr, 0.0, host)
        return done.check() if check else done

    def run_soon(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes = b"",
        timeout: float = 30.0,
        host: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Pending:
        done = self.run(argv, stdin=stdin, timeout=timeout, host=host, env=env, check=False)
        return Answer(lambda: done)

    def output(self, argv: Sequence[str], *, timeout: float = 30.0) -> tuple[int, bytes, bytes]:
        done = self.run(argv, timeout=timeout, check=False)
        return done.status, done.stdout.encode(), done.stderr.encode()

    def read_file(self, path: str) -> bytes:
        raise NotImplementedError

    def read_files(self, paths: Sequence[str]) -> list[bytes | None]:
        return [self.files[path].encode() if path in self.files else None for path in paths]

    def read_files_soon(self, paths: Sequence[str]) -> Pending:
        raise NotImplementedError

    def write_file(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def json_rpc(self, path: str, method: str, params: list[Any], timeout: float = 10.0) -> Any:
        del timeout
        self.rpc.append((path, method, params))
        if method == "transact":
            return [self._carry_out(operation) for operation in params[1:]]
        return "said"

    def _carry_out(self, operation: dict[str, Any]) -> dict[str, Any]:
        kind = operation["op"]
        if kind in self.refused:
            error, details = self.refused[kind]
            return {"error": error, "details": details}
        if kind != "select":
            return {}
        if operation["columns"] == ("next_cfg",):
            return {"rows": [{"next_cfg": 7}]}
        return {"rows": self.rows[operation["table"]]}

    def json_rpc_soon(
        self, path: str, method: str, params: list[Any], timeout: float = 10.0, *, line: int = 0
    ) -> Pending:
        del line
        return Answer(lambda: self.json_rpc(path, method, params, timeout))

    def json_rpc_all_soon(
        self, path: str, questions: Sequence[Question], timeout: float = 10.0
    ) -> Pending:
        return Answer(lambda: [self.json_rpc(path, one.method, [], timeout) for one in questions])

    def on_end(self, callback: Callable[[], None]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def switch_on(node: FakeNode, *bridges: model.Bridge, datapath: str = "netdev") -> Switch:
    """A switch that was started."""
    node.effect["start"] = node.run_both
    switch = Switch(node, model.Switch(name="hv1", bridges=bridges), datapath)
    switch.start()
    return switch


@pytest.mark.parametrize(
    ("datapath", "options"),
    [
        ("netdev", []),
        ("system", []),
        ("dummy", ["--ovs-vswitchd-options=--enable-dummy"]),
    ],
)
def test_start_runs_its_own_ovs_ctl(node: FakeNode, datapath: str, options: list[str]) -> None:
    switch_on(node, datapath=datapath)
    words = ["--system-id=hv1", "--no-record-hostname", *options, "start"]
    assert node.ran == [(f"{SCRIPTS}/ovs-ctl", *words)]


def test_start_waits_for_the_hostname_that_an_old_ovs_ctl_records(node: FakeNode) -> None:
    node.files[f"{SCRIPTS}/ovs-ctl"] = ""
    switch_on(node)
    assert node.ran[0] == (f"{SCRIPTS}/ovs-ctl", "--system-id=hv1", "start")
    assert node.ran[1][0] == "ovs-vsctl"
    assert "wait-until" in node.ran[1]


def test_a_daemon_that_does_not_start_is_an_error_with_its_log(node: FakeNode) -> None:
    node.effect["start"] = lambda: node.run_daemon("ovsdb-server", 10)
    node.outcome["ovs-ctl"] = (0, "Starting ovs-vswitchd ... failed!\n", "")
    node.files["/var/log/openvswitch/ovs-vswitchd.log"] = "old\n" * 30 + "the reason\n"
    with pytest.raises(DaemonError) as caught:
        Switch(node, model.Switch(name="hv1"), "netdev").start()
    text = str(caught.value)
    assert text.startswith("hv1: after `")
    assert "ovs-vswitchd does not run" in text
    assert "Starting ovs-vswitchd ... failed!" in text
    assert "the reason" in text
    assert text.count("old") == 14


def test_a_node_without_open_vswitch_says_so(node: FakeNode) -> None:
    node.files.clear()
    with pytest.raises(OvsError, match="there is no Open vSwitch in this node's image"):
        Switch(node, model.Switch(name="hv1"), "netdev").start()


def test_daemons_that_live_are_alive(node: FakeNode) -> None:
    switch_on(node).check_alive()


def test_a_dead_daemon_is_reported_with_its_log(node: FakeNode) -> None:
    switch = switch_on(node)
    del node.files["/proc/20/stat"]
    node.files["/var/log/openvswitch/ovs-vswitchd.log"] = "assertion failed\n"
    with pytest.raises(DaemonError, match=r"ovs-vswitchd \(pid 20\) has died\n.*\n.*assertion"):
        switch.check_alive()


def test_a_zombie_is_dead(node: FakeNode) -> None:
    switch = switch_on(node)
    node.files["/proc/20/stat"] = node.files["/proc/20/stat"].replace(") S", ") Z")
    with pytest.raises(DaemonError, match="has died"):
        switch.check_alive()


def test_a_dead_monitor_is_reported(node: FakeNode) -> None:
    switch = switch_on(node)
    node.run_daemon("ovs-vswitchd", 20, parent=1)
    with pytest.raises(
        DaemonError, match=r"the monitor of ovs-vswitchd \(pid 20\) has died \(pid 9"
    ):
        switch.check_alive()


@pytest.mark.parametrize(("pid", "started"), [(21, 100), (20, 101)])
def test_a_replaced_daemon_is_reported(node: FakeNode, pid: int, started: int) -> None:
    switch = switch_on(node)
    node.run_daemon("ovs-vswitchd", pid, started)
    with pytest.raises(DaemonError, match=rf"another runs in its place \(pid {pid}\)"):
        switch.check_alive()


def test_adopt_takes_daemons_as_they_are(node: FakeNode) -> None:
    switch = switch_on(node)
    node.run_daemon("ovs-vswitchd", 21)
    switch.adopt()
    switch.check_alive()
    assert switch.pid() == 21


def test_restart_finds_the_new_daemons(node: FakeNode) -> None:
    switch = switch_on(node)
    node.effect["restart"] = lambda: node.run_daemon("ovs-vswitchd", 22)
    node.outcome["restart"] = (0, "Restoring saved flows ... failed!\n", "")
    assert "failed!" in switch.restart().stdout
    switch.unixctl("fdb/show", "br0")
    assert node.rpc == [("/run/openvswitch/ovs-vswitchd.22.ctl", "fdb/show", ["br0"])]


def test_stop_is_an_error_while_a_daemon_still_runs(node: FakeNode) -> None:
    switch = switch_on(node)
    with pytest.raises(DaemonError, match="after `ovs-ctl stop` ovsdb-server and ovs-vswitchd"):
        switch.stop()
    for pid in (10, 20):
        del node.files[f"/proc/{pid}/stat"]
    switch.stop()
    with pytest.raises(DaemonError, match="ovs-vswitchd is not running; start the switch first"):
        switch.unixctl("version")


def test_options_of_a_start_are_those_of_what_follows(node: FakeNode) -> None:
    switch = switch_on(node)
    options = replace(switch.options, db_file="/tmp/x.db", mlockall=False)
    switch.start(options)
    switch.restart()
    switch.restart(replace(options, delete_bridges=True))
    usual = ["--system-id=hv1", "--no-record-hostname"]
    assert [list(argv[1:]) for argv in node.ran[1:]] == [
        [*usual, "--no-mlockall", "--db-file=/tmp/x.db", "start"],
        [*usual, "--no-mlockall", "--db-file=/tmp/x.db", "restart"],
        [*usual, "--delete-bridges", "--no-mlockall", "--db-file=/tmp/x.db", "restart"],
    ]
    assert switch.options == options


def test_one_daemon_can_be_left_alone(node: FakeNode) -> None:
    node.effect["start"] = lambda: node.run_daemon("ovsdb-server", 10)
    switch = Switch(node, model.Switch(name="hv1"), "netdev")
    switch.start(replace(switch.options, ovs_vswitchd=False))
    assert not switch.is_up
    node.effect["start"] = lambda: node.run_daemon("ovs-vswitchd", 20)
    switch.start(replace(switch.options, ovs_vswitchd=True, ovsdb_server=False))
    switch.check_alive()
    assert (switch.pid("ovsdb-server"), switch.pid()) == (10, 20)
    del node.files["/proc/20/stat"]
    switch.stop(Options(ovsdb_server=False))
    assert node.ran[-1][1:] == ("--no-ovsdb-server", "stop")
    switch.check_alive()
    assert switch.pid("ovsdb-server") == 10
    assert not switch.is_up


@pytest.mark.parametrize(
    ("monitor", "daemon", "said"),
    [
        (True, {"parent": 1, "session": 20}, "ovs-vswitchd runs without a monitor"),
        (False, {}, "ovs-vswitchd runs with a monitor"),
    ],
)
def test_a_monitor_is_there_when_it_was_asked_for(
    node: FakeNode, monitor: bool, daemon: dict[str, int], said: str
) -> None:
    node.effect["start"] = lambda: node.run_daemon("ovs-vswitchd", 20, **daemon)
    switch = Switch(node, model.Switch(name="hv1"), "netdev")
    with pytest.raises(DaemonError, match=said):
        switch.start(replace(switch.options, ovsdb_server=False, monitor=monitor))


def test_an_option_that_this_ovs_ctl_does_not_know_is_an_error(node: FakeNode) -> None:
    node.outcome["umask"] = (
        0,
        "",
        'ovs-ctl: unknown option "--ovsdb-server-umask=077" (use --help',
    )
    switch = switch_on(node)
    with pytest.raises(DaemonError, match="it did not know --ovsdb-server-umask=077\n"):
        switch.start(replace(switch.options, ovsdb_server_umask="077"))


RELOAD = "force-reload-kmod"
OWN, OTHER = "pid:[4026531836]\n", "pid:[4026532323]\n"


def reload_with(node: FakeNode, namespace: str, before: str, after: str) -> Switch:
    """A switch whose module has these inodes (empty: none is loaded) when it is reloaded."""
    switch = switch_on(node)

    def show(inode: str) -> None:
        node.outcome["stat"] = (0, inode, "") if inode else (1, "", "stat: cannot statx")

    show(before)
    node.outcome["readlink"] = (0, namespace, "")
    node.outcome[RELOAD] = (0, "Removing openvswitch module ... failed!\n", "")

    def carry_out() -> None:
        show(after)
        node.run_daemon("ovs-vswitchd", 21)

    node.effect[RELOAD] = carry_out
    return switch


def test_a_module_with_another_inode_was_reloaded(node: FakeNode) -> None:
    switch = reload_with(node, OWN, "100\n", "200\n")
    assert "Removing" in switch.force_reload_kmod().stdout
    assert switch.pid() == 21


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("100\n", "was not reloaded: the same one is still there"),
        ("", "was removed and not inserted again"),
    ],
)
def test_a_reload_that_did_not_reload_is_an_error(node: FakeNode, after: str, said: str) -> None:
    switch = reload_with(node, OWN, "100\n", after)
    with pytest.raises(ModuleError, match=said) as caught:
        switch.force_reload_kmod()
    assert "Removing openvswitch module ... failed!" in str(caught.value)
    # The daemons did restart.
    switch.check_alive()
    assert switch.pid() == 21


@pytest.mark.parametrize(
    ("namespace", "before", "said"),
    [
        (OTHER, "100\n", "hv1: the kernel is not this node's own"),
        (OWN, "", "hv1: the kernel module openvswitch is not loaded"),
    ],
)
def test_a_module_that_cannot_be_reloaded_is_left_alone(
    node: FakeNode, namespace: str, before: str, said: str
) -> None:
    switch = reload_with(node, namespace, before, "200\n")
    with pytest.raises(ModuleError, match=said):
        switch.force_reload_kmod()
    assert not any(RELOAD in argv for argv in node.ran)
    switch.check_alive()
    assert switch.pid() == 20


BRIDGE = model.Bridge(name="br0", ports=(model.HostPort(name="p"), model.HostPort(name="q")))
GOOD = [
    {"name": name, "error": ["set", []], "ofport": number}
    for name, number in (("br0", 65534), ("p", 1), ("q", 2))
]


def test_configure_asks_for_everything_at_once_and_waits_for_it(node: FakeNode) -> None:
    switch = switch_on(node, BRIDGE)
    node.rows = {"Bridge": [{"name": "br0", "datapath_id": "00"}], "Interface": GOOD}
    switch.configure()
    assert node.ran[1:] == []
    asked, waited = (list(params[1:]) for _, _, params in node.rpc)
    assert [operation["op"] for operation in asked[-3:]] == ["update", "mutate", "select"]
    assert asked[-2]["mutations"] == [["next_cfg", "+=", 1]]
    assert waited[0]["where"] == [["cur_cfg", ">=", 7]]
    assert waited[0]["timeout"] == 30_000


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"name": "q", "error": "could not open (No such device)\nsee log", "ofport": -1},
            "hv1: bridge br0, port q: could not open (No such device); see log",
        ),
        (
            {"name": "q", "error": ["set", []], "ofport": -1},
            "hv1: bridge br0, port q: q is bad",
        ),
        (
            {"name": "q", "error": ["set", []], "ofport": ["set", []]},
            "hv1: bridge br0, port q: q is bad",
        ),
        (
            {"name": "other", "error": ["set", []], "ofport": 5},
            "hv1: bridge br0, port q: q is bad",
        ),
    ],
)
def test_a_port_that_was_not_made_is_an_error_in_open_vswitchs_words(
    node: FakeNode, bad: dict[str, Any], message: str
) -> None:
    switch = switch_on(node, BRIDGE)
    node.rows = {"Bridge": [{"name": "br0", "datapath_id": "00"}], "Interface": [*GOOD[:2], bad]}
    node.files["/var/log/openvswitch/ovs-vswitchd.log"] = (
        "2026|1|bridge|WARN|q is bad\n2026|2|bridge|WARN|qq is worse\n2026|3|bridge|INFO|q seen\n"
    )
    with pytest.raises(PortError) as caught:
        switch.configure()
    assert str(caught.value) == message


def test_a_bridge_that_was_not_made_is_an_error(node: FakeNode) -> None:
    switch = switch_on(node, BRIDGE)
    node.rows = {"Bridge": [{"name": "br0", "datapath_id": ["set", []]}], "Interface": GOOD}
    with pytest.raises(PortError, match="hv1: bridge br0: Open vSwitch did not make it") as caught:
        switch.configure()
    assert caught.value.failures[0].interface is None


def test_a_refused_transaction_is_an_error_with_its_words(node: FakeNode) -> None:
    switch = switch_on(node, BRIDGE)
    node.refused["insert"] = ("unknown column", "No column x in table Port.")
    with pytest.raises(
        ConfigurationError, match="was refused: unknown column: No column x in table Port"
    ):
        switch.configure()


def test_a_vswitchd_that_does_not_answer_is_an_error_with_its_log(node: FakeNode) -> None:
    switch = switch_on(node, BRIDGE)
    node.refused["wait"] = ("timed out", '"where" clause test failed')
    node.files["/var/log/openvswitch/ovs-vswitchd.log"] = "the reason\n"
    with pytest.raises(
        ConfigurationError,
        match=r"did not carry out its configuration within 30 s(?s:.*)the reason",
    ):
        switch.configure()


def test_that_a_daemon_died_is_said_first(node: FakeNode) -> None:
    switch = switch_on(node, BRIDGE)
    node.refused["wait"] = ("timed out", '"where" clause test failed')
    del node.files["/proc/20/stat"]
    with pytest.raises(DaemonError, match="has died"):
        switch.configure()


SETTING_UP = "ovs-vsctl: Error detected while setting up 'q': could not open q (No such device).  "


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        ("", []),
        (
            SETTING_UP + "See ovs-vswitchd log for details.\novs-vsctl: The default log directory",
            [("q", "could not open q (No such device)")],
        ),
        (
            "ovs-vsctl: Error detected while setting up 'q'.  See ovs-vswitchd log for details.\n",
            [("q", "no reason given")],
        ),
    ],
)
def test_what_ovs_vsctl_says_of_ports(said: str, errors: list[tuple[str, str]]) -> None:
    assert errors_in(said) == errors


@pytest.mark.parametrize("status", [0, 65])
def test_vsctl_by_hand_fails_for_a_port_that_was_not_made(node: FakeNode, status: int) -> None:
    switch = switch_on(node)
    node.outcome["add-port"] = (status, "", SETTING_UP)
    with pytest.raises(PortError, match="hv1: port q: could not open q"):
        switch.vsctl("add-port", "br0", "q")


def test_commands_by_hand_have_a_bound(node: FakeNode) -> None:
    switch = switch_on(node)
    switch.vsctl("show")
    switch.ofctl("dump-flows", "br0", timeout=5)
    switch.appctl("fdb/show", "br0")
    switch.dpctl("dump-flows", "-m")
    assert node.ran[1:] == [
        ("ovs-vsctl", "--timeout=30", "show"),
        ("ovs-ofctl", "--timeout=5", "dump-flows", "br0"),
        ("ovs-appctl", "--timeout=30", "fdb/show", "br0"),
        ("ovs-appctl", "--timeout=30", "dpctl/dump-flows", "-m"),
    ]


def test_the_mac_table() -> None:
    text = (
        " port  VLAN  MAC                Age\n"
        "    1     0  02:00:00:00:00:01   12\n"
        "LOCAL   900  02:00:00:00:00:0a  static\n"
    )
    assert parse_fdb(text) == [
        Learned("1", 0, "02:00:00:00:00:01", 12),
        Learned("LOCAL", 900, "02:00:00:00:00:0a", None),
    ]


def steps(
    name: str, count: int, order: list[str], error: Exception | None = None
) -> Generator[Sequence[Pending], list[Any], str]:
    """Work of ``count`` steps that notes when each is waited for."""
    for number in range(count):
        answers = yield [Answer(partial(order.append, f"{name}{number}"))]
        assert answers == [None]
    if error is not None:
        raise error
    return name


def test_tasks_are_moved_on_in_turn() -> None:
    order: list[str] = []
    tasks = [Task(steps("a", 3, order)), Task(steps("b", 1, order)), Task(steps("c", 2, order))]
    assert gather(tasks) == ["a", "b", "c"]
    assert order == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_all_tasks_are_taken_to_their_end_before_an_error_is_raised() -> None:
    order: list[str] = []
    tasks = [
        Task(steps("a", 1, order, OvsError("first"))),
        Task(steps("b", 3, order)),
        Task(steps("c", 2, order, NodeError("second"))),
    ]
    with pytest.raises(OvsError, match="first"):
        gather(tasks)
    assert order == ["a0", "b0", "c0", "b1", "c1", "b2"]
    assert tasks[1].result() == "b"


def test_an_answer_that_fails_is_the_works_own_error() -> None:
    def lost() -> None:
        raise NodeLost("hv1: the node has ended")

    def work() -> Generator[Sequence[Pending], list[Any], str]:
        try:
            yield [Answer(lost)]
        except NodeLost:
            yield [Answer(time.monotonic)]
        return "recovered"

    assert Task(work()).result() == "recovered"
