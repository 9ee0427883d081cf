"""The whole system as real processes, for tests that kill them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from qslice.sdk import Client

from tests.support.containers import containers_of, remove_all
from tests.support.git import bare_repository
from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import ProcessStarter, ServiceProcess
from tests.support.system import System


@pytest.fixture
def system(
    start_process: ProcessStarter,
    tmp_path: Path,
    broker_url: str,
    database_url: str,
    management_url: str,
) -> Iterator[System]:
    """Nothing of it runs yet."""
    system = System(start_process, tmp_path, broker_url, database_url, management_url)
    yield system
    system.close()


@dataclass
class RunnerLab:
    """A gateway and a ledger that run, and what runners need: repositories, a Docker engine."""

    system: System
    docker: DockerClient
    options: dict[str, str]
    runners: list[ServiceProcess] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def broker_url(self) -> str:
        return self.system.environment["QSLICE_AMQP_URL"]

    @property
    def git(self) -> Path:
        return self.system.folder / "git"

    @property
    def state(self) -> Path:
        """The folder of all its runners."""
        return self.system.folder / "runner"

    def project(self) -> Client:
        """The requests of somebody with a project that nobody else uses."""
        name = f"lab-{next(self._numbers)}"
        self.system.make_project(name)
        return self.system.client(name)

    def repository(self, name: str, files: dict[str, str]) -> str:
        return bare_repository(self.git, name, files)

    def runner(self, slots: int = 2, **settings: str) -> ServiceProcess:
        runner = self.system.runner(self.git, slots, **{**self.options, **settings})
        self.runners.append(runner)
        return runner

    def stop_runners(self) -> None:
        while self.runners:
            self.runners.pop().kill_all()

    def containers(self, **labels: str) -> list[Any]:
        """Those of its runners, dead or alive."""
        return containers_of(self.docker, self.state, **labels)


@pytest.fixture(scope="module")
def running_lab(
    platform: Platform,
    _schema_template: str,
    docker_client: DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunnerLab]:
    """One for all tests of a module; without a runner."""
    folder = tmp_path_factory.mktemp("lab")
    starter = ProcessStarter(folder)
    (checkout,) = platform.docker_label.values()
    options = {
        "QSLICE_DOCKER_HOST": platform.docker_host,
        "QSLICE_CHECKOUT": checkout,
        # A machine that is nearly full is no reason to fail here.
        "QSLICE_MIN_FREE_MB": "0",
    }
    with fresh_vhost(platform) as broker, fresh_database(platform, _schema_template) as database:
        system = System(starter, folder, broker, database, platform.management_url)
        lab = RunnerLab(system, docker_client, options)
        lab.git.mkdir()
        try:
            system.gateway()
            system.ledger()
            system.wait_until_ready()
            yield lab
        finally:
            system.close()
            starter.stop_all()
            remove_all(docker_client, lab.state)
