"""kill -9 of each part at any moment: what was accepted is finished, each job once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qslice.sdk import Lab
from qslice.sdk.batch import Batch
from qslice.states import State

from tests.support.counting import check_each_finished_once
from tests.support.processes import ServiceProcess
from tests.support.system import PROJECT, System
from tests.support.wait import wait_for

NAP = {"repository": "https://git.example/a", "command": ["sleep", "0.05"]}
JOBS = 150
#: Short, so that a killed worker's jobs come back soon.
LEASE_S = 3.0


def finished(batch: Batch) -> int:
    return batch.summary().counts.get(State.SUCCEEDED, 0)


def sweep(system: System, jobs: int = JOBS) -> Batch:
    return system.client().sweep(NAP, grid={"number": list(range(jobs))})


def wait_for_some(batch: Batch, least: int) -> None:
    wait_for(lambda: finished(batch) >= least, 120, f"{least} jobs finished")


def wait_for_all(batch: Batch) -> None:
    wait_for(lambda: finished(batch) == batch.total, 240, "all jobs finished")


def test_a_killed_worker_s_jobs_are_done_by_another(system: System) -> None:
    system.gateway()
    system.ledger()
    first = system.noop_worker(lease_s=LEASE_S)
    system.make_project()
    batch = sweep(system)
    wait_for_some(batch, 10)
    first.kill()
    system.noop_worker(lease_s=LEASE_S)
    wait_for_all(batch)
    check_each_finished_once(batch, system.environment["QSLICE_AMQP_URL"], JOBS)
    assert any(job.attempt > 1 for job in system.client().jobs()), "the killed worker had none"


@pytest.mark.parametrize("part", ["ledger", "gateway"])
def test_a_killed_service_of_ours_loses_nothing(system: System, part: str) -> None:
    services: dict[str, Callable[[], ServiceProcess]] = {
        "ledger": system.ledger,
        "gateway": system.gateway,
    }
    running = {name: start() for name, start in services.items()}
    for _ in range(2):
        system.noop_worker(lease_s=LEASE_S)
    system.make_project()
    batch = sweep(system)
    for least in (10, 60):
        wait_for_some(batch, least)
        running[part].kill_all()
        running[part] = services[part]()
    wait_for_all(batch)
    check_each_finished_once(batch, system.environment["QSLICE_AMQP_URL"], JOBS)


def test_what_was_submitted_without_a_ledger_is_done_when_one_comes(system: System) -> None:
    system.gateway()
    ledger = system.ledger()
    system.make_project()
    system.noop_worker()
    ledger.kill()
    batch = sweep(system, 20)
    assert batch.summary().counts == {State.WAITING: 20}
    system.ledger()
    wait_for_all(batch)
    check_each_finished_once(batch, system.environment["QSLICE_AMQP_URL"], 20)


def test_a_worker_that_is_killed_before_its_claim_is_answered_loses_nothing(
    system: System,
) -> None:
    system.gateway()
    ledger = system.ledger()
    system.make_project()
    worker = system.noop_worker(lease_s=LEASE_S)
    wait_for(lambda: system.todo() == (0, 1), 60, "the worker listens")
    ledger.kill()
    with Lab(system.environment["QSLICE_AMQP_URL"], PROJECT) as lab:
        lab.submit({**NAP, "id": "one"})
        wait_for(lambda: system.todo() == (0, 1), 60, "the worker has the message")
        worker.kill()
        system.noop_worker(lease_s=LEASE_S)
        system.ledger()
        results = list(lab.results(["one"], timeout_s=120))
    assert [(result.id, result.state) for result in results] == [("one", State.SUCCEEDED)]


def test_two_ledgers_and_two_workers_do_each_job_once_while_one_of_each_is_killed(
    system: System,
) -> None:
    system.gateway()
    ledgers = [system.ledger(), system.ledger()]
    workers = [system.noop_worker(lease_s=LEASE_S) for _ in range(2)]
    system.make_project()
    batch = sweep(system)
    wait_for_some(batch, 20)
    ledgers[0].kill()
    workers[0].kill()
    wait_for_all(batch)
    check_each_finished_once(batch, system.environment["QSLICE_AMQP_URL"], JOBS)


def test_a_worker_that_is_asked_to_stop_hands_back_what_it_cannot_finish(system: System) -> None:
    system.gateway()
    system.ledger()
    system.make_project()
    worker = system.noop_worker(slots=2, QSLICE_GRACE_S="1")
    client = system.client()
    long = client.submit({**NAP, "command": ["sleep", "600"]})
    wait_for(lambda: client.job(long).state is State.RUNNING, 60, "it runs")
    assert worker.terminate() == 0
    wait_for(lambda: client.job(long).state is State.QUEUED, 60, "it is queued again")
    assert client.job(long).attempt == 2
    client.cancel(long)
    assert client.wait(long, 60).state is State.CANCELLED
