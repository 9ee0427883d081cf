"""The base images of our Dockerfiles: there, pulled, or made on this machine by debootstrap.

All under the same names, so that a Dockerfile works with and without a registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from filelock import FileLock

from qslice_native import packages
from qslice_native.docker_engine import connect
from qslice_native.files import failure
from qslice_native.host_configuration import host_files
from qslice_native.mirror import debian_mirror
from qslice_native.places import cache_directory
from qslice_native.say import NativeError, Patience, say, step

TITLE = "base images"
#: Label of an image that we made: a digest of what went into it.
LABEL = "qslice.base"
_PROBE_S = 3.0
_PULL_S = 120.0
_SCRIPT = Path(__file__).with_name("bootstrap.sh")


@dataclass(frozen=True)
class BaseImage:
    """An image name, and what makes the same from Debian packages."""

    name: str
    tag: str
    suite: str
    packages: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"


DEBIAN = BaseImage("debian", "bookworm-slim", "bookworm", (), ("bash",))
PYTHON = BaseImage(
    "python",
    "3.11-slim",
    "bookworm",
    ("python3", "python3-pip", "python3-venv", "python3.11-venv", "netbase", "tzdata"),
    ("python3",),
)
ALL = (DEBIAN, PYTHON)


def provide(host: str, images: tuple[BaseImage, ...] = ALL) -> None:
    """Make sure that the engine at `host` has these images.

    Raises NativeError where an image can neither be pulled nor made.
    """
    cache = cache_directory() / "images"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        client = connect(host, timeout=300)
        try:
            reachable: bool | None = None
            for image in images:
                if _is_current(client, image):
                    continue
                if reachable is None:
                    reachable = registry_is_reachable(client.info())
                    if not reachable:
                        say(TITLE, "no image registry can be reached; they are made here")
                if not (reachable and _pull(client, image)):
                    _make(client, image, cache)
        finally:
            client.close()
    say(TITLE, ", ".join(image.reference for image in images))


def _is_current(client: docker.DockerClient, image: BaseImage) -> bool:
    """Present, and where we made it: made from this machine's present configuration."""
    try:
        labels = client.images.get(image.reference).labels
    except ImageNotFound:
        return False
    return LABEL not in labels or labels[LABEL] == _digest(image, host_files(image.suite))


def registry_is_reachable(info: dict[str, Any]) -> bool:
    """Whether a registry that this engine is set to use answers as one."""
    configured = (info.get("RegistryConfig") or {}).get("Mirrors") or []
    addresses = [*configured, info.get("IndexServerAddress") or ""]
    for address in filter(None, addresses):
        try:
            url = httpx.URL(address).copy_with(path="/v2/")
            if httpx.get(url, timeout=_PROBE_S).status_code in {200, 401}:
                return True
        except (httpx.HTTPError, httpx.InvalidURL):
            continue
    return False


def _pull(client: docker.DockerClient, image: BaseImage) -> bool:
    """Try to pull within the time limit; False where that fails."""
    with step(TITLE, f"pulling {image.reference}") as patience:
        try:
            for event in client.api.pull(image.name, tag=image.tag, stream=True, decode=True):
                patience.tick(str(event.get("status", "")))
                if "error" in event or patience.waited_s > _PULL_S:
                    say(TITLE, f"could not pull: {event.get('error', 'time is up')}")
                    return False
            client.images.get(image.reference)
        except (DockerException, OSError) as error:
            say(TITLE, f"could not pull: {error}")
            return False
    return True


def _make(client: docker.DockerClient, image: BaseImage, cache: Path) -> None:
    tarball = cache / f"{_digest(image, {'bootstrap.sh': _SCRIPT.read_bytes()})}.tar"
    if not tarball.exists():
        packages.install([packages.DEBOOTSTRAP])
        _bootstrap(image, tarball)
    with step(TITLE, f"importing {image.reference}"):
        raw = f"qslice-bootstrap:{tarball.stem}"
        client.api.import_image_from_file(
            str(tarball), repository="qslice-bootstrap", tag=tarball.stem
        )
        files, previous = host_files(image.suite), _image_id(client, image)
        labels = {LABEL: _digest(image, files)}
        try:
            client.images.build(
                fileobj=io.BytesIO(_context(image, raw, files)),
                custom_context=True,
                tag=image.reference,
                labels=labels,
                rm=True,
                forcerm=True,
            )
        except (BuildError, APIError) as error:
            raise NativeError(f"cannot make the image {image.reference}: {error}") from error
        client.images.remove(raw, noprune=True)
        if previous is not None:
            # Refused, and rightly so, where an image or a container still builds on it.
            with contextlib.suppress(APIError):
                client.images.remove(previous)


def _image_id(client: docker.DockerClient, image: BaseImage) -> str | None:
    try:
        return client.images.get(image.reference).id
    except ImageNotFound:
        return None


def _bootstrap(image: BaseImage, tarball: Path) -> None:
    mirror = debian_mirror(image.suite)
    log = tarball.with_suffix(".log")
    command = ["sh", str(_SCRIPT), image.suite, mirror, ",".join(image.packages), str(tarball)]
    with step(TITLE, f"making {image.reference} with debootstrap, about a minute") as patience:
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            ) as process,
        ):
            while process.poll() is None:
                _tick(patience, log)
                time.sleep(0.2)
        if process.returncode != 0:
            raise failure(TITLE, f"debootstrap of {image.reference} failed", log)


def _tick(patience: Patience, log: Path) -> None:
    lines = log.read_text(errors="replace").splitlines()
    patience.tick(lines[-1][:60] if lines else "")


def _digest(image: BaseImage, files: dict[str, bytes]) -> str:
    parts = [json.dumps([image.suite, image.packages, image.command]).encode()]
    parts += [path.encode() + b"\0" + contents for path, contents in sorted(files.items())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _context(image: BaseImage, raw: str, files: dict[str, bytes]) -> bytes:
    """A build context: the bare file system, this machine's configuration, the default command."""
    dockerfile = f"FROM {raw}\nCOPY host/ /\nENV LANG=C.UTF-8\nCMD {json.dumps(image.command)}\n"
    entries = {"Dockerfile": dockerfile.encode()}
    entries.update({f"host{path}": contents for path, contents in files.items()})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, contents in entries.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(contents), 0o644
            archive.addfile(entry, io.BytesIO(contents))
    return buffer.getvalue()
