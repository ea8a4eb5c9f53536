"""Where an installation keeps its files: what its ovs-lib says."""

from __future__ import annotations

import pytest

from harness.ovs.errors import OvsError
from harness.ovs.layout import parse

PACKAGED = """
logdir=${OVS_LOGDIR-'/var/log/openvswitch'}                 # /var/log/openvswitch
rundir=${OVS_RUNDIR-'/var/run/openvswitch'}                 # /var/run/openvswitch
sysconfdir=${OVS_SYSCONFDIR-'/etc'}     # /etc
etcdir=$sysconfdir/openvswitch                  # /etc/openvswitch
bindir=${OVS_BINDIR-'/usr/bin'}                 # /usr/bin
sbindir=${OVS_SBINDIR-'/usr/sbin'}              # /usr/sbin
if test X"$OVS_DBDIR" != X; then
    dbdir=$OVS_DBDIR
else
    dbdir='/etc/openvswitch'
fi
"""


def test_a_packaged_installation() -> None:
    layout = parse("/usr/share/openvswitch", PACKAGED, "--no-record-hostname")
    assert layout.ovs_ctl == "/usr/share/openvswitch/scripts/ovs-ctl"
    assert layout.db_socket == "/var/run/openvswitch/db.sock"
    assert layout.program("ovs-vsctl") == "ovs-vsctl"
    assert layout.sbindir == "/usr/sbin"
    assert layout.dbdir == "/etc/openvswitch"
    assert layout.log("ovs-vswitchd") == "/var/log/openvswitch/ovs-vswitchd.log"
    assert layout.control_socket("ovs-vswitchd", 7) == "/var/run/openvswitch/ovs-vswitchd.7.ctl"
    assert layout.leaves_hostname


def test_a_developers_installation() -> None:
    local = PACKAGED.replace("'/usr/", "'/usr/local/").replace("'/var", "'/usr/local/var")
    layout = parse("/usr/local/share/openvswitch", local, "")
    assert layout.program("ovs-vsctl") == "/usr/local/bin/ovs-vsctl"
    assert layout.pidfile("ovsdb-server") == "/usr/local/var/run/openvswitch/ovsdb-server.pid"
    assert not layout.leaves_hostname


def test_what_is_missing_is_named() -> None:
    with pytest.raises(OvsError, match="does not say where its bindir, dbdir is"):
        parse(
            "/usr/share/openvswitch", PACKAGED.replace("\nbindir=", "#").replace("dbdir", "x"), ""
        )
