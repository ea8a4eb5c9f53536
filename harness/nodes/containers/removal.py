"""Removes what an engine has of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import docker

Choice = Callable[[Mapping[str, str] | None], bool]
"""Of something with these labels, whether it is meant."""


def remove(client: docker.APIClient, label: str, meant: Choice = lambda _: True) -> None:
    """Remove all containers, networks and volumes that have a label (``NAME`` or ``NAME=VALUE``)
    and are meant. Others may be at it already. Raise what the SDK raises."""
    wanted = {"label": label}
    for found in client.containers(all=True, filters=wanted):
        if meant(found.get("Labels")):
            _remove_container(client, found["Id"])
    for found in client.networks(filters=wanted):
        if meant(found.get("Labels")):
            with suppress(docker.errors.NotFound):
                client.remove_network(found["Id"])
    for found in client.volumes(filters=wanted)["Volumes"] or []:
        if meant(found.get("Labels")):
            with suppress(docker.errors.NotFound):
                client.remove_volume(found["Name"])


def _remove_container(client: docker.APIClient, identity: str) -> None:
    """Remove a container, and wait until it is gone."""
    with suppress(docker.errors.NotFound):
        try:
            client.remove_container(identity, v=True, force=True)
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
            # It ended by itself, and removes itself.
            client.wait(identity, condition="removed")
