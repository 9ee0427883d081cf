"""The testbed's image and container: built once for what the image folder holds, one a machine.

The catalogue names `http://127.0.0.1:<port>`, so the container's ports are published under the same
numbers and there is one cloud on a machine, whichever checkout started it.
"""

import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, ImageNotFound, NotFound
from docker.models.containers import Container
from filelock import FileLock
from qslice_native import base_images
from qslice_native.places import cache_directory
from qslice_native.say import NativeError, say, step

TITLE = "openstack"
NAME = "qslice-openstack-testbed"
REPOSITORY = "qslice-openstack-testbed"
PORTS = (5000, 8774, 8776, 8778, 9292, 9696)
AUTH_URL = "http://127.0.0.1:5000/v3"
MEMORY = "6g"
_IMAGE = Path(__file__).with_name("image")
_TRIXIE = base_images.BaseImage("debian", "trixie-slim", "trixie", (), ("bash",))
_READY_S = 300


def up(client: docker.DockerClient, host: str) -> dict[str, Any]:
    """Build where needed, start where needed, wait until ready; the clouds.yaml as a dictionary.

    Raises NativeError with the end of the log where the image or the container fails.
    """
    lock = cache_directory() / "openstack.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        reference = f"{REPOSITORY}:{_fingerprint()}"
        _build(client, host, reference)
        _wait(_start(client, reference))
        return clouds(client)


def down(client: docker.DockerClient) -> None:
    """Remove the container; the image stays."""
    try:
        client.containers.get(NAME).remove(force=True, v=True)
    except NotFound:
        return
    say(TITLE, "stopped")


def clouds(client: docker.DockerClient) -> dict[str, Any]:
    """What the testbed's clouds.yaml says: `lab-a`, `lab-b` and `admin`."""
    chunks, _ = client.containers.get(NAME).get_archive("/opt/testbed/clouds.yaml")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        found: dict[str, Any] = json.loads(archive.extractfile("clouds.yaml").read())  # type: ignore[union-attr]
    return found


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted(_IMAGE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(_IMAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(client: docker.DockerClient, host: str, reference: str) -> None:
    try:
        client.images.get(reference)
    except ImageNotFound:
        pass
    else:
        return
    base_images.provide(host, (_TRIXIE,))
    log = cache_directory() / "openstack-build.log"
    with (
        step(TITLE, f"making the image, about 6 minutes the first time; log: {log}") as patience,
        log.open("w") as output,
    ):
        detail = ""
        try:
            for part in client.api.build(path=str(_IMAGE), tag=reference, rm=True, decode=True):
                text = part.get("stream", "") or part.get("error", "")
                output.write(text)
                detail = text.strip()[:60] or detail
                patience.tick(detail)
                if "error" in part:
                    raise NativeError(f"the image cannot be made: {part['error']}; see {log}")
        except (APIError, BuildError) as wrong:
            raise NativeError(f"the image cannot be made: {wrong}; see {log}") from wrong


def _start(client: docker.DockerClient, reference: str) -> Container:
    try:
        running = client.containers.get(NAME)
    except NotFound:
        pass
    else:
        if running.status == "running" and running.attrs["Config"]["Image"] == reference:
            return running
        running.remove(force=True, v=True)
    say(TITLE, f"starting on 127.0.0.1, ports {', '.join(map(str, PORTS))}")
    return client.containers.run(
        reference,
        name=NAME,
        detach=True,
        mem_limit=MEMORY,
        labels={"qslice.testbed": "openstack"},
        ports={f"{port}/tcp": ("127.0.0.1", port) for port in PORTS},
    )


def _wait(container: Container) -> None:
    with step(TITLE, "waiting until every service reports itself") as patience:
        while patience.waited_s < _READY_S:
            container.reload()
            if container.attrs["State"].get("Health", {}).get("Status") == "healthy":
                return
            if container.status == "exited":
                break
            patience.tick()
            time.sleep(0.5)
        raise NativeError(f"not ready:\n{container.logs(tail=30).decode(errors='replace')}")
