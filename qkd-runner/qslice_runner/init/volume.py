"""The volume that carries the first process into every container, read-only."""

import hashlib
import io
import tarfile
from collections.abc import Mapping

import docker
from docker.errors import APIError, NotFound
from docker.types import Mount

_FOLDER = "/.qslice"


def volume_name(program: bytes, state: str) -> str:
    """One per program and state folder."""
    return f"qslice-init-{state}-{hashlib.sha256(program).hexdigest()[:16]}"


def exists(client: docker.APIClient, name: str) -> bool:
    """Whether the volume is there; that it is empty shows when a container starts."""
    try:
        client.inspect_volume(name)
    except NotFound:
        return False
    return True


def fill(client: docker.APIClient, program: bytes, name: str, labels: Mapping[str, str]) -> None:
    """Make the volume where it is missing or empty; blocks.

    The engine fills an empty volume from the image of the first container that is made with it,
    so the program becomes an image of one file; nothing is started.
    """
    image = f"{name}:latest"
    changes = [f"LABEL {key}={value}" for key, value in labels.items()]
    client.import_image_from_data(_tar(program), repository=name, tag="latest", changes=changes)
    client.create_volume(name, labels=dict(labels))
    made = client.create_container(
        image,
        command=["none"],
        labels=dict(labels),
        host_config=client.create_host_config(mounts=[Mount(_FOLDER, name, type="volume")]),
        use_config_proxy=False,
    )
    try:
        client.remove_container(made["Id"], force=True)
        client.remove_image(image)
    except APIError as error:
        # Another runner made the same at the same time.
        if error.status_code not in (404, 409):
            raise


def _tar(program: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder = tarfile.TarInfo(_FOLDER.lstrip("/"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        file = tarfile.TarInfo(f"{_FOLDER.lstrip('/')}/init")
        file.size, file.mode = len(program), 0o555
        archive.addfile(file, io.BytesIO(program))
    return packed.getvalue()
