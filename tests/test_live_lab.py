"""A lab that stays up, worked in from outside: real switches, the real command line."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path

import pytest

from harness.cli import main
from harness.lab.environment import Environment
from harness.live import client, messages, places
from harness.live.errors import LiveError
from harness.nodes import processes
from harness.polling import eventually
from harness.traffic import pcapng

TOPOLOGY = """
name: two
underlays: [{name: wire}]
switches:
- name: s1
  bridges:
  - name: br0
    ports:
    - {kind: host, name: a, vlan: {tag: 900}, addresses: [10.0.0.1/24]}
    - {kind: host, name: lonely, vlan: {tag: 901}}
    - {kind: uplink, name: eth1, underlay: wire}
- name: s2
  bridges:
  - name: br0
    ports:
    - {kind: host, name: b, vlan: {tag: 900}, addresses: [10.0.0.2/24]}
    - {kind: uplink, name: eth1, underlay: wire}
"""
SMALL = """
name: small
switches:
- name: s1
  bridges:
  - name: br0
    ports: [{kind: host, name: a}]
"""
BOUND = 30.0
_numbers = count(1)
TOOL = [sys.executable, "-P", "-m", "harness.cli"]


class Ran(subprocess.CompletedProcess[str]):
    """A command line that has ended."""


def tool(*words: str, stdin: str = "") -> Ran:
    """Run the command line: in a process of its own what becomes or starts another one, and the
    rest here, which is ten times faster."""
    if words[0] in ("up", "shell"):
        done = subprocess.run(
            [*TOOL, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        return Ran(words, done.returncode, done.stdout, done.stderr)
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as ended:
            status = int(ended.code or 0)
    said = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Ran(words, status, *said)


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command line in the background."""
    with subprocess.Popen(
        [*TOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module", autouse=True)
def runtime(ready: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runtime directory of the tests' own; whatever they leave up ends with them."""
    del ready
    path = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(path))
        yield path / "ovs-harness"
        for name in places.names():
            tool("down", name)


def build(path: Path, text: str, *words: str) -> Ran:
    file = path / "topology.yaml"
    file.write_text(text)
    return tool("up", str(file), *words)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The lab of the module, and what the command that started it printed."""
    done = build(tmp_path_factory.mktemp("topology"), TOPOLOGY)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def own(up: Ran, tmp_path: Path) -> Iterator[str]:
    """A second, small lab that a test may end as it likes."""
    del up
    name = f"own-{next(_numbers)}"
    done = build(tmp_path, SMALL, "--name", name)
    assert done.returncode == 0, done.stderr
    yield name
    tool("down", name)


def keeper(name: str) -> int:
    return client.ask(name, messages.Look(), messages.Info).pid


def below(pid: int) -> set[int]:
    """The processes that descend from one."""
    found = processes.look()
    family = {pid}
    while more := {one for one, process in found.items() if process.parent in family} - family:
        family |= more
    return family - {pid}


def nothing_is_left(pids: set[int], name: str, runtime: Path) -> None:
    eventually(
        lambda: {pid for pid in pids if Path(f"/proc/{pid}").exists()},
        lambda left: not left,
        within=BOUND,
        what="the end of the keeper and of everything it had started",
    )
    assert name not in places.names()
    assert not (runtime / f"{name}.sock").exists()


# -- up and labs


def test_up_says_what_is_there_once_it_is(up: Ran) -> None:
    assert up.stdout.startswith("lab two is up (trixie/namespace/netdev, Open vSwitch ")
    assert "  switch s1: br0\n" in up.stdout
    assert re.search(r"  host a: 02:00:\S+ 10\.0\.0\.1/24 on s1 br0\n", up.stdout)
    assert "  underlay wire\n" in up.stdout


@pytest.mark.usefixtures("up")
def test_labs_lists_it() -> None:
    said = tool("labs").stdout
    assert re.search(rf"two +trixie/namespace/netdev +2 +3 +{keeper('two')} ", said)


@pytest.mark.usefixtures("up")
def test_the_keeper_is_a_session_of_its_own(runtime: Path) -> None:
    pid = keeper("two")
    assert os.getsid(pid) == pid
    for descriptor in (1, 2):
        assert Path(f"/proc/{pid}/fd/{descriptor}").readlink() == runtime / "two.log"


@pytest.mark.usefixtures("up")
def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, SMALL, "--name", "two")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ovs-harness: a lab called two is up already" in done.stderr


def test_two_labs_are_up_and_have_to_be_named(own: str) -> None:
    assert places.names() == sorted(["two", own])
    done = tool("exec", "s1", "--", "true")
    assert done.returncode == 1
    assert "more than one lab is up" in done.stderr
    assert tool("exec", "--lab", own, "a", "--", "ip", "-br", "link").returncode == 0
    assert tool("exec", "--lab", own, "lonely", "--", "true").returncode == 1


BROKEN = SMALL.replace("name: br0", 'name: br0\n    flows: "in_port=nonsense,actions=drop"')


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("name: [", [], "topology.yaml:"),
        (SMALL.replace("br0", "br 0"), [], "name 'br 0'"),
        (SMALL, ["--target", "x"], "target 'x' is not of the form IMAGE/BACKEND/DATAPATH"),
        (SMALL, ["--target", "none/namespace/netdev"], "there is no image 'none'"),
        (SMALL, ["--name", "../x"], "a lab cannot be called so"),
        (BROKEN, [], "nonsense"),
    ],
)
def test_a_lab_that_cannot_be_built_is_one_error_and_leaves_nothing(
    text: str, words: list[str], said: str, tmp_path: Path, runtime: Path
) -> None:
    before = sorted(runtime.iterdir())
    done = build(tmp_path, text, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(runtime.iterdir()) == before


# -- exec and shell


@pytest.mark.usefixtures("up")
def test_exec_prints_and_exits_as_the_command_does() -> None:
    done = tool("exec", "s1", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.usefixtures("up")
def test_exec_gives_arguments_on_as_they_are() -> None:
    words = ["--", "-x", "$(id)", "a b", "*", "\n", "", "ü"]
    done = tool("exec", "s1", "--", "printf", "%s|", *words)
    assert done.stdout == "|".join(words) + "|"


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(("place", "interface"), [("a", "eth0"), ("s1", "eth1")])
def test_exec_is_in_the_network_of_the_host_or_switch(place: str, interface: str) -> None:
    lines = tool("exec", place, "--", "ip", "-json", "link").stdout
    assert interface in {link["ifname"] for link in json.loads(lines)}


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["s1", "--", "sh", "-c", "kill -TERM $$"], 143, ""),
        (["s1", "--", "no-such-program"], 1, "s1: cannot run `no-such-program`: "),
        (["nobody", "--", "true"], 1, "no switch or host is called 'nobody'; there are: s1, s2; "),
        (["s1"], 1, "no command is given"),
        (["--lab", "none", "s1", "--", "true"], 1, "no lab is called 'none': there is two"),
        (["s1", "--", "a\udcff"], 1, "an argument is not UTF-8 text"),
    ],
)
def test_exec_that_cannot(words: list[str], status: int, said: str) -> None:
    done = tool("exec", *words)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("up")
def test_exec_of_much_output() -> None:
    done = tool("exec", "s1", "--", "seq", "300000")
    assert done.stdout.splitlines() == [str(number) for number in range(1, 300001)]


def running(pattern: str) -> bool:
    return tool("exec", "s2", "--", "pgrep", "-xf", pattern).returncode == 0


@pytest.mark.usefixtures("up")
def test_exec_prints_as_it_comes_and_ends_with_its_client() -> None:
    with started("exec", "s2", "--", "sh", "-c", "echo first; exec sleep 86399") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert running("sleep 86399")
    eventually(
        lambda: running("sleep 86399"), lambda there: not there, within=BOUND, what="its end"
    )


@pytest.mark.usefixtures("up")
def test_shell_runs_in_the_switch_or_the_host() -> None:
    script = "hostname; id -u; ls /etc/openvswitch; ip -br address show eth0; exit 7"
    done = tool("shell", "a", stdin=script)
    assert done.stdout.split()[:2] == ["s1", "0"]
    assert "conf.db" in done.stdout
    assert "10.0.0.1/24" in done.stdout
    assert done.returncode == 7
    assert "eth1" in tool("shell", "s2", stdin="ip -br link").stdout


@pytest.mark.usefixtures("up")
def test_shell_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of this machine")
    monkeypatch.setenv("TERM", "vt100")
    said = tool("shell", "a", stdin="env").stdout.splitlines()
    assert {"HOME=/root", "TERM=vt100", "PLACE=a@s1"} <= set(said)
    assert not [line for line in said if "SECRET" in line]


@pytest.mark.usefixtures("up")
def test_shell_shows_where_it_is() -> None:
    ours, theirs = os.openpty()
    command = [*TOOL, "shell", "a"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        said = b""
        while b"a@s1:/# " not in said:
            said += os.read(ours, 4096)
        os.write(ours, b"exit 5\n")
        assert shell.wait(BOUND) == 5
    os.close(ours)


# -- probe


@pytest.mark.usefixtures("up")
def test_probe_says_where_it_was_heard() -> None:
    done = tool("probe", "a", "b")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"a -> b: heard at b after \d+\.\d{3} ms", first)
    assert second == "  crossed wire at s1:eth1: vlan 900"


@pytest.mark.usefixtures("up")
def test_probe_exits_1_when_the_host_did_not_hear_it() -> None:
    done = tool("probe", "lonely", "b")
    assert done.returncode == 1
    assert "b did not hear it" in done.stdout


@pytest.mark.usefixtures("up")
def test_probe_all_is_a_table() -> None:
    lines = [line.split() for line in tool("probe", "--all").stdout.splitlines()]
    assert ["a", "b", "b"] in lines
    assert ["b", "a", "a"] in lines
    assert ["lonely", "nobody", "nobody"] in lines


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("words", "status"), [([], 2), (["a"], 2), (["a", "b", "--all"], 2), (["a", "nobody"], 1)]
)
def test_probe_that_cannot(words: list[str], status: int) -> None:
    done = tool("probe", *words)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_probe_after_a_switch_was_restarted_and_after_it_was_stopped_by_hand(own: str) -> None:
    control = "/usr/share/openvswitch/scripts/ovs-ctl"
    done = tool("exec", "--lab", own, "s1", "--", control, "restart", "--system-id=s1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tool("probe", "--lab", own, "--all").returncode == 0
    assert tool("state", "--lab", own, "s1").returncode == 0
    tool("exec", "--lab", own, "s1", "--", control, "stop")
    done = tool("probe", "--lab", own, "--all")
    assert done.returncode == 1
    assert "ovs-harness: s1: ovs" in done.stderr
    assert "has died\nthe end of /var/log/openvswitch/ovs" in done.stderr


# -- capture


@pytest.mark.usefixtures("up")
def test_capture_flows_while_other_commands_run() -> None:
    with client.Connection("two") as connection:
        connection.patience(BOUND)
        answers = connection.answers(messages.Capture(["wire", "b"]))
        first = next(answers)
        assert isinstance(first, messages.Places)
        assert sorted(first.places, key=str) == sorted(
            [("b", None), ("wire", "s1:eth1"), ("wire", "s2:eth1")], key=str
        )
        with started("exec", "a", "--", "ping", "-i", "0.2", "10.0.0.2"):
            assert tool("probe", "lonely", "b").returncode == 1
            seen: set[tuple[str, str | None]] = set()
            while len(seen) < 3:
                answer = next(answers)
                assert isinstance(answer, messages.Frames)
                seen.add(first.places[answer.place])


@pytest.mark.usefixtures("up")
def test_capture_shows_a_line_a_frame_and_ends_after_so_many() -> None:
    with started("exec", "a", "--", "ping", "-i", "0.2", "10.0.0.2"):
        done = tool("capture", "b", "-c", "2")
    assert done.returncode == 0
    assert done.stderr == "2 frames\n"
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"\d\d:\d\d:\d\d\.\d{9} b in  untagged, \d+ bytes: 02:00:", line)


@pytest.mark.usefixtures("up")
def test_capture_to_a_file_is_there_as_frames_come(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with started("capture", "wire", "-w", str(path)) as process:
        size = eventually(
            lambda: path.stat().st_size if path.exists() else 0, within=BOUND, what="a header"
        )
        assert tool("probe", "a", "b").returncode == 0
        eventually(
            lambda: path.stat().st_size, lambda now: now > size, within=BOUND, what="a frame"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 0
    with path.open("rb") as file:
        interfaces, packets = pcapng.read(file)
    assert {one.name for one in interfaces} == {"wire at s1:eth1", "wire at s2:eth1"}
    tags = {one.data[12:16].hex() for one in packets}
    assert tags == {"81000384"}


@pytest.mark.usefixtures("up")
def test_capture_of_nothing_there_is() -> None:
    done = tool("capture", "nothing")
    assert done.returncode == 1
    assert "no attachment point is called 'nothing'; there are: a, b, lonely, wire" in done.stderr


# -- state


@pytest.mark.usefixtures("up")
def test_state_is_saved_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert tool("state", "s1", "--save", str(path)).returncode == 0
    assert json.loads(tool("state", "s1").stdout) == json.loads(path.read_text())
    same = tool("state", "s1", "--diff", str(path))
    assert (same.returncode, same.stdout) == (0, "")
    tool("exec", "s1", "--", "ovs-ofctl", "add-flow", "br0", "priority=7,actions=drop")
    other = tool("state", "s1", "--diff", str(path))
    assert other.returncode == 1
    assert "bridge br0: flow new:" in other.stdout
    tool("exec", "s1", "--", "ovs-ofctl", "--strict", "del-flows", "br0", "priority=7")


@pytest.mark.usefixtures("up")
def test_state_of_no_switch() -> None:
    done = tool("state", "nothing")
    assert done.returncode == 1
    assert "no switch is called 'nothing'" in done.stderr


# -- whatever comes over the socket


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\0\xff\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 200_000 + b"\n",
        b'{"ask": "exec", "place": "s1", "argv": []}\n',
        b'{"ask": "exec", "place": "s1", "argv": ["a\\u0000b"]}\n',
        b'{"ask": "look"}\n{"ask": "look"}\n',
        b'{"ask": "look"',
        b"x" * (3 << 20),
    ],
    ids=range(10),
)
def test_hostile_input_ends_one_connection_and_not_the_lab(data: bytes) -> None:
    pid = keeper("two")
    with places.connect("two") as stream:
        stream.settimeout(BOUND)
        try:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(1 << 16):
                pass
        except ConnectionError:
            pass
    assert keeper("two") == pid
    assert tool("exec", "s1", "--", "echo", "alive").stdout == "alive\n"


@pytest.mark.usefixtures("up")
def test_many_connections_at_once_do_not_shut_others_out_for_good() -> None:
    with ExitStack() as later:
        for _ in range(200):
            stream = later.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            stream.setblocking(False)
            stream.connect_ex(str(places.socket_path("two")))
    eventually(lambda: answers("two"), within=BOUND, what="an answer of the keeper")


def answers(name: str) -> bool:
    try:
        return keeper(name) > 0
    except LiveError:
        return False


# -- the end


def test_down_returns_when_nothing_is_left(own: str, runtime: Path) -> None:
    pid = keeper(own)
    family = below(pid) | {pid}
    assert len(family) > 4
    with started("exec", "--lab", own, "s1", "--", "sleep", "86398") as process:
        eventually(
            lambda: tool("exec", "--lab", own, "s1", "--", "pgrep", "-xf", "sleep 86398").stdout,
            within=BOUND,
            what="the command",
        )
        done = tool("down", own)
        assert (done.returncode, done.stdout) == (0, f"lab {own} has ended\n")
        assert not {one for one in family - {pid} if Path(f"/proc/{one}").exists()}
        assert process.wait(BOUND) == 1
        assert process.stderr is not None
        assert process.stderr.read().decode() == f"ovs-harness: the lab {own} has ended\n"
    assert not list(runtime.glob(f"{own}.*"))
    nothing_is_left(family, own, runtime)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_keeper_that_is_killed(
    own: str, runtime: Path, number: signal.Signals, tmp_path: Path
) -> None:
    pid = keeper(own)
    family = below(pid) | {pid}
    os.kill(pid, number)
    eventually(lambda: own in places.names(), lambda there: not there, within=BOUND, what="its end")
    nothing_is_left(family, own, runtime)
    assert build(tmp_path, SMALL, "--name", own).returncode == 0


def test_a_keeper_whose_nodes_have_all_ended_ends_too(own: str, runtime: Path) -> None:
    pid = keeper(own)
    family = below(pid) | {pid}
    found = processes.look()
    (agent,) = (one for one in below(pid) if len(found[one].ids) > 2 and found[one].ids[-1] == 1)
    os.kill(agent, signal.SIGKILL)
    nothing_is_left(family, own, runtime)
    done = tool("exec", "--lab", own, "s1", "--", "true")
    assert f"the last one of that name broke off, see {runtime}/{own}.log" in done.stderr
    assert (runtime / f"{own}.log").read_text() == "every node of the lab has ended\n"


@pytest.mark.usefixtures("up")
def test_a_lab_given_up_while_it_starts_leaves_nothing(tmp_path: Path, runtime: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(SMALL.replace("name: small", "name: given-up"))
    with started("up", str(file)) as process:
        pid = eventually(lambda: process_of("given-up"), within=BOUND, what="its keeper")
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 130
    nothing_is_left({pid}, "given-up", runtime)


def process_of(name: str) -> int:
    """The keeper of a lab that may not answer yet, or 0."""
    for pid in processes.look():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.live.keeper" in words and name.encode() in words:
            return pid
    return 0
