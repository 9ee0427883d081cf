"""What runners of one state folder have on the Docker engine, found by its label."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError
from qslice_runner.labels import STATE
from qslice_runner.state import StateDir


def containers_of(client: DockerClient, state: Path, **more: str) -> list[Any]:
    """Its containers, running or not; `more`: labels that they must have too."""
    return client.containers.list(all=True, filters=_filters(state, **more), ignore_removed=True)


def remove_all(client: DockerClient, state: Path) -> None:
    """Its containers, images and volumes."""
    for container in containers_of(client, state):
        with contextlib.suppress(APIError):
            container.remove(force=True, v=True)
    for image in client.images.list(filters=_filters(state)):
        for tag in image.tags:
            with contextlib.suppress(APIError):
                client.images.remove(tag)
    for volume in client.volumes.list(filters=_filters(state)):
        with contextlib.suppress(APIError):
            volume.remove()


def _filters(state: Path, **more: str) -> dict[str, Any]:
    given = {STATE: StateDir(state).id, **more}
    return {"label": [f"{name}={value}" for name, value in given.items()]}
