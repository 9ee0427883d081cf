"""Slots are shared out fairly between projects, and between workers."""

from __future__ import annotations

import asyncio

from qslice import names, topology
from qslice.amqp import Connection
from qslice.messages.ledger import Claim, Control

from tests.integration.worker.conftest import Workers
from tests.support.fake_ledger import FakeLedger
from tests.support.wait import wait_for_async


async def _submit(ledger: FakeLedger, project: str, count: int, *command: str) -> list[str]:
    return list(await asyncio.gather(*(ledger.submit(project, *command) for _ in range(count))))


async def test_a_long_queue_does_not_hold_up_another_projects_single_job(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    await ledger.create_project("beta")
    many = await _submit(ledger, "alpha", 60, "sleep", "0.2")
    worker = start_worker(slots=2)
    await wait_for_async(lambda: len(worker.handler.order) >= 6, what="the long queue is served")
    single = await ledger.submit("beta", "noop")
    before = len(worker.handler.order)
    await ledger.result_of(single)
    turn = [project for project, _ in worker.handler.order].index("beta")
    # For each slot, what it was asking for when the single job came, and one more.
    assert turn <= before + 4
    assert worker.handler.most_running == 2
    await wait_for_async(lambda: len(ledger.results) == 61, what="all done")
    assert set(worker.handler.runs) == {*many, single}


async def test_two_long_queues_are_served_in_turn(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    await ledger.create_project("beta")
    await _submit(ledger, "alpha", 20, "sleep", "0.05")
    await _submit(ledger, "beta", 20, "sleep", "0.05")
    worker = start_worker(slots=2)
    await wait_for_async(lambda: len(ledger.results) == 40, what="all done")
    projects = [project for project, _ in worker.handler.order]
    # While both have some: over any stretch, neither is more than a few ahead.
    for upto in range(4, 32, 4):
        assert abs(projects[:upto].count("alpha") - projects[:upto].count("beta")) <= 4


async def test_a_worker_takes_no_more_than_it_has_slots_and_another_takes_the_rest(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    full = start_worker(slots=2)
    await wait_for_async(lambda: ledger.requests, what="the first worker is there")
    mine = await _submit(ledger, "alpha", 2, "sleep", "60")
    await wait_for_async(lambda: full.handler.running == 2, what="the first worker is full")
    rest = await _submit(ledger, "alpha", 3, "noop")
    await wait_for_async(
        lambda: ledger.ready("alpha"), what="what it has no slot for stays on the queue"
    )
    assert len(ledger.asked(Claim)) == 2
    other = start_worker(slots=2)
    for job_id in rest:
        await ledger.result_of(job_id)
    assert set(full.handler.runs) == set(mine)
    assert set(other.handler.runs) == set(rest)


async def test_a_full_worker_asks_for_nothing_of_any_project(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """It listened to both; what came with the last slot's message goes to who is free."""
    await ledger.create_project("beta")
    one = start_worker(slots=1)
    await wait_for_async(lambda: ledger.requests, what="the worker is there")
    first, second = await asyncio.gather(
        ledger.submit("alpha", "sleep", "60"), ledger.submit("beta", "sleep", "60")
    )
    await wait_for_async(lambda: one.handler.running, what="the worker is full")
    other = start_worker(slots=1)
    await wait_for_async(lambda: other.handler.running, what="the other job runs elsewhere")
    assert set(one.handler.runs) | set(other.handler.runs) == {first, second}
    assert one.handler.most_running == other.handler.most_running == 1


async def test_a_project_that_is_called_out_is_served_without_a_restart(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker(projects_s=600.0)
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await ledger.create_project("gamma", announce=True)
    await ledger.result_of(await ledger.submit("gamma", "noop"))


async def test_a_project_whose_call_was_missed_is_found_by_asking(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker(projects_s=0.3)
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await ledger.create_project("gamma")
    await ledger.result_of(await ledger.submit("gamma", "noop"))


async def test_a_project_is_served_as_soon_as_its_queue_is_there(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(projects_s=600.0)
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await ledger.call_out(Control(op="project-created", project="late"))
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await ledger.create_project("late")
    job_id = await ledger.submit("late", "noop")
    await ledger.result_of(job_id)
    assert worker.handler.runs[job_id] == 1


async def test_a_deleted_project_is_let_go_and_a_queue_made_anew_is_taken_up_again(
    ledger: FakeLedger, start_worker: Workers, broker_url: str
) -> None:
    await ledger.create_project("beta")
    worker = start_worker(projects_s=600.0)
    await ledger.result_of(await ledger.submit("beta", "noop"))
    connection = await Connection.open(broker_url, "test")
    channel = await connection.channel()
    await channel.delete_queue(names.todo("beta"))
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await topology.declare(channel, "beta")
    await ledger.result_of(await ledger.submit("beta", "noop"))
    await ledger.call_out(Control(op="project-deleted", project="beta"))
    await ledger.result_of(await ledger.submit("alpha", "noop"))

    async def is_let_go() -> bool:
        return (await channel.declare_queue(names.todo("beta"), passive=True)).consumers == 0

    await wait_for_async(is_let_go, what="nobody listens to it any more")
    await connection.close()
    assert len(worker.handler.runs) == 4


async def test_many_projects_with_few_slots_are_all_served(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    projects = [f"p{n}" for n in range(12)]
    for project in projects:
        await ledger.create_project(project)
    workers = [start_worker(slots=2), start_worker(slots=3)]
    jobs = [job for project in projects for job in await _submit(ledger, project, 5, "started")]
    await wait_for_async(lambda: len(ledger.results) >= 60, 120, "all done")
    runs = workers[0].handler.runs + workers[1].handler.runs
    assert runs == dict.fromkeys(jobs, 1)
    assert workers[0].handler.most_running <= 2
    assert workers[1].handler.most_running <= 3
