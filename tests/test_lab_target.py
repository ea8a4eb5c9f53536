"""Targets: how they are written, and what is said of those that can't be meant."""

from __future__ import annotations

import pytest

from harness.defects.table import Defect
from harness.lab.target import Target, TargetError, expand
from harness.results.outcomes import split_id, split_target

TWO = "ssh://root@hv1,hv2:2222/netdev"


@pytest.mark.parametrize(
    ("text", "parts", "machines"),
    [
        ("trixie/vm/kernel", ("trixie", "vm", "kernel"), ()),
        ("prefix:/a/b@forky/vm/netdev", ("prefix:/a/b@forky", "vm", "netdev"), ()),
        ("my-registry/ovs:1/docker/netdev", ("my-registry/ovs:1", "docker", "netdev"), ()),
        ("ssh://hv1/netdev", ("ssh://hv1", "ssh", "netdev"), ("hv1",)),
        (TWO, ("ssh://root@hv1,hv2:2222", "ssh", "netdev"), ("root@hv1", "hv2:2222")),
        ("ssh://a@[fe80::1%eth0]:22/kernel", None, ("a@[fe80::1%eth0]:22",)),
        ("ssh://me@hv-1.lab.example/dummy", None, ("me@hv-1.lab.example",)),
    ],
)
def test_a_target_is_written_as_it_was_read(
    text: str, parts: tuple[str, str, str] | None, machines: tuple[str, ...]
) -> None:
    target = Target.parse(text)
    assert str(target) == text
    assert Target.parse(str(target)) == target
    assert parts is None or target == parts
    assert target.machines == machines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trixie", "not of the form IMAGE/BACKEND/DATAPATH"),
        ("/vm/kernel", "not of the form IMAGE/BACKEND/DATAPATH"),
        ("trixie/vm/", "not of the form IMAGE/BACKEND/DATAPATH"),
        ("trixie/xen/kernel", "no backend 'xen'; there is namespace, docker, vm, ssh"),
        ("trixie/vm/dpdk", "no datapath 'dpdk'"),
        ("trixie/ssh/netdev", "remote machines are written ssh://"),
        ("ssh://hv1", "as ssh://root@hv1,root@hv2/netdev"),
        ("ssh://hv1/ssh/netdev", "as ssh://root@hv1,root@hv2/netdev"),
        ("ssh:///netdev", "'' is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://hv1,/netdev", "'' is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://@hv1/netdev", "'@hv1' is not of the form"),
        ("ssh://-oProxyCommand=x/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://-a@hv1/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://hv1:0/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://hv1:65536/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://hv1:ssh/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://::1/netdev", "is not of the form [USER@]MACHINE[:PORT]"),
        ("ssh://hv1,hv1/netdev", "names a machine twice"),
        ("ssh://hv1/ovs", "no datapath 'ovs'"),
    ],
)
def test_what_is_no_target(text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        Target.parse(text)
    assert text in str(caught.value)
    assert said in str(caught.value)


def test_braces_stand_for_several_datapaths_of_machines() -> None:
    both = ["ssh://a,b/netdev", "ssh://a,b/kernel"]
    assert expand("ssh://a,b/{netdev,kernel}") == both


def test_results_take_remote_machines_for_what_they_are() -> None:
    assert split_target(TWO) == ("ssh://root@hv1,hv2:2222", "ssh/netdev")
    assert split_id(f"test_a.py::test_b[vxlan-{TWO}-4]", TWO) == ("test_a.py::test_b", "vxlan-4")


@pytest.mark.parametrize(
    ("pattern", "is_met"),
    [("*/*/netdev", True), ("*/ssh/*", True), ("ssh://*/netdev", True), ("*/vm/netdev", False)],
)
def test_a_known_defect_of_remote_machines(pattern: str, is_met: bool) -> None:
    row = Defect("a.py::b", "what", "symptom", targets=(pattern,))
    assert row.is_met_on(TWO) is is_met
