"""Attempts that end without a result: faults, releases, lost workers."""

import asyncio

import orjson
import pytest
from qslice import names
from qslice.backoff import Backoff
from qslice.messages.ledger import EventType, Reason
from qslice_gateway.store import cancel, dead, reads

from tests.support.ledger import HandWorker, job_of, running_ledger
from tests.support.store import PAYLOAD, Store
from tests.support.wait import wait_for_async

ERROR = {"owner": "system", "code": "docker_unavailable", "message": "no engine"}


async def fail(worker: HandWorker, job_id: str, attempt: int) -> None:
    await worker.tell(EventType.FAULT, job_id, attempt, error=ERROR)


async def test_a_fault_puts_the_job_on_its_queue_again_with_the_next_attempt(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running(priority=2)
    await fail(worker, job_id, 1)
    message = await worker.take_one()
    assert job_of(message) == (job_id, 2)
    assert orjson.loads(message.body) == PAYLOAD
    assert message.priority == 2
    job = store.job(job_id)
    assert (job["state"], job["attempt"], job["faults"], job["worker"]) == ("queued", 2, 1, None)
    (event,) = reads.events(store.conn, job_id)
    assert (event["type"], event["attempt"]) == ("queued", 2)
    assert (event["data"]["reason"], event["data"]["error"]) == ("fault", ERROR)
    assert (await worker.claim(job_id, 1)).reason is Reason.HELD
    assert (await worker.claim(job_id, 2)).granted


async def test_a_fault_waits_for_its_backoff(
    store: Store, broker_url: str, database_url: str
) -> None:
    async with running_ledger(broker_url, database_url, Backoff(base=600, cap=600)):
        worker = await HandWorker.connect(broker_url)
        await worker.projects()
        job_id = store.running()
        await fail(worker, job_id, 1)
        await wait_for_async(lambda: store.state(job_id) == "queued")
        (row,) = store.sql("SELECT extract(epoch FROM not_before - now())::float AS s FROM outbox")
        assert 240 < row["s"] <= 600
        assert (await worker.claim(job_id, 1)).reason is Reason.HELD
        # Waiting for its time, it can be cancelled, and its message is taken back.
        cancel.job(store.conn, job_id)
        assert store.state(job_id) == "cancelled"
        assert store.outbox(names.EXCHANGE_TODO) == []
        await worker.close()


async def test_the_last_fault_ends_the_job_as_dead_and_everybody_is_told(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running(producer_id="t-1")
    for attempt in (1, 2):
        await fail(worker, job_id, attempt)
        assert job_of(await worker.take_one()) == (job_id, attempt + 1)
        assert (await worker.claim(job_id, attempt + 1)).granted
    await fail(worker, job_id, 3)
    (result,) = await worker.done()
    assert (result.job_id, result.id, result.state, result.attempt) == (job_id, "t-1", "dead", 3)
    assert result.error is not None
    assert result.error.code == "docker_unavailable"
    assert result.error.message == "Given up after 3 failures; the last: no engine"
    on_dead = await worker.take_one("lab.Dead")
    assert orjson.loads(on_dead.body) == PAYLOAD
    assert on_dead.headers[names.HEADER_JOB] == job_id
    assert on_dead.headers[names.HEADER_QUEUE] == "lab.ToDo"
    job = store.job(job_id)
    assert (job["state"], job["faults"], job["error_owner"]) == ("dead", 3, "system")
    (letter,) = await wait_for_async(lambda: dead.listed(store.conn, "lab"))
    assert (letter["job_id"], letter["owner"], letter["queue"]) == (job_id, "system", "lab.ToDo")
    assert await worker.nothing_on("lab.ToDo")


@pytest.mark.parametrize("type_", [EventType.FAULT, EventType.RELEASED])
async def test_what_is_told_of_an_attempt_that_is_over_changes_nothing(
    store: Store, worker: HandWorker, type_: EventType
) -> None:
    retried, finished, waiting = store.running(), store.ended(), store.queued()
    store.sql("UPDATE jobs SET attempt = 2 WHERE id = %s", retried)
    for job_id in (retried, finished, waiting, "job_localhost_none"):
        await asyncio.gather(*(worker.tell(type_, job_id, 1) for _ in range(3)))
    last = store.running()
    await fail(worker, last, 1)
    assert job_of(await worker.take_one()) == (last, 2)
    states = [store.state(job_id) for job_id in (retried, finished, waiting)]
    assert states == ["running", "failed", "queued"]
    assert store.events(retried) + store.events(finished) + store.events(waiting) == []


async def test_a_fault_told_twice_counts_once(store: Store, worker: HandWorker) -> None:
    job_id = store.running()
    await asyncio.gather(*(fail(worker, job_id, 1) for _ in range(5)))
    assert job_of(await worker.take_one()) == (job_id, 2)
    last = store.running()
    await fail(worker, last, 1)
    assert job_of(await worker.take_one()) == (last, 2)
    assert store.job(job_id)["faults"] == 1


async def test_a_released_job_is_queued_again_at_once_without_a_fault(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running()
    store.sql("UPDATE jobs SET faults = 2 WHERE id = %s", job_id)
    await worker.tell(EventType.RELEASED, job_id)
    assert job_of(await worker.take_one()) == (job_id, 2)
    assert store.job(job_id)["faults"] == 2


@pytest.mark.parametrize("type_", [EventType.FAULT, EventType.RELEASED])
async def test_a_job_that_was_to_be_cancelled_is_not_tried_again(
    store: Store, worker: HandWorker, type_: EventType
) -> None:
    job_id = store.running()
    cancel.job(store.conn, job_id)
    await worker.tell(type_, job_id)
    (result,) = await worker.done()
    assert (result.job_id, result.state) == (job_id, "cancelled")
    assert store.state(job_id) == "cancelled"
    assert await worker.nothing_on("lab.ToDo")


async def test_the_jobs_of_a_silent_worker_go_to_another_with_the_next_attempt(
    store: Store, worker: HandWorker, broker_url: str
) -> None:
    worker.lease_s = 1.5
    job_id = store.queued()
    assert (await worker.claim(job_id)).granted
    message = await worker.take_one()
    assert job_of(message) == (job_id, 2)
    job = store.job(job_id)
    assert (job["faults"], job["worker"]) == (1, None)
    (event,) = [e for e in reads.events(store.conn, job_id) if e["data"] and "reason" in e["data"]]
    assert event["data"]["error"]["code"] == "worker_lost"
    assert "w1" in event["data"]["error"]["message"]
    other = await HandWorker.connect(broker_url, "w2")
    assert (await other.claim(job_id, 2)).granted
    # The first one comes back: the job is not its any more, and its result counts for nothing.
    assert (await worker.beat((job_id, 1))).lost == [job_id]
    await worker.post(job_id, 1)
    await other.post(job_id, 2, stdout="two")
    await wait_for_async(lambda: store.state(job_id) == "succeeded")
    assert store.job(job_id)["result"]["stdout"] == "two"
    await other.close()


async def test_a_worker_that_beats_keeps_its_jobs_for_many_leases(
    store: Store, worker: HandWorker
) -> None:
    worker.lease_s = 2.5
    job_id = store.queued()
    assert (await worker.claim(job_id)).granted
    for _ in range(12):
        await asyncio.sleep(0.5)
        assert (await worker.beat((job_id, 1))).lost == []
    assert store.job(job_id)["attempt"] == 1


async def test_a_lost_workers_cancelled_job_ends_as_cancelled(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running(lease_s=1)
    cancel.job(store.conn, job_id)
    (result,) = await worker.done()
    assert (result.job_id, result.state) == (job_id, "cancelled")
    assert store.events(job_id) == ["cancel_requested", "cancelled"]


async def test_silence_while_the_ledger_was_away_does_not_count(
    store: Store, broker_url: str, database_url: str
) -> None:
    lease_s = 4.0
    job_id = store.running("w1", lease_s=lease_s)
    # Its lease has been over for an hour: no ledger was there to hear its heartbeats.
    store.sql("UPDATE jobs SET lease_until = now() - interval '1 hour'")
    async with running_ledger(broker_url, database_url):
        worker = await HandWorker.connect(broker_url, "w1")
        worker.lease_s = lease_s
        assert (await worker.beat((job_id, 1))).lost == []
        assert store.job(job_id)["attempt"] == 1
        # From now on it is heard, so from now on its silence counts.
        assert job_of(await worker.take_one()) == (job_id, 2)
        await worker.close()


async def test_two_ledgers_put_a_lost_job_back_once(
    store: Store, worker: HandWorker, broker_url: str, database_url: str
) -> None:
    async with running_ledger(broker_url, database_url):
        ids = [store.running(lease_s=0.5) for _ in range(30)]
        seen = [job_of(await worker.take_one()) for _ in ids]
        assert sorted(seen) == sorted((job_id, 2) for job_id in ids)
        assert await worker.nothing_on("lab.ToDo")
    assert {store.job(job_id)["faults"] for job_id in ids} == {1}
