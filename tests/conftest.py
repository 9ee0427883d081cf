"""Fixtures that give each test real parts of its own: a vhost, a database, processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qslice_native.docker_engine import connect
from qslice_native.instance import Instance, instance
from qslice_native.places import Places

from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import ProcessStarter
from tests.support.schema import schema_template

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def platform() -> Platform:
    """The parts that all tests share (instance `tests`); started where they do not run.

    They stay up for the next run; `make test` and `make down` stop them.
    """
    return Platform.of(instance("tests"))


@pytest.fixture
def broker_url(platform: Platform) -> Iterator[str]:
    """The administrator's AMQP URL of a virtual host that this test has for itself."""
    with fresh_vhost(platform) as url:
        yield url


@pytest.fixture(scope="session")
def management_url(platform: Platform) -> str:
    """RabbitMQ's management API, with the administrator's name and password in the URL."""
    return platform.management_url


@pytest.fixture
def empty_database_url(platform: Platform) -> Iterator[str]:
    """A database without any table, which this test has for itself."""
    with fresh_database(platform) as url:
        yield url


@pytest.fixture(scope="session")
def _schema_template(platform: Platform) -> str:
    return schema_template(platform, instance("tests").places.run / "schema.lock")


@pytest.fixture
def database_url(platform: Platform, _schema_template: str) -> Iterator[str]:
    """A database with the gateway's schema, which this test has for itself."""
    with fresh_database(platform, _schema_template) as url:
        yield url


@pytest.fixture(scope="session")
def docker_client(platform: Platform) -> Iterator[DockerClient]:
    """The Docker engine; label what a test makes with `platform.docker_label`."""
    client = connect(platform.docker_host)
    yield client
    client.close()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[ProcessStarter]:
    """Starts service processes, which end with the test."""
    starter = ProcessStarter(tmp_path)
    yield starter
    starter.stop_all()


@pytest.fixture
def own_instance(tmp_path: Path) -> Iterator[Instance]:
    """A broker and a database server that this test may stop and kill, running.

    `own_instance.rabbitmq.kill()`, `own_instance.up()`; `Platform.of(own_instance)` has the URLs.
    """
    own = Instance(Places(tmp_path, "tests"), with_docker=False)
    own.up()
    yield own
    own.remove()
