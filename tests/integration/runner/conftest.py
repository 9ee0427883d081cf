"""A runner's handler on the real engine, and repositories for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from docker import DockerClient
from qslice.worker.handler import Failed, Outcome
from qslice_runner.handler import RunHandler
from qslice_runner.settings import RunnerSettings

from tests.support import containers
from tests.support.git import bare_repository
from tests.support.platform import Platform
from tests.support.runs import RecordedJob

#: A shell and the usual tools, and nothing of ours.
DOCKERFILE = "FROM debian:bookworm-slim\nWORKDIR /\n"


@dataclass
class Lab:
    """A folder of repositories and a runner's folder, which several runners may use in turn."""

    git: Path
    state: Path
    base: dict[str, Any]
    #: With a shell; its image is built once.
    shell: str
    running: list[RunHandler] = field(default_factory=list)

    def settings(self, **given: Any) -> RunnerSettings:
        return RunnerSettings(**{**self.base, **given})

    async def runner(self, **given: Any) -> Runner:
        """A runner that is started; it ends with the test."""
        handler = RunHandler(self.settings(**given))
        await handler.start()
        self.running.append(handler)
        return Runner(handler, self.shell)

    async def stop(self) -> None:
        while self.running:
            await self.running.pop().stop()


@dataclass
class Runner:
    handler: RunHandler
    shell: str

    def job(
        self, *command: str, batch: str | None = None, job: dict[str, Any] | None = None, **run: Any
    ) -> RecordedJob:
        """A job for this command, in the repository with a shell unless another is given."""
        body = {"repository": self.shell, "command": command, **run}
        request = self.handler.read(orjson.dumps(body)).request
        return RecordedJob(request, batch_id=batch, **(job or {}))

    async def run(self, *command: str, **given: Any) -> Outcome:
        return await self.handler.run(self.job(*command, **given))

    async def sh(self, script: str, **given: Any) -> Outcome:
        return await self.run("sh", "-c", script, **given)

    async def fails(self, *command: str, **given: Any) -> Failed:
        with pytest.raises(Failed) as failed:
            await self.run(*command, **given)
        return failed.value


@pytest.fixture(scope="session")
def _shared_lab(
    platform: Platform, docker_client: DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("runner")
    git = root / "git"
    git.mkdir()
    shell = bare_repository(git, "shell", {"Dockerfile": DOCKERFILE})
    lab = make_lab(root / "state", git, shell, platform)
    yield lab
    containers.remove_all(docker_client, lab.state)


def make_lab(state: Path, git: Path, shell: str, platform: Platform) -> Lab:
    base = {
        "amqp_url": "amqp://unused",
        "runner_state_dir": state,
        "allow_file_repositories": git,
        "docker_host": platform.docker_host,
        "checkout": platform.docker_label["qslice.checkout"],
        "slots": 2,
        # A machine that is nearly full is no reason to fail here.
        "min_free_mb": 0,
    }
    return Lab(git, state, base, shell)


@pytest.fixture
async def lab(_shared_lab: Lab) -> AsyncIterator[Lab]:
    """The repositories of this test run; runners made from it stop with the test."""
    yield _shared_lab
    await _shared_lab.stop()


@pytest.fixture
async def runner(lab: Lab) -> Runner:
    """A runner with the settings of the lab."""
    return await lab.runner()


@pytest.fixture
async def own_lab(
    _shared_lab: Lab, platform: Platform, docker_client: DockerClient, tmp_path: Path
) -> AsyncIterator[Lab]:
    """A runner's folder, and so labels, that no other test uses; the repositories are shared."""
    own = make_lab(tmp_path / "state", _shared_lab.git, _shared_lab.shell, platform)
    yield own
    await own.stop()
    containers.remove_all(docker_client, own.state)


def containers_of(client: DockerClient, lab: Lab, **more: str) -> list[Any]:
    """What the runners of this lab have, running or not."""
    return containers.containers_of(client, lab.state, **more)
