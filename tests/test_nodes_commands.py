"""Commands in a real node: what they print, how they end, and what happens when they do not."""

from __future__ import annotations

import time

import pytest

from harness.nodes.base import CommandFailed, NodeError, NodeLost
from harness.nodes.namespace import NamespaceNode
from harness.polling import eventually


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_output_error_output_and_status(node: NamespaceNode) -> None:
    done = node.run(sh("echo out; echo err >&2; exit 3"), check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.node == "n1"
    assert done.argv[0] == "sh"
    assert done.duration > 0
    assert list(node.commands) == [done]


def test_a_failure_names_node_command_and_what_it_said(node: NamespaceNode) -> None:
    with pytest.raises(CommandFailed, match=r"^n1: `ls /nowhere` exited 2: .*No such file") as info:
        node.run(["ls", "/nowhere"])
    assert info.value.done.status == 2


def test_a_failure_that_printed_nothing_says_so(node: NamespaceNode) -> None:
    with pytest.raises(CommandFailed, match=r"n1: `false` exited 1: \(it printed nothing\)"):
        node.run(["false"])


def test_death_by_a_signal_is_a_negative_status(node: NamespaceNode) -> None:
    assert node.run(sh("kill -TERM $$"), check=False).status == -15


def test_arguments_are_not_read_by_a_shell(node: NamespaceNode) -> None:
    words = ["$(id)", "a b", "'", '"', "`x`", "*", "\n", "ü", ""]
    assert node.run(["printf", "%s|", *words]).stdout == "|".join(words) + "|"


def test_environment(node: NamespaceNode) -> None:
    assert node.run(sh('echo "$A-$HOME"'), env={"A": "b c"}).stdout == "b c-/root\n"


def test_hostname_and_own_processes(node: NamespaceNode) -> None:
    assert node.run(["hostname"]).stdout == "n1\n"
    pids = node.run(sh("echo /proc/[0-9]*")).stdout.split()
    assert len(pids) == 2


@pytest.mark.parametrize("size", [0, 1, (64 << 10) - 1, (64 << 10) + 1, 5 << 20])
def test_stdin_of_any_size(node: NamespaceNode, size: int) -> None:
    assert node.run(["wc", "-c"], stdin=b"x" * size).stdout == f"{size}\n"


def test_stdin_as_text(node: NamespaceNode) -> None:
    assert node.run(["cat"], stdin="grüße\n").stdout == "grüße\n"


def test_output_that_is_no_text(node: NamespaceNode) -> None:
    assert node.run(["printf", r"\377\000a"]).stdout == "�\0a"


def test_five_megabytes_of_output_on_both_streams(node: NamespaceNode) -> None:
    done = node.run(sh("yes out | head -c 5000000; yes err | head -c 5000000 >&2"))
    assert (len(done.stdout), len(done.stderr)) == (5_000_000, 5_000_000)
    assert done.stdout.startswith("out\nout\n")
    assert done.stderr.startswith("err\nerr\n")


def test_of_too_much_output_the_end_is_kept_and_the_loss_is_told(node: NamespaceNode) -> None:
    done = node.run(sh("echo first; yes x | head -c 40000000; echo last"))
    assert len(done.stdout) < 17 << 20
    assert done.stdout.endswith("last\n")
    assert "first" not in done.stdout
    assert "bytes left out" in done.stdout[:200]


def test_a_command_that_never_stops_printing_does_not_fill_the_memory(node: NamespaceNode) -> None:
    with pytest.raises(
        NodeError, match=r"n1: `yes`.* printed more than is kept in memory and was killed"
    ):
        node.run(["yes"], timeout=60)
    assert node.run(["echo", "alive"]).stdout == "alive\n"


def test_a_timeout_kills_the_whole_process_group(node: NamespaceNode) -> None:
    began = time.monotonic()
    with pytest.raises(NodeLost) as info:
        node.run(sh("echo printed; echo said >&2; sleep 600 & sleep 601"), timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 30
    said = str(info.value)
    assert said.startswith("n1: `sh -c ")
    assert "did not end within 0.3 s and was killed" in said
    assert "it had printed: said\nprinted" in said

    def sleeping() -> str:
        return node.run(sh("cat /proc/[0-9]*/comm | grep -x sleep || true")).stdout

    eventually(sleeping, lambda out: out == "", within=60, what="both sleeps are gone")
    assert node.commands[0].status == -9


def test_a_timeout_of_a_command_that_ignores_everything(node: NamespaceNode) -> None:
    with pytest.raises(NodeLost, match=r"it had printed: nothing$"):
        node.run(sh("trap '' TERM INT HUP; sleep 600"), timeout=0.2)


def test_a_missing_program_is_named(node: NamespaceNode) -> None:
    with pytest.raises(
        NodeError, match=r"^n1: cannot run `no-such-thing x`: no-such-thing: No such"
    ):
        node.run(["no-such-thing", "x"])


def test_a_program_that_may_not_be_run_is_named(node: NamespaceNode) -> None:
    node.write_file("/tmp/x", "text", mode=0o644)
    with pytest.raises(NodeError, match=r"cannot run `/tmp/x`: /tmp/x: Permission denied"):
        node.run(["/tmp/x"])


def test_a_nul_or_nothing_at_all_is_refused_before_it_is_sent(node: NamespaceNode) -> None:
    with pytest.raises(ValueError, match="NUL"):
        node.run(["echo", "a\0b"])
    with pytest.raises(ValueError, match="at least a name"):
        node.run([])
    assert not node.commands


@pytest.mark.parametrize("env", [{"A": "x\0y"}, {"A=B": "x"}, {"A\0": "x"}])
def test_an_impossible_environment_is_one_clear_error(
    node: NamespaceNode, env: dict[str, str]
) -> None:
    with pytest.raises(NodeError) as info:
        node.run(["true"], env=env)
    assert "Traceback" not in str(info.value)
    assert node.run(["true"]).status == 0


def test_200_at_once(node: NamespaceNode) -> None:
    began = time.monotonic()
    waiting = [node.run_soon(sh(f"sleep 0.5; echo {n}; exit {n % 7}")) for n in range(200)]
    results = [pending.result() for pending in waiting]
    assert [done.stdout for done in results] == [f"{n}\n" for n in range(200)]
    assert [done.status for done in results] == [n % 7 for n in range(200)]
    assert len(node.commands) == 200
    # One after the other they would take 100 s.
    assert time.monotonic() - began < 30


def test_no_descriptor_is_left_behind(node: NamespaceNode) -> None:
    def descriptors() -> int:
        return len(node.run(["ls", "/proc/1/fd"]).stdout.split())

    before = descriptors()
    for _ in range(20):
        node.run(["true"])
        with pytest.raises(NodeError):
            node.run(["no-such-thing"])
        with pytest.raises(NodeError):
            node.run(["true"], env={"A": "\0"})
    assert descriptors() == before


def test_no_zombie_is_left_behind(node: NamespaceNode) -> None:
    # The orphan becomes a child of the agent, the first process of its PID namespace.
    node.run(sh("(sleep 0.05 &) ; exit 0"))

    def states() -> list[str]:
        script = "grep -h ^State /proc/[0-9]*/status"
        return node.run(sh(script), check=False).stdout.splitlines()

    eventually(states, lambda seen: len(seen) == 3, within=60, what="the orphan is reaped")
    assert not any("zombie" in state for state in states())


def test_commands_in_a_host(node: NamespaceNode) -> None:
    node.add_spaces(["a"]).result()
    inside = node.run(["ls", "/sys/class/net"], host="a")
    assert inside.host == "a"
    assert node.run(["ip", "-br", "link"], host="a").stdout.split()[:2] == ["lo", "UNKNOWN"]
    with pytest.raises(NodeError, match=r"n1: cannot run `true`: no network namespace 'b'"):
        node.run(["true"], host="b")


def test_the_commands_are_seen_by_nobody_outside(node: NamespaceNode) -> None:
    node.write_file("/etc/only-here", "x")
    node.run(["touch", "/usr/only-here"])
    assert node.read_file("/etc/only-here") == b"x"
    import pathlib

    assert not pathlib.Path("/etc/only-here").exists()
    assert not pathlib.Path("/usr/only-here").exists()
