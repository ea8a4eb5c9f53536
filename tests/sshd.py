"""Machines that a real ssh leads to: sandboxes with a real sshd in front of them, which listens
nowhere. ssh starts it for each connection (``ProxyCommand``), and speaks to its standard input.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from harness.lab.environment import Environment
from harness.nodes.namespace import Fabric, NamespaceNode
from harness.nodes.processes import Process, find_node, look
from harness.polling import eventually

SSHD = "/usr/sbin/sshd"
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""A directory that sshd wants to be there."""
INTERFACE = "eth0"
CLIENT = """\
Host nobody
    HostName 127.0.0.1
    Port 1
Host nowhere
    HostName nowhere.invalid
Host *
    IdentityFile {place}/key
    IdentitiesOnly yes
    UserKnownHostsFile {place}/known
    GlobalKnownHostsFile none
Host hv*
    ProxyCommand {sshd} -i -f {place}/%n.conf
"""
SERVER = """\
HostKey {place}/host
AuthorizedKeysFile {place}/key.pub
StrictModes no
UsePAM no
LogLevel QUIET
PidFile none
ForceCommand {place}/{name}.sh
"""
INSIDE = """\
#!/bin/sh
# What sshd runs in place of the command that it was asked for: that, on the machine.
exec nsenter -t {pid} -m -u -i -n -p -r -w {within} /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
WRAPPER = """\
#!/bin/sh
exec {ssh} -F {place}/config "$@"
"""
GONE = 20.0
"""Seconds for kernels to take everything down, on a busy machine."""
STATE = """\
for process in /proc/[0-9]*; do read -r name <"$process/comm" && echo "$name"; done
ip -o link | cut -d: -f2
tail -n +2 /proc/net/udp
cat /proc/mounts
ls -A /tmp /run /root /var/tmp /var/log/openvswitch
"""


class Machines:
    """Machines called ``hv1`` and the like, at one network, and an ``ssh`` that finds them."""

    def __init__(self, names: Iterable[str], ready: Environment, place: Path) -> None:
        self.place = place
        self.bin = place / "bin"
        """To be put first in ``PATH``."""
        self._all = ExitStack()
        self._fabric = Fabric()
        self._all.callback(self._fabric.close)
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        for name in ("key", "host"):
            file = str(place / name)
            line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]
            subprocess.run(line, check=True)
        self.nodes: dict[str, NamespaceNode] = {}
        """The machines themselves."""
        for name in names:
            self.nodes[name] = self._fabric.start_node(name, ready.image.lower)
            self._all.callback(self.nodes[name].close)
            self.answer(name, name)
        (place / "config").write_text(CLIENT.format(place=place, sshd=SSHD))
        self._write("bin/ssh", WRAPPER.format(place=place, ssh=shutil.which("ssh")))
        self._connect()
        self._untouched = self._state()

    def answer(self, called: str, machine: str, within: str = "") -> None:
        """Have ssh find a machine, by whatever name. What it asks for is run ``within`` a command
        there, which is how such a machine is another than it is."""
        pid = find_node(self._fabric.process.pid, self.nodes[machine].pid)
        (self.place / f"{called}.conf").write_text(SERVER.format(place=self.place, name=called))
        self._write(f"{called}.sh", INSIDE.format(pid=pid, within=within))
        with (self.place / "known").open("a") as known:
            known.write(f"{called} {(self.place / 'host.pub').read_text()}")

    def _write(self, name: str, text: str) -> None:
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def _connect(self) -> None:
        """Join all machines by a segment, and give them addresses."""
        changes = [{"do": "bridge", "name": "lan", "mtu": 1500}]
        for number, node in enumerate(self.nodes.values(), 1):
            pair = {"do": "veth", "name": f"lan{number}", "peer": INTERFACE, "mtu": 1500}
            changes.append(pair | {"peer_space": node.space})
            changes.append({"do": "set", "name": f"lan{number}", "master": "lan", "up": True})
        for change in changes:
            self._fabric.node.change_links([change]).result()
        for number, node in enumerate(self.nodes.values(), 1):
            node.change_links([{"do": "set", "name": INTERFACE, "up": True}]).result()
            node.add_addresses([(INTERFACE, f"192.0.2.{number}/24")]).result()

    def _state(self) -> Counter[str]:
        """All that nodes could leave behind on a machine: processes, interfaces, sockets, mounts
        and files."""
        return Counter(
            f"{name}: {line}"
            for name, node in self.nodes.items()
            for line in node.run(["sh", "-c", STATE]).stdout.splitlines()
        )

    def left(self) -> list[str]:
        """What is on machines now and was not at first."""
        return list((self._state() - self._untouched).elements())

    def be_untouched(self) -> None:
        """Wait until nothing is left on any machine: network namespaces end a little later than
        processes."""
        eventually(self.left, lambda left: not left, within=GONE, what="nothing is left")

    def close(self) -> None:
        self._all.close()


def below(pid: int, called: str = "") -> list[int]:
    """The processes that a process has started, and those that they have; those of a name."""
    seen = look()
    return [
        one for one in seen if _descends(one, pid, seen) and called in _name(one) and one != pid
    ]


def _descends(pid: int, root: int, seen: Mapping[int, Process]) -> bool:
    while pid in seen and pid != root:
        pid = seen[pid].parent
    return pid == root


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def after(before: str) -> str:
    """A command (:meth:`Machines.answer`) in which a shell script runs before what is asked for, in
    a mount namespace that no other connection sees."""
    script = f'{before}; exec "$@"'
    return f"unshare -m --propagation private /bin/sh -c {shlex.quote(script)} -"


def missing() -> str:
    """Why there can be no such machines here; empty when there can."""
    return "" if Path(SSHD).exists() else "no sshd: `sudo apt-get install openssh-server`"
