"""What the ledger does by itself: purge, put lost messages back, count, show that it lives."""

import asyncio
from datetime import timedelta

from qslice.backoff import Backoff
from qslice.messages.ledger import Reason
from qslice_gateway.ledger import metrics
from qslice_gateway.ledger.broker import Link
from qslice_gateway.ledger.presence import Gauges
from qslice_gateway.ledger.purge import Purge
from qslice_gateway.ledger.queues import Queues
from qslice_gateway.ledger.stuck import Stuck
from qslice_gateway.store import health, reads
from qslice_gateway.store.pool import open_async_pool

from tests.support.ledger import HandWorker, job_of, running_ledger
from tests.support.store import Store
from tests.support.wait import wait_for_async


def fill(store: Store, job_id: str) -> None:
    store.sql("INSERT INTO job_events (job_id, attempt, type) VALUES (%s, 1, 'running')", job_id)
    store.sql(
        """INSERT INTO job_logs (job_id, attempt, seq, stream, at, text)
           VALUES (%s, 1, 1, 'stdout', now(), 'x')""",
        job_id,
    )
    store.sql("INSERT INTO job_log_sizes (job_id, bytes) VALUES (%s, 1)", job_id)


async def test_events_and_logs_of_old_finished_jobs_go_and_the_jobs_stay(
    store: Store, database_url: str
) -> None:
    old, young, running = store.ended(), store.ended(), store.running()
    for job_id in (old, young, running):
        fill(store, job_id)
    store.sql("UPDATE jobs SET finished_at = now() - interval '31 days' WHERE id = %s", old)
    store.sql("UPDATE jobs SET submitted_at = now() - interval '90 days'")
    store.sql("INSERT INTO workers (name, kind, slots) VALUES ('fresh', 'run', 1)")
    store.sql(
        """INSERT INTO workers (name, kind, slots, seen_at)
           VALUES ('gone', 'run', 1, now() - interval '40 days')"""
    )
    store.sql(
        """INSERT INTO dead_letters (project, body, reason, owner, at, replayed_at, deleted_at)
           SELECT 'lab', '', reason, 'user', now() - interval '40 days', replayed_at, deleted_at
           FROM (VALUES ('replayed', now(), NULL), ('deleted', NULL, now()),
                        ('untouched', NULL, NULL)) AS v (reason, replayed_at, deleted_at)"""
    )
    async with open_async_pool(database_url, size=1) as pool:
        purge = Purge(pool, timedelta(days=30))
        assert await purge.purge() == 1
        assert await purge.purge() == 0
    assert store.events(old) == []
    assert reads.logs(store.conn, old) == []
    assert store.job(old)["state"] == "failed"
    for job_id in (young, running):
        assert store.events(job_id) == ["running"]
        assert len(reads.logs(store.conn, job_id)) == 1
    assert [row["name"] for row in store.sql("SELECT name FROM workers")] == ["fresh"]
    # What nobody has looked after stays until somebody does.
    assert [row["reason"] for row in store.sql("SELECT reason FROM dead_letters")] == ["untouched"]


async def test_more_old_jobs_than_one_transaction_takes_are_purged(
    store: Store, database_url: str
) -> None:
    store.batch(1200)
    store.sql("UPDATE jobs SET state = 'failed', finished_at = now() - interval '31 days'")
    async with open_async_pool(database_url, size=1) as pool:
        assert await Purge(pool, timedelta(days=30)).purge() == 1200


async def test_jobs_whose_messages_were_lost_are_put_on_their_queue_again(
    store: Store, worker: HandWorker, broker_url: str, database_url: str
) -> None:
    lost = [store.queued(priority=5), store.queued()]
    fresh, running = store.queued(), store.running()
    with store.conn.transaction():
        delayed = store.submit()
        store.sql("UPDATE outbox SET not_before = now() + interval '1 hour'")
        store.sql("UPDATE jobs SET state = 'queued' WHERE id = %s", delayed)
        store.sql(
            "UPDATE jobs SET queued_at = now() - interval '10 minutes' WHERE id = ANY(%s)",
            [*lost, delayed, running],
        )
    store.sql("UPDATE jobs SET attempt = 3 WHERE id = %s", lost[0])
    link = await Link.open(broker_url, "test")
    async with open_async_pool(database_url, size=2) as pool:
        stuck = Stuck(pool, Queues(link, pool), lambda: None)
        assert await stuck.look() == 2
        seen = {job_of(await worker.take_one()) for _ in lost}
        assert seen == {(lost[0], 3), (lost[1], 1)}
        assert await worker.nothing_on("lab.ToDo")
        # Not before they have waited as long again.
        assert await stuck.look() == 0
    await link.close()
    assert (await worker.claim(lost[0], 3)).granted
    assert (await worker.claim(lost[0], 3, worker="w2")).reason is Reason.HELD
    assert store.state(fresh) == "queued"


async def test_jobs_that_wait_behind_others_on_a_queue_are_not_missed(
    store: Store, worker: HandWorker, broker_url: str, database_url: str
) -> None:
    job_id = store.submit()
    await wait_for_async(lambda: store.state(job_id) == "queued")
    store.sql("UPDATE jobs SET queued_at = now() - interval '1 day'")
    link = await Link.open(broker_url, "test")
    async with open_async_pool(database_url, size=2) as pool:

        async def looked_at_a_full_queue() -> bool:
            queues = Queues(link, pool)
            return await queues.ready("lab", "run") == 1

        await wait_for_async(looked_at_a_full_queue)
        assert await Stuck(pool, Queues(link, pool), lambda: None).look() == 0
    await link.close()


async def test_a_queue_that_is_there_in_another_form_is_left_and_the_ledger_lives(
    store: Store, broker_url: str, database_url: str
) -> None:
    link = await Link.open(broker_url, "test")
    channel = await link.channel()
    await channel.declare_queue("lab.ToDo", durable=True, arguments={"x-queue-type": "classic"})
    await link.close()
    async with running_ledger(broker_url, database_url) as ledger:
        worker = await HandWorker.connect(broker_url)
        assert await worker.projects() == ["lab"]
        await wait_for_async(lambda: health.ledger_alive(store.conn))
        assert not ledger.done()
        await worker.close()


async def test_gauges_count_what_is_to_be_done(store: Store, database_url: str) -> None:
    store.submit()
    store.queued(kind="k8s")
    store.queued()
    store.running()
    store.ended()
    store.sql("INSERT INTO workers (name, kind, slots) VALUES ('a', 'run', 4), ('b', 'run', 2)")
    async with open_async_pool(database_url, size=1) as pool:
        await Gauges(pool, ("run", "openstack", "k8s")).read()

    def value(name: str, **labels: str) -> float | None:
        return metrics.REGISTRY.get_sample_value(name, labels)

    assert value("qslice_outbox_messages") == 1
    assert value("qslice_jobs", state="waiting") == 1
    assert value("qslice_jobs", state="queued") == 2
    assert value("qslice_jobs", state="running") == 1
    assert value("qslice_workers", kind="run") == 2
    assert value("qslice_worker_slots", kind="run") == 6


async def test_a_stopped_ledger_ends_what_is_under_way(
    store: Store, broker_url: str, database_url: str
) -> None:
    async with running_ledger(broker_url, database_url, Backoff(base=0)):
        worker = await HandWorker.connect(broker_url)
        assert await worker.projects() == ["lab"]
        job_ids = [store.running() for _ in range(50)]
        await asyncio.gather(*(worker.post(job_id) for job_id in job_ids))
        await worker.close()
    # Whatever it had not looked at goes to the next one.
    async with running_ledger(broker_url, database_url):
        await wait_for_async(lambda: {store.state(job_id) for job_id in job_ids} == {"succeeded"})
