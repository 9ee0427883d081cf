"""The example experiments build without a network and run in a locked-down container."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bb84 import experiment
from closed_form import Parameters
from docker import DockerClient
from docker.errors import ContainerError

from tests.support.platform import Platform

EXAMPLES = Path(__file__).parents[3] / "examples"


class Image:
    """A built experiment, and the way a runner starts it."""

    def __init__(self, client: DockerClient, image_id: str, labels: dict[str, str]) -> None:
        self._client, self._id, self._labels = client, image_id, labels

    def run(self, *command: str) -> str:
        """Return what a container prints that may do nothing but compute."""
        output = self._client.containers.run(
            self._id,
            list(command),
            remove=True,
            labels=self._labels,
            network_mode="none",
            read_only=True,
            tmpfs={"/output": "mode=1777,size=16m", "/tmp": "mode=1777,size=16m"},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=32,
            mem_limit="256m",
        )
        return bytes(output).decode()


@contextmanager
def built(client: DockerClient, platform: Platform, experiment_name: str) -> Iterator[Image]:
    """Build an example with no network, and remove the image at the end."""
    image, _ = client.images.build(
        path=str(EXAMPLES / experiment_name),
        network_mode="none",
        rm=True,
        forcerm=True,
        labels=platform.docker_label,
    )
    try:
        yield Image(client, str(image.id), platform.docker_label)
    finally:
        client.images.remove(str(image.id), force=True)


def test_bb84_gives_in_its_container_what_it_gives_here(
    docker_client: DockerClient, platform: Platform
) -> None:
    with built(docker_client, platform, "bb84") as image:
        command = ("python", "/app/bb84.py", "--distance", "10", "--seed", "5")
        expected = json.loads(json.dumps(experiment(Parameters(distance_km=10), 10**11, 5)))
        assert json.loads(image.run(*command)) == expected
        both = image.run("sh", "-c", f"{' '.join(command)} >/dev/null && cat /output/result.json")
        assert json.loads(both) == expected
        assert image.run("id", "-u").strip() != "0"
        with pytest.raises(ContainerError) as failed:
            image.run("python", "/app/bb84.py", "--distance", "-1")
        assert failed.value.exit_status == 2
        assert "distance_km is -1.0" in str(failed.value.stderr)


def test_n_queens_prints_its_count_in_its_container(
    docker_client: DockerClient, platform: Platform
) -> None:
    with built(docker_client, platform, "n-queens") as image:
        assert image.run("python", "/app/queens.py", "8", "3") == "18\n"
