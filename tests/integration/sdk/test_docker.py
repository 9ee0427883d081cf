"""The Docker helpers, on a real engine."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qslice.sdk import Limits, docker

from tests.support.platform import Platform
from tests.support.processes import LOOPBACK, pick_free_port
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

BASE = "debian:bookworm-slim"


@pytest.fixture
def labels(platform: Platform) -> dict[str, str]:
    return {**platform.docker_label, "qslice.test": secrets.token_hex(6)}


@pytest.fixture
def image(docker_client: DockerClient, labels: dict[str, str], tmp_path: Path) -> Iterator[str]:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo built > /built\n")
    tag = f"qslice-test:{secrets.token_hex(6)}"
    yield docker.build(tmp_path, tag=tag, labels=labels, client=docker_client)
    docker_client.images.remove(tag, force=True)


def test_an_image_is_built_and_a_command_runs_in_it(
    docker_client: DockerClient, image: str, labels: dict[str, str]
) -> None:
    command = ["sh", "-c", "cat /built; echo $WHO >&2; exit 3"]
    finished = docker.run(image, command, env={"WHO": "me"}, labels=labels, client=docker_client)
    assert finished == docker.Finished(3, "built\n", "me\n")
    assert _all(docker_client, labels) == []


def test_the_command_is_confined_as_on_a_runner(
    docker_client: DockerClient, labels: dict[str, str]
) -> None:
    command = [
        "sh",
        "-c",
        "ls /sys/class/net; touch /forbidden || echo read-only; touch /output/x /tmp/x && echo ok;"
        "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status",
    ]
    finished = docker.run(BASE, command, labels=labels, client=docker_client)
    assert finished.stdout.split() == [
        *("lo", "read-only", "ok"),
        *("CapEff:", "0000000000000000", "NoNewPrivs:", "1"),
    ]


def test_a_command_that_takes_too_long_is_killed(
    docker_client: DockerClient, labels: dict[str, str]
) -> None:
    with pytest.raises(docker.DockerError, match="did not end within 2 s"):
        docker.run(BASE, ["sleep", "600"], labels=labels, timeout_s=2, client=docker_client)
    assert _all(docker_client, labels) == []


def test_what_runs_is_listed_and_what_ended_is_not(
    docker_client: DockerClient, labels: dict[str, str]
) -> None:
    thread = threading.Thread(
        target=docker.run,
        args=(BASE, ["sh", "-c", "sleep 600"]),
        kwargs={"labels": labels, "limits": Limits(memory_mb=32), "client": docker_client},
    )
    thread.start()
    try:
        [found] = wait_for(
            lambda: docker.list_containers(labels, client=docker_client), 120, "the container runs"
        )
        assert found.image == BASE
        assert found.labels["qslice.test"] == labels["qslice.test"]
    finally:
        for one in _all(docker_client, labels):
            one.kill()
        thread.join(60)
    assert docker.list_containers(labels, client=docker_client) == []


def test_a_build_that_fails_shows_the_end_of_its_log(
    docker_client: DockerClient, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo oh no && exit 7\n")
    with pytest.raises(docker.DockerError, match=r"(?s)build failed.*7.*oh no"):
        docker.build(tmp_path, client=docker_client)
    with pytest.raises(docker.DockerError, match="no Missing in"):
        docker.build(tmp_path, dockerfile="Missing", client=docker_client)


def test_an_image_that_does_not_exist_is_told(docker_client: DockerClient) -> None:
    with pytest.raises(docker.DockerError, match="no such image"):
        docker.run("qslice-test/nowhere:none", ["true"], client=docker_client)


def test_an_engine_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{LOOPBACK}:{pick_free_port()}")
    with pytest.raises(docker.DockerError, match="Docker engine"):
        docker.list_containers()


def _all(client: DockerClient, labels: dict[str, str]) -> list[Container]:
    mark = f"qslice.test={labels['qslice.test']}"
    return client.containers.list(all=True, filters={"label": mark})
