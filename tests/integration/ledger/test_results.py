"""Results end jobs: the first of the attempt that runs; cancels and results race."""

import asyncio

import orjson
import pytest
from qslice import names
from qslice.states import ACTIVE, FINAL, State
from qslice_gateway.store import batches, cancel, dead

from tests.support.ledger import HandWorker
from tests.support.store import Store
from tests.support.wait import wait_for_async


async def settled(worker: HandWorker, store: Store) -> None:
    """All results that were posted so far have been looked at: a last one has."""
    last = store.running()
    await worker.post(last)
    await wait_for_async(lambda: store.state(last) == "succeeded")


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_result_ends_its_job(store: Store, worker: HandWorker, state: State) -> None:
    job_id = store.running()
    error = {"owner": "user", "code": "exit_code", "message": "3"}
    await worker.post(
        job_id, state=state, exit_code=3, stdout="0.11\n", result={"rate": 0.11}, error=error
    )
    await wait_for_async(lambda: store.state(job_id) == state)
    job = store.job(job_id)
    assert (job["exit_code"], job["error_owner"], job["error_code"]) == (3, "user", "exit_code")
    assert job["result"]["result"] == {"rate": 0.11}
    assert job["finished_at"] is not None
    assert store.events(job_id) == [state]
    (lease,) = store.sql("SELECT lease_until FROM jobs WHERE id = %s", job_id)
    assert lease["lease_until"] is None


async def test_a_result_told_ten_times_ends_its_job_once(store: Store, worker: HandWorker) -> None:
    job_id = store.running()
    await asyncio.gather(*(worker.post(job_id, stdout=str(n)) for n in range(10)))
    await settled(worker, store)
    assert store.events(job_id) == ["succeeded"]


@pytest.mark.parametrize("attempt", [1, 3])
async def test_a_result_of_another_attempt_is_ignored(
    store: Store, worker: HandWorker, attempt: int
) -> None:
    job_id = store.running()
    store.sql("UPDATE jobs SET attempt = 2 WHERE id = %s", job_id)
    await worker.post(job_id, attempt)
    await settled(worker, store)
    assert store.state(job_id) == "running"


@pytest.mark.parametrize("state", sorted(set(ACTIVE) - {State.RUNNING}))
async def test_a_result_of_a_job_that_nobody_has_is_ignored(
    store: Store, worker: HandWorker, state: State
) -> None:
    with store.conn.transaction():
        job_id = store.in_state(state)
        store.sql("UPDATE outbox SET not_before = now() + interval '1 hour'")
    await worker.post(job_id)
    await settled(worker, store)
    assert store.state(job_id) == state


async def test_a_result_does_not_change_the_end_of_a_job(store: Store, worker: HandWorker) -> None:
    cancelled = store.queued()
    cancel.job(store.conn, cancelled)
    await worker.post(cancelled)
    await settled(worker, store)
    assert store.state(cancelled) == "cancelled"
    assert store.events(cancelled) == ["cancelled"]


async def test_a_result_that_is_faster_than_the_cancel_is_kept(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running()
    cancel.job(store.conn, job_id)
    await worker.post(job_id)
    await wait_for_async(lambda: store.state(job_id) == "succeeded")
    answer = cancel.job(store.conn, job_id)
    assert answer is not None
    assert answer["state"] == "succeeded"
    assert store.events(job_id) == ["cancel_requested", "succeeded"]


async def test_the_cancel_of_a_running_job_ends_with_its_workers_result(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running()
    cancel.job(store.conn, job_id)
    assert (await worker.beat((job_id, 1))).cancel == [job_id]
    await worker.post(job_id, state=State.CANCELLED)
    await wait_for_async(lambda: store.state(job_id) == "cancelled")


async def test_a_result_of_another_projects_job_is_ignored(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running()
    await worker.post(job_id, project="other")
    await settled(worker, store)
    assert store.state(job_id) == "running"


async def test_nul_characters_and_surrogates_do_not_poison_a_batch(
    store: Store, worker: HandWorker
) -> None:
    ids = [store.running() for _ in range(5)]
    strange = store.running()
    body = orjson.dumps(
        {
            "job_id": strange,
            "project": "lab",
            "kind": "run",
            "state": "failed",
            "attempt": 1,
            "stdout": "A",
        }
    ).replace(b'"A"', rb'"a\u0000b\ud800", "result": {"\u0000": NaN, "deep": ' + b"[" * 400)
    body = body[:-1] + b"]" * 400 + b"}}"
    await asyncio.gather(
        *(worker.post(job_id) for job_id in ids),
        worker.publish(names.EXCHANGE_DONE, "lab.run.failed", body),
    )
    await wait_for_async(lambda: store.state(strange) == "failed")
    await settled(worker, store)
    assert {store.state(job_id) for job_id in ids} == {"succeeded"}
    assert "\x00" not in store.job(strange)["result"]["stdout"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        b'{"job_id": 3, "state": "failed"}',
        b'{"job_id": "x", "project": "lab", "attempt": 99999999999, "state": "failed"}',
        b'{"job_id": "x", "project": "lab", "attempt": 1, "state": "running"}',
    ],
)
async def test_nonsense_among_results_is_kept_as_a_dead_letter_of_its_project(
    store: Store, worker: HandWorker, body: bytes
) -> None:
    first, last = store.running(), store.running()
    await worker.post(first)
    await worker.publish(names.EXCHANGE_DONE, "lab.run.failed", body)
    await worker.post(last)
    await wait_for_async(lambda: store.state(last) == "succeeded")
    assert store.state(first) == "succeeded"
    letters = await wait_for_async(lambda: dead.listed(store.conn, "lab"))
    assert (letters[0]["owner"], letters[0]["body"]) == ("system", body.decode())
    assert "cannot be stored" in letters[0]["reason"]


async def test_the_end_of_a_batch_is_told_once_with_its_counts(
    store: Store, worker: HandWorker
) -> None:
    heard = await worker.channel.declare_queue(exclusive=True)
    await heard.bind(names.EXCHANGE_EVENTS, names.event_key("lab", "batch", "finished"))
    with store.conn.transaction():
        batch_id, members = store.batch(20)
        store.sql("DELETE FROM outbox")
        store.sql("UPDATE jobs SET state = 'running', worker = 'w1', lease_s = 60")
        store.sql("UPDATE jobs SET lease_until = now() + interval '1 minute'")
    await asyncio.gather(
        *(
            worker.post(job_id, state=State.SUCCEEDED if n % 4 else State.FAILED)
            for n, job_id in enumerate(members)
        )
    )
    told = orjson.loads((await worker.take_one(heard.name)).body)
    assert (told["type"], told["batch_id"], told["project"]) == ("batch", batch_id, "lab")
    assert (told["total"], told["counts"]) == (20, {"succeeded": 15, "failed": 5})
    found = batches.get(store.conn, batch_id)
    assert found is not None
    assert found["finished_at"] is not None
    await settled(worker, store)
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    assert await worker.nothing_on(heard.name)


async def test_a_batch_that_is_cancelled_ends_too(store: Store, worker: HandWorker) -> None:
    with store.conn.transaction():
        batch_id, _ = store.batch(3)
        cancel.batch(store.conn, batch_id)

    def is_over() -> bool:
        found = batches.get(store.conn, batch_id)
        assert found is not None
        return found["finished_at"] is not None

    await wait_for_async(is_over)
    assert len(await worker.done(3)) == 3
