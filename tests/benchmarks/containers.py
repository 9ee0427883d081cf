"""200 container tasks of one image: against a plain loop of `docker run`, and the TP's own worker.

The loop starts the same locked-down containers with the same concurrency, from an image that is
there already; ours also clones, builds, keeps logs and results.
"""

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
from git import Repo
from qslice.states import State

from tests.benchmarks.measure import Line, time_line
from tests.benchmarks.parts import Parts
from tests.support.git import DOCKERFILE, bare_repository

COLD_AIM = 1.10
WARM_AIM = 0.25
COMMAND = ["python", "-S", "-c", "print(42)"]


def measure(parts: Parts, tasks: int = 200, slots: int = 2, naive: int = 20) -> list[Line]:
    git = Path(tempfile.mkdtemp(prefix="qslice-bench-git-"))
    client = docker.DockerClient(parts.platform.docker_host)
    try:
        repository = bare_repository(git, "bench", {"Dockerfile": DOCKERFILE})
        parts.system.gateway()
        parts.system.ledger()
        parts.system.make_project()
        parts.system.runner(git, slots)
        # Clone and build once: the loop has its image as well.
        _ours(parts, repository, 1, "task")
        image = _image(client, repository)
        loop = _loop(client, image, parts, tasks, slots)
        cold = _ours(parts, repository, tasks, "task")
        warm = _ours(parts, repository, tasks, "batch")
        tp = _naive(client, repository, parts, naive) * tasks / naive
        return [
            time_line(f"{tasks} container tasks, fresh containers", cold, loop, COLD_AIM),
            time_line(f"{tasks} container tasks, isolation batch", warm, loop, WARM_AIM),
            Line(
                f"{tasks} container tasks, the TP's worker (from {naive})",
                f"{cold:.2f} s",
                f"{tp:.2f} s",
                f"{cold / tp:.2f}",
                "reported",
                None,
            ),
        ]
    finally:
        client.close()
        shutil.rmtree(git, ignore_errors=True)


def _ours(parts: Parts, repository: str, tasks: int, isolation: str) -> float:
    template = {
        "repository": repository,
        "command": COMMAND,
        "isolation": isolation,
        "limits": {"memory_mb": 64, "cpus": 1, "pids": 32},
    }
    with parts.system.client() as client:
        begin = time.perf_counter()
        batch = client.sweep(template, grid={"number": list(range(tasks))})
        summary = batch.wait(900)
        taken = time.perf_counter() - begin
    if summary.counts.get(State.SUCCEEDED) != tasks:
        raise RuntimeError(f"{tasks} tasks ended as {summary.counts}")
    return taken


def _image(client: docker.DockerClient, name: str) -> str:
    repository = client.images.build(
        path=str(_checked_out(name)), tag="qslice-bench", rm=True, labels={"qslice.bench": "1"}
    )[0]
    return str(repository.id)


def _checked_out(repository: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="qslice-bench-clone-"))
    Repo.clone_from(repository, folder)
    return folder


def _run(client: docker.DockerClient, image: str, parts: Parts) -> None:
    output = client.containers.run(
        image,
        COMMAND,
        remove=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        network_mode="none",
        mem_limit="64m",
        pids_limit=32,
        nano_cpus=1_000_000_000,
        user="65534:65534",
        tmpfs={"/tmp": "size=64m", "/output": "size=64m"},
        labels=parts.platform.docker_label,
    )
    if output.strip() != b"42":
        raise RuntimeError(f"the container wrote {output!r}")


def _loop(client: docker.DockerClient, image: str, parts: Parts, tasks: int, slots: int) -> float:
    _run(client, image, parts)
    begin = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        for future in [pool.submit(_run, client, image, parts) for _ in range(tasks)]:
            future.result()
    return time.perf_counter() - begin


def _naive(client: docker.DockerClient, repository: str, parts: Parts, tasks: int) -> float:
    """As the course's public solutions do it: clone, build and run for every task, one by one."""
    begin = time.perf_counter()
    for _ in range(tasks):
        folder = _checked_out(repository)
        image, _ = client.images.build(path=str(folder), tag="qslice-bench-tp", rm=True)
        _run(client, str(image.id), parts)
        shutil.rmtree(folder)
    return time.perf_counter() - begin
