"""Connection tracking with the connections that hosts' own kernels make.

Source: the firewall example of ovs-actions(7), "The ct action".
"""

import pytest

from harness import Lab, Topology
from harness.polling import eventually

pytestmark = pytest.mark.requires("datapath:CT state")

FIREWALL = """
table=0,priority=1,actions=drop
table=0,priority=10,arp,actions=normal
table=0,priority=100,ip,ct_state=-trk,actions=ct(table=1)
table=1,in_port=a,ip,ct_state=+trk+new,actions=ct(commit),b
table=1,in_port=a,ip,ct_state=+trk+est,actions=b
table=1,in_port=b,ip,ct_state=+trk+new,actions=drop
table=1,in_port=b,ip,ct_state=+trk+est,actions=a
"""
ADDRESS = {"a": "10.0.0.1", "b": "10.0.0.2"}


@pytest.fixture
def topology() -> Topology:
    topo = Topology("conntrack-sockets")
    bridge = topo.switch("s1").bridge("br0", fail_mode="secure", flows=FIREWALL)
    for name, address in ADDRESS.items():
        bridge.host(name, addresses=[f"{address}/24"])
    return topo


def says(lab: Lab, client: str, server: str, text: str) -> str:
    """What a server hears that listens for one TCP connection, in which a client says ``text``."""
    listening = lab.host(server).start("nc -l -w 2 -p 5000")
    eventually(
        lambda: ":5000" in lab.host(server).run("ss -Hltn").stdout, within=60, what="a listener"
    )
    lab.host(client).run(f"nc -N -w 1 {ADDRESS[server]} 5000", stdin=text, check=False)
    # So that it ends: nobody may have come.
    lab.host(server).run("nc -N -w 1 127.0.0.1 5000", check=False)
    heard: str = listening.result().stdout
    return heard


def test_who_is_inside_may_connect(lab: Lab) -> None:
    assert says(lab, "a", "b", "hello") == "hello"
    # In whatever state it has come to by now.
    tracked = lab.switch("s1").dpctl("dump-conntrack")
    assert f"tcp,orig=(src={ADDRESS['a']},dst={ADDRESS['b']}" in tracked


def test_who_is_outside_may_not(lab: Lab) -> None:
    assert says(lab, "b", "a", "hello") == ""


def test_pings(lab: Lab) -> None:
    assert lab.host("a").run(f"ping -c1 -W5 {ADDRESS['b']}").status == 0
    assert lab.host("b").run(f"ping -c1 -W1 {ADDRESS['a']}", check=False).status == 1
