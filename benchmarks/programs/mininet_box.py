"""Inside fresh namespaces: Open vSwitch's own start, then one run of Mininet.

Run under unshare(1) as the first process of its PID namespace, as ``mininet_box.py HOSTS PAIRS``,
by the Python that has Mininet. Standard library only. What both write lands in throw-away layers,
and everything ends with this process. Prints a JSON object of times on the monotonic clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

OVS_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
# As Debian's own services start it.
START = (OVS_CTL, "--no-monitor", "--system-id=random", "--no-record-hostname", "start")
WRITTEN = ("/run", "/tmp", "/etc/openvswitch", "/var/lib/openvswitch", "/var/log/openvswitch")


def run(*argv: str) -> str:
    """Run a command; raise RuntimeError with what it printed when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} exited {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def close_off() -> None:
    """Cover what would be written, and make the machine's settings read-only (Mininet raises
    some)."""
    for place in WRITTEN:
        if Path(place).is_dir():
            run("mount", "-t", "tmpfs", "throw-away", place)
    Path("/run/openvswitch").mkdir()
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,bind,ro", "/proc/sys")
    run("ip", "link", "set", "lo", "up")


def main(hosts: str, pairs: str, program: str) -> None:
    """Start Open vSwitch, then Mininet, noting when."""
    close_off()
    marks: dict[str, object] = {"began": time.monotonic()}
    run(*START)
    marks["switch_runs"] = time.monotonic()
    # Its last line: Mininet prints its findings as it goes.
    printed = run(sys.executable, "-c", program, hosts, pairs)
    marks |= json.loads(printed.splitlines()[-1])
    print(json.dumps(marks))


if __name__ == "__main__":
    # Its text, read before anything is covered: the checkout may lie under /tmp.
    text = Path(__file__).with_name("mininet_run.py").read_text(encoding="utf-8")
    main(sys.argv[1], sys.argv[2], text)
