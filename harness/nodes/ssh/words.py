"""Why ssh did not lead to an agent, or no longer does, and the way out."""

from __future__ import annotations

import re

NO_PROGRAM = 127
"""The shell's exit status for a program that there is not (sh(1p))."""

_KNOWN: list[tuple[str, str]] = [
    (
        r"Could not resolve hostname",
        "{said}: is the name right? Any that `ssh` knows will do, also from ~/.ssh/config",
    ),
    (
        r"Connection refused",
        "{said}: no ssh server answers there; `sudo apt-get install openssh-server` on the machine",
    ),
    (
        r"timed out|No route to host|Network is unreachable",
        "{said}: is the machine up, and is there a firewall in between?",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known: if it may be another, `ssh-keygen -R {name}`",
    ),
    (
        r"Host key verification failed|host key is known",
        "its host key is not known here: log in once by hand to accept it, `ssh {login}`",
    ),
    (
        r"Permission denied \(|Too many authentication failures",
        "{said}: it has to let you in without a question: `ssh-copy-id {login}`, or a key in "
        "ssh-agent",
    ),
    (
        r"python3: (command )?not found|python3.*No such file|Unknown command.*python3",
        "it has no python3 (3.9 or later), which the agent needs: `sudo apt-get install python3` "
        "there",
    ),
    (
        r"no namespaces: |uid_map|mount \w+ on .*(not permitted|denied)",
        "this user may make no sandbox there ({said}): log in as root, or have the machine allow "
        "user namespaces (sysctl kernel.unprivileged_userns_clone=1, and "
        "kernel.apparmor_restrict_unprivileged_userns=0 where it is known)",
    ),
]


def explained(machine: str, said: str, status: int) -> str:
    """One line: what the ssh to a machine said at last, having ended with this status, and what to
    do about it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    name = machine.rpartition("@")[2]
    for pattern, words in _KNOWN:
        line = next((line for line in reversed(lines) if re.search(pattern, line)), None)
        if line is not None:
            return f"{machine}: " + words.format(said=line, name=name, login=_login(machine))
    if status == NO_PROGRAM:
        return f"{machine}: there is no python3 (3.9 or later), which the agent needs"
    last = lines[-1] if lines else f"the ssh to it ended with status {status}"
    return f"{machine}: {last}"


def _login(machine: str) -> str:
    """What a user writes after ``ssh``."""
    return f"ssh://{machine}" if ":" in machine else machine
