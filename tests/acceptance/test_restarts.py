"""The broker and the database go away in the middle of 500 jobs, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qslice_gateway.store.migrate import upgrade
from qslice_native.instance import Instance

from tests.acceptance.test_killed import sweep, wait_for_all, wait_for_some
from tests.support.counting import check_each_finished_once
from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import ProcessStarter
from tests.support.system import System

JOBS = 500


@pytest.fixture
def own_system(
    own_instance: Instance, start_process: ProcessStarter, tmp_path: Path
) -> Iterator[System]:
    """A system on a broker and a database server of its own."""
    platform = Platform.of(own_instance)
    with fresh_vhost(platform) as broker, fresh_database(platform) as database:
        upgrade(database)
        system = System(start_process, tmp_path, broker, database, platform.management_url)
        yield system
        system.close()


@pytest.mark.parametrize("part", ["rabbitmq", "postgres"])
def test_a_restart_in_the_middle_of_500_jobs_loses_none(
    own_instance: Instance, own_system: System, part: str
) -> None:
    own_system.gateway()
    own_system.ledger()
    for _ in range(2):
        own_system.noop_worker()
    own_system.make_project()
    batch = sweep(own_system, JOBS)
    wait_for_some(batch, 50)
    getattr(own_instance, part).kill()
    own_instance.up()
    wait_for_all(batch)
    check_each_finished_once(batch, own_system.environment["QSLICE_AMQP_URL"], JOBS)
