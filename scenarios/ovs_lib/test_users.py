"""install_dir, run_as_ovsuser, pid_exists: who owns what, and what others than root may do.

Source: ovs-lib; ovs-ctl(8), ``--ovs-user``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.ovs.switch import Switch
    from scenarios.ovs_lib.conftest import Library

pytestmark = pytest.mark.requires("users")

NO_PROCESS = "4194305"
"""Above the highest number that a process may have (proc(5), ``pid_max``)."""


@pytest.fixture(scope="module")
def accounts(shared: Switch) -> None:
    """A user ``ovs`` in the groups ``ovs``, ``huge`` and ``vfio``."""
    groups = "groupadd -g 901 ovs && groupadd -g 902 huge && groupadd -g 903 vfio"
    shared.node.run(["sh", "-c", f"{groups} && useradd -u 900 -g ovs -G huge,vfio ovs"])


@pytest.fixture
def made(accounts: None, apart: Library) -> Library:
    del accounts
    return apart


def owner(library: Library, path: str) -> str:
    return library.shell('stat -c "%U:%G %a" "$1"', path).strip()


@pytest.mark.parametrize(
    ("user", "mode", "found"),
    [
        ("", "", "root:root 755"),
        ("", "750", "root:root 750"),
        ("ovs:huge", "", "ovs:huge 755"),
        ("ovs:huge", "750", "ovs:huge 750"),
    ],
)
def test_directory_is_made_for_its_owner(made: Library, user: str, mode: str, found: str) -> None:
    path = f"{made.top}/one/two"
    made.run(f'OVS_USER={user}; install_dir "$1" {mode}', path)
    assert owner(made, path) == found
    # What is above it is nobody's business.
    assert owner(made, f"{made.top}/one") == "root:root 755"


def test_user_without_group(made: Library) -> None:
    """The name is taken for the group's too."""
    made.run('OVS_USER=ovs; install_dir "$1"', f"{made.top}/new")
    assert owner(made, f"{made.top}/new") == "ovs:ovs 755"


def test_directory_that_is_there_is_left_alone(made: Library) -> None:
    made.shell('install -d -m 700 "$1"', f"{made.top}/old")
    code = 'OVS_USER=ovs:huge; install_dir "$1" 750; install_dir "$2" 750'
    made.run(code, f"{made.top}/old", f"{made.top}/new")
    assert owner(made, f"{made.top}/old") == "root:root 700"
    assert owner(made, f"{made.top}/new") == "ovs:huge 750"


def identity(library: Library, user: str) -> list[str]:
    code = f"OVS_USER={user}; run_as_ovsuser sh -c 'id -u; id -g; id -G' || echo failed"
    uid, gid, groups = library.run(code).stdout.splitlines()
    return [uid, gid, *sorted(groups.split())]


def test_without_user_as_root(made: Library) -> None:
    assert identity(made, "")[:2] == ["0", "0"]


@pytest.mark.parametrize("user", ["ovs", "ovs:huge"])
def test_as_user_with_all_its_groups(made: Library, user: str) -> None:
    """Its group is that of the account, whatever ``OVS_USER`` says: that is for directories."""
    assert identity(made, user) == ["900", "901", "901", "902", "903"]


def test_words_and_exit_status_are_passed_on(made: Library) -> None:
    code = 'OVS_USER=ovs; run_as_ovsuser sh -c \'printf "%s|" "$@"; exit 7\' sh a "b c" ""'
    done = made.run(code)
    assert (done.status, done.stdout) == (7, "a|b c||")


def test_database_belongs_to_the_user(made: Library) -> None:
    made.shell('chown ovs "$1"', made.dbdir)
    schema = f"{made.switch.layout.datadir}/vswitch.ovsschema"
    made.run('OVS_USER=ovs:huge; create_db "$1" "$2"', f"{made.dbdir}/conf.db", schema)
    assert owner(made, f"{made.dbdir}/conf.db").startswith("ovs:ovs ")


def test_daemon_that_ovs_ctl_starts_as_user(own_library: Library) -> None:
    """Its directories are the user's, and so is the process."""
    switch, library = own_library.switch, own_library
    switch.stop()
    library.shell("useradd -u 900 ovs")
    places = [library.rundir, library.logdir, library.dbdir]
    library.shell('chown -R ovs:ovs -- "$@" /var/lib/openvswitch', *places)
    options = "--ovs-user=ovs:ovs --no-mlockall"
    ran = f'"$d"/ovs-ctl {options} --system-id=x --no-ovs-vswitchd start'
    assert library.run(ran).status == 0
    switch.adopt()
    status = library.proc("status")
    assert "Uid:\t900\t900\t900\t900" in status


def test_pid_exists_needs_no_right_to_signal(library: Library) -> None:
    """So that the status can be asked for by anybody."""
    ask = f'. "$0/ovs-lib"; kill -0 1; pid_exists 1; echo $?; pid_exists {NO_PROCESS}; echo $?'
    done = library.run(f"setpriv --reuid 65534 --clear-groups sh -c '{ask}' \"$d\"")
    assert "not permitted" in done.stderr
    assert done.stdout == "0\n1\n"
