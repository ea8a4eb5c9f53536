"""What labs of one process share: the launcher, images, templates, what targets were found to lack.

What a backend needs is loaded when it is first asked for.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.lab.target import Target
from harness.nodes.base import NodeError
from harness.nodes.namespace import Fabric

if TYPE_CHECKING:
    from harness.images import Hold, Image
    from harness.images.templates import Template
    from harness.lab.plan import Plan
    from harness.lab.sites import Site
    from harness.nodes.containers.client import Broker

Progress = Callable[[str], None]

NO_MODULES = """\
#!/bin/sh
# In place of modprobe(8): no kernel module can be loaded from inside a sandbox, and the user-space
# datapath needs none. ovs-ctl, which asks for it on any datapath, is told that it is there.
test "$*" = openvswitch && exit 0
echo "modprobe: no kernel module can be loaded from inside this sandbox: $*" >&2
exit 1
"""


class TargetUnavailable(RuntimeError):
    """A target cannot run here; the message says what is missing and how to get it."""


@cache
def fabric() -> Fabric:
    """This process's launcher; it ends with the process."""
    made = Fabric()
    atexit.register(made.close)
    return made


@cache
def broker() -> Broker:
    """This process's way to a container engine; it ends with the process."""
    from harness.nodes.containers.client import Broker

    made = Broker()
    atexit.register(made.close)
    return made


class Environment(NamedTuple):
    """A target that can run here."""

    target: Target
    image: Image
    site: Callable[[Plan], Site]
    """Makes the place of one lab."""
    hold: Hold
    """Keeps the image from being removed."""


_found: dict[Target, Environment | TargetUnavailable] = {}


def environment(target: Target, progress: Progress = lambda _line: None) -> Environment:
    """Make a target ready, its image built if need be. Raise :class:`TargetUnavailable`."""
    if target not in _found:
        if target.backend == "namespace":
            # The launcher takes as long to come up as all that a lab needs takes to load.
            fabric()
        from harness.images import ImageError

        try:
            _found[target] = _PREPARE[target.backend](target, progress)
        except (ImageError, NodeError, TargetUnavailable) as error:
            _found[target] = TargetUnavailable(f"{target}: {error}")
    found = _found[target]
    if isinstance(found, TargetUnavailable):
        raise found
    return found


def _prepare_namespaces(target: Target, progress: Progress) -> Environment:
    from harness.images import resolve

    image = resolve(target.image, progress=progress)
    hold = image.hold()
    starting = fabric().start_node_soon("probe", image.lower)
    import harness.lab.lab  # noqa: F401 - whoever asks for a target wants a lab on it

    node = starting.result()
    try:
        if target.datapath == "netdev":
            said = node.try_open("/dev/net/tun")
            if said is not None:
                raise TargetUnavailable(
                    f"the netdev datapath makes its internal ports with /dev/net/tun, which can't "
                    f"be opened here ({said}): `sudo chmod 0666 /dev/net/tun`, or take the target "
                    f"{target.image}/{target.backend}/dummy, which has no internal ports and no "
                    "tunnels"
                )
        if target.datapath == "kernel" and not node.exists("/sys/module/openvswitch"):
            raise TargetUnavailable(
                "the kernel datapath needs the module openvswitch in this machine's kernel: "
                "`sudo modprobe openvswitch`"
            )
    finally:
        node.close()
    return Environment(target, image, namespaces(target, fabric(), image.lower), hold)


def namespaces(target: Target, fabric: Fabric, lower: Sequence[Path]) -> Callable[[Plan], Site]:
    """Makes places for labs whose nodes are namespaces that ``fabric`` starts, with ``lower`` as
    their root."""
    from harness.lab.sites import NamespaceSite

    files = {} if target.datapath == "kernel" else {"/usr/local/sbin/modprobe": NO_MODULES}
    return partial(NamespaceSite, fabric=fabric, lower=lower, files=files)


def _prepare_machines(target: Target, progress: Progress) -> Environment:
    from harness.images import resolve
    from harness.images.templates import BOOTED, template
    from harness.lab.machines import MachineSite
    from harness.lab.stages import SWITCH

    image = resolve(target.image, progress=progress)
    hold = image.hold()
    # Daemons of the dummy datapath are started with an option of their own.
    stage = BOOTED if target.datapath == "dummy" else SWITCH

    @cache
    def find(cards: int) -> Template:
        return template(image, stage, cards=cards, progress=progress)

    @cache
    def find_booted(other: Image | None, cards: int) -> Template:
        return template(other or image, BOOTED, cards=cards, progress=progress)

    find(0)
    site = partial(MachineSite, template=find, booted=find_booted)
    return Environment(target, image, site, hold)


def _prepare_containers(target: Target, progress: Progress) -> Environment:
    from harness.images import Hold, is_known, resolve
    from harness.lab.containers import ContainerSite
    from harness.lab.engine_images import examine, provide

    made = broker()
    image = None
    # While the engine is looked for, what follows can be loaded and built.
    if is_known(target.image):
        image = resolve(target.image, progress=progress)
    hold = Hold() if image is None else image.hold()
    called = target.image if image is None else provide(made, image, progress)
    found = examine(made, called, target)
    files = {} if target.datapath == "kernel" else {"/usr/local/sbin/modprobe": NO_MODULES}
    tun = target.datapath == "netdev"
    other = partial(provide, made, progress=progress)
    site = partial(ContainerSite, broker=made, image=called, provide=other, files=files, tun=tun)
    return Environment(target, image or found, site, hold)


def _prepare_remote_machines(target: Target, progress: Progress) -> Environment:
    from harness.images import Hold
    from harness.images.image import OWN_DIRECTORIES, OWN_LINKS
    from harness.lab.remote import RemoteSite
    from harness.lab.remote_images import examine
    from harness.nodes.ssh.client import Order

    progress(f"looking at {', '.join(target.machines)}")
    files = {} if target.datapath == "kernel" else {"/usr/local/sbin/modprobe": NO_MODULES}
    order = Order(OWN_DIRECTORIES, OWN_LINKS, files)
    image = examine(target, order)
    return Environment(
        target, image, partial(RemoteSite, machines=target.machines, order=order), Hold()
    )


_PREPARE = {
    "namespace": _prepare_namespaces,
    "docker": _prepare_containers,
    "vm": _prepare_machines,
    "ssh": _prepare_remote_machines,
}
