"""Try an experiment in containers on this machine: build its image, run it, list what runs.

Needs the extra: `pip install qslice[docker]`.

>>> from qslice.sdk import docker
>>> image = docker.build("bb84", tag="bb84")                                # doctest: +SKIP
>>> docker.run(image, ["python", "/app/bb84.py", "--distance", "10"]).exit_code  # doctest: +SKIP
0
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qslice.messages.run import Limits
from qslice.sdk.errors import QsliceError

if TYPE_CHECKING:
    from docker import DockerClient

_MIB = 1024 * 1024


class DockerError(QsliceError):
    """The engine refused, or cannot be reached; the message says which."""


@dataclass(frozen=True)
class Finished:
    """What became of a container's command."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Container:
    """A container that runs."""

    id: str
    name: str
    image: str
    status: str
    labels: dict[str, str]


def run(
    image: str,
    command: Sequence[str],
    *,
    limits: Limits | None = None,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
    client: "DockerClient | None" = None,
) -> Finished:
    """Run a command in a container of its own and return what it wrote; then remove it.

    It is as confined as on a runner: no network unless `limits.network`, no capabilities, a
    read-only root with a `/tmp` and an `/output` in memory.
    Raises `DockerError`, also where `timeout_s` is over; the container is then killed.
    """
    limits = limits or Limits()
    scratch = f"rw,nosuid,nodev,size={limits.disk_mb}m,mode=1777"
    with _engine(client) as engine:
        import requests

        container = engine.containers.create(
            image,
            list(command),
            environment=dict(env or {}),
            labels=dict(labels or {}),
            network_mode="bridge" if limits.network else "none",
            mem_limit=limits.memory_mb * _MIB,
            memswap_limit=limits.memory_mb * _MIB,
            nano_cpus=int(limits.cpus * 1e9),
            pids_limit=limits.pids,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs={"/tmp": scratch, "/output": scratch},  # noqa: S108
        )
        try:
            container.start()
            try:
                exit_code = int(container.wait(timeout=timeout_s)["StatusCode"])
            except requests.exceptions.RequestException as error:
                if "timed out" not in str(error):
                    raise
                raise DockerError(f"the command did not end within {timeout_s:g} s") from None
            return Finished(
                exit_code,
                container.logs(stdout=True, stderr=False).decode(errors="replace"),
                container.logs(stdout=False, stderr=True).decode(errors="replace"),
            )
        finally:
            container.remove(force=True, v=True)


def build(
    folder: str | os.PathLike[str],
    *,
    tag: str | None = None,
    dockerfile: str = "Dockerfile",
    labels: Mapping[str, str] | None = None,
    client: "DockerClient | None" = None,
) -> str:
    """Build the image that a folder's Dockerfile describes; returns its tag, else its id.

    Raises `DockerError` with the end of the build's log.
    """
    where = Path(folder)
    if not (where / dockerfile).is_file():
        raise DockerError(f"there is no {dockerfile} in {where}")
    with _engine(client) as engine:
        image, _ = engine.images.build(
            path=str(where),
            dockerfile=dockerfile,
            tag=tag,
            labels=dict(labels or {}),
            rm=True,
            forcerm=True,
        )
        return tag or str(image.id)


def list_containers(
    labels: Mapping[str, str] | None = None, *, client: "DockerClient | None" = None
) -> list[Container]:
    """The containers that run; with `labels` those that carry them all."""
    wanted = [f"{name}={value}" for name, value in (labels or {}).items()]
    with _engine(client) as engine:
        # Without a look at each: one may end meanwhile.
        found = engine.api.containers(filters={"label": wanted, "status": ["running"]})
    return [
        Container(
            id=one["Id"],
            name=one["Names"][0].removeprefix("/"),
            image=one["Image"],
            status=one["Status"],
            labels=one["Labels"] or {},
        )
        for one in found
    ]


@contextmanager
def _engine(client: "DockerClient | None") -> Iterator[Any]:
    try:
        import docker
        import requests
        from docker.errors import BuildError, DockerException, ImageNotFound
    except ImportError:
        raise DockerError("install the extra for it: pip install 'qslice[docker]'") from None
    own = None
    try:
        own = client or docker.from_env()
        yield own
    except BuildError as error:
        log = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise DockerError(f"the build failed: {error}\n{log[-2000:]}".rstrip()) from None
    except ImageNotFound as error:
        raise DockerError(f"there is no such image: {error.explanation or error}") from None
    except (DockerException, requests.exceptions.RequestException) as error:
        raise DockerError(f"the Docker engine: {error}") from None
    finally:
        if own is not None and client is None:
            own.close()
