"""The relay: what was committed is published, in order of urgency, and once while nothing dies."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import orjson
import psycopg
import pytest
from qslice import names
from qslice_gateway.store import cancel, jobs, projects
from qslice_gateway.store.doorbell import Doorbell

from tests.support.ledger import HandWorker, job_of, running_ledger
from tests.support.store import PAYLOAD, Store
from tests.support.wait import wait_for_async


@pytest.fixture
async def second(
    worker: HandWorker, broker_url: str, database_url: str
) -> AsyncIterator[asyncio.Task[None]]:
    """Another ledger beside the first."""
    async with running_ledger(broker_url, database_url) as task:
        yield task


async def test_a_submitted_job_comes_to_its_queue_with_its_names(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.submit(priority=3)
    message = await worker.take_one()
    assert orjson.loads(message.body) == PAYLOAD
    assert job_of(message) == (job_id, 1)
    assert (message.message_id, message.priority) == (f"{job_id}:1", 3)
    assert message.delivery_mode == 2
    await wait_for_async(lambda: store.state(job_id) == "queued")
    assert store.events(job_id) == ["queued"]
    assert store.outbox() == []


async def test_a_bell_is_heard_sooner_than_the_relay_looks_by_itself(
    store: Store, worker: HandWorker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qslice_gateway.ledger.relay.LOOK_S", 3600.0)
    bell = Doorbell(database_url)
    # The look that was under way still ends by the old time.
    for _ in range(2):
        job_id = store.submit()
        bell.ring()
        assert job_of(await worker.take_one()) == (job_id, 1)
    bell.close()


async def test_a_delayed_message_is_not_sent_before_its_time(
    store: Store, worker: HandWorker
) -> None:
    with store.conn.transaction():
        later = store.submit()
        store.sql("UPDATE outbox SET not_before = now() + interval '1.5 s'")
    began = time.monotonic()
    sooner = store.submit()
    assert job_of(await worker.take_one())[0] == sooner
    assert job_of(await worker.take_one())[0] == later
    assert time.monotonic() - began >= 1.4


async def test_two_relays_publish_each_job_once(
    store: Store, worker: HandWorker, second: asyncio.Task[None]
) -> None:
    many = [store.new() for _ in range(1500)]
    jobs.submit_many(store.conn, many)
    singles = [store.submit() for _ in range(20)]
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    seen: Counter[str] = Counter()
    while (message := await worker.take()) is not None:
        seen[job_of(message)[0]] += 1
    assert set(seen) == {job.id for job in many} | set(singles)
    assert set(seen.values()) == {1}
    assert {row["state"] for row in store.sql("SELECT state FROM jobs")} == {"queued"}


async def test_a_message_whose_queue_is_missing_gets_it_declared_again(
    store: Store, worker: HandWorker
) -> None:
    await worker.channel.queue_delete("lab.ToDo")
    job_id = store.submit()
    assert job_of(await worker.take_one()) == (job_id, 1)
    await wait_for_async(lambda: store.state(job_id) == "queued")


async def test_a_message_for_a_project_that_is_gone_is_dropped(
    store: Store, worker: HandWorker
) -> None:
    with store.conn.transaction():
        job_id = store.submit()
        store.sql("UPDATE projects SET deleted_at = now()")
        store.sql("UPDATE outbox SET routing_key = 'gone.ToDo'")
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    assert await worker.nothing_on("lab.ToDo")
    assert store.job(job_id)["job_id"] == job_id


async def test_a_new_project_has_its_queues_before_workers_hear_of_it(
    store: Store, worker: HandWorker
) -> None:
    control = await worker.channel.declare_queue(exclusive=True)
    await control.bind(names.EXCHANGE_CONTROL)
    projects.create(store.conn, "fresh", "bob")
    heard = await worker.take_one(control.name)
    assert orjson.loads(heard.body) == {"op": "project-created", "project": "fresh"}
    for queue in names.queues("fresh"):
        await worker.channel.declare_queue(queue, passive=True)
    assert await worker.projects() == ["fresh", "lab"]


async def test_the_queues_of_a_deleted_project_go(store: Store, worker: HandWorker) -> None:
    control = await worker.channel.declare_queue(exclusive=True)
    await control.bind(names.EXCHANGE_CONTROL)
    projects.delete(store.conn, "lab")
    heard = await worker.take_one(control.name)
    assert orjson.loads(heard.body) == {"op": "project-deleted", "project": "lab"}
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    probe = await worker.connection.channel()
    with pytest.raises(Exception, match="NOT_FOUND"):
        await probe.declare_queue("lab.ToDo", passive=True)


async def test_a_cancelled_job_that_waited_is_told_on_done_and_never_queued(
    store: Store, worker: HandWorker
) -> None:
    with store.conn.transaction():
        job_id = store.submit(producer_id="t-1")
        cancel.job(store.conn, job_id)
    (result,) = await worker.done()
    assert (result.job_id, result.id, result.state) == (job_id, "t-1", "cancelled")
    assert await worker.nothing_on("lab.ToDo")


async def test_a_cancel_overtakes_a_bulk_that_waits(store: Store, worker: HandWorker) -> None:
    running = store.running()
    control = await worker.channel.declare_queue(exclusive=True)
    await control.bind(names.EXCHANGE_CONTROL)
    with store.conn.transaction():
        jobs.submit_many(store.conn, [store.new() for _ in range(3000)])
        cancel.job(store.conn, running)
    heard = await worker.take_one(control.name)
    assert orjson.loads(heard.body) == {"op": "cancel", "job_id": running}
    # It came with the first batch of 200.
    assert len(store.outbox()) >= 2000
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")


async def test_what_a_dead_relay_held_is_taken_by_another(
    store: Store, worker: HandWorker, database_url: str
) -> None:
    with psycopg.connect(database_url) as dead:
        with store.conn.transaction():
            job_id = store.submit()
            store.sql("UPDATE outbox SET not_before = now() + interval '0.5 s'")
        dead.execute("SELECT * FROM outbox FOR UPDATE")
        other = store.submit()
        assert job_of(await worker.take_one())[0] == other
    # Its connection is gone, as after kill -9.
    assert job_of(await worker.take_one())[0] == job_id
