"""Images in a container engine, made of the cache's without any registry.

Imported only by those who need one: it loads the Docker SDK.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple

import docker

from harness.images.cache import Progress, images_directory
from harness.images.catalogue import recipe_of
from harness.images.engine_names import REPOSITORY, reference
from harness.images.errors import ImageError
from harness.images.image import Image
from harness.images.layers import merged
from harness.images.locks import lock
from harness.nodes.containers.engine import Engine, EngineError

NAME, KEY, OVS = (f"{REPOSITORY}.{name}" for name in ("image", "key", "openvswitch"))
"""Labels: what the image is called in the harness, its recipe's key, Open vSwitch's version."""
PACKAGES = f"{REPOSITORY}.packages"
"""A label: what its recipe names, each as ``name=version``."""
HEALTH = "ovs-vsctl --timeout=5 show >/dev/null && ovs-appctl --timeout=5 version"
START = (
    "/usr/share/openvswitch/scripts/ovs-ctl start --system-id=random && "
    "exec tail -F /var/log/openvswitch/ovs-vswitchd.log"
)
"""What a container does that is started by hand: in a lab it runs the agent."""


class Loaded(NamedTuple):
    """An image that an engine has."""

    reference: str
    name: str
    key: str
    version: str
    size: int
    """In bytes."""


def load(image: Image, *, progress: Progress = lambda _: None) -> str:
    """Have the engine have an image; return what it is called there. Raise :class:`ImageError`."""
    called = reference(image)
    label = hashlib.sha256(called.encode()).hexdigest()[:16]

    def waiting(by_whom: str) -> None:
        progress(f"{image.name}: waiting for {by_whom}, which is giving it to the engine")

    with _client() as client, lock(images_directory() / "locks" / f"{label}.engine", waiting):
        if _labels(client, called) is None:
            progress(f"{image.name}: giving it to the container engine")
            _import(client, image, called)
    return called


def loaded() -> list[Loaded]:
    """The images of ours that the engine has. Raise :class:`ImageError` when there is no engine."""
    with _client() as client:
        found = [
            Loaded(
                tag,
                one["Labels"].get(NAME, ""),
                one["Labels"].get(KEY, ""),
                one["Labels"].get(OVS, ""),
                one["Size"],
            )
            for one in client.images(filters={"label": NAME})
            for tag in one["RepoTags"] or []
            # What is built from ours has its labels too.
            if tag.startswith(f"{REPOSITORY}/")
        ]
    return sorted(found)


def remove(name: str) -> list[str]:
    """Remove every image of that name from the engine; return what they were called. Raise
    :class:`ImageError` when one is in use."""
    removed = []
    for one in loaded():
        if one.name == name:
            with _client() as client:
                client.remove_image(one.reference)
            removed.append(one.reference)
    return removed


@contextmanager
def _client() -> Iterator[docker.APIClient]:
    try:
        engine = Engine()
        try:
            with engine.explained():
                yield engine.client()
        finally:
            engine.close()
    except EngineError as error:
        raise ImageError(str(error)) from None


def _labels(client: docker.APIClient, called: str) -> Mapping[str, str] | None:
    try:
        found: dict[str, Any] = client.inspect_image(called)
    except docker.errors.ImageNotFound:
        return None
    labels: Mapping[str, str] = (found["Config"] or {}).get("Labels") or {}
    return labels


def _import(client: docker.APIClient, image: Image, called: str) -> None:
    repository, _, tag = called.partition(":")
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb") as sink, suppress(BrokenPipeError):
                _write(image, sink)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        said = client.import_image_from_stream(
            stream, repository=repository, tag=tag, changes=_changes(image, tag)
        )
    writer.join()
    if failed:
        raise failed[0]
    for line in said.splitlines():
        problem = json.loads(line).get("error") if line.strip() else None
        if problem:
            raise ImageError(f"the engine did not take image {image.name}: {problem}")


def _write(image: Image, sink: BinaryIO) -> None:
    """Write everything that overlayfs would show of an image's layers, as a tar."""
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for entry in merged(image.lower):
            member = archive.gettarinfo(str(entry.path), entry.place)
            if os.geteuid() != 0:
                # What an ordinary user unpacked belongs to root in there.
                member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.isreg():
                with entry.path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)


def _changes(image: Image, key: str) -> list[str]:
    """What else the engine is to know of an image, as lines of a Dockerfile."""
    assert image.stored is not None
    meta = image.stored.meta
    asked_for = recipe_of(meta.name).packages
    labels = {
        NAME: image.name,
        KEY: key,
        OVS: image.version,
        PACKAGES: " ".join(one for one in meta.packages if one.partition("=")[0] in asked_for),
        "org.opencontainers.image.title": f"{REPOSITORY}/{image.name}",
        "org.opencontainers.image.version": image.version,
        "org.opencontainers.image.created": meta.built,
    }
    return [
        f"CMD {json.dumps(['/bin/sh', '-c', START])}",
        f"HEALTHCHECK --start-period=30s CMD {HEALTH}",
        *(f"LABEL {json.dumps(name)}={json.dumps(value)}" for name, value in labels.items()),
    ]
