"""Claims: who gets a job, and who does not."""

import asyncio

import orjson
import pytest
from qslice.messages.ledger import Reason
from qslice.states import ACTIVE, FINAL, State
from qslice_gateway.store import cancel, projects

from tests.support.ledger import HandWorker
from tests.support.store import PAYLOAD, Store
from tests.support.wait import wait_for_async


@pytest.mark.parametrize("state", [State.WAITING, State.QUEUED])
async def test_a_job_that_waits_is_granted_with_its_lease(
    store: Store, worker: HandWorker, state: State
) -> None:
    batch_id, (job_id, _) = store.batch(2)
    store.sql("DELETE FROM outbox")
    store.sql("UPDATE jobs SET state = %s WHERE id = %s", state, job_id)
    answer = await worker.claim(job_id)
    assert answer.granted
    assert (answer.job_id, answer.attempt, answer.batch_id) == (job_id, 1, batch_id)
    assert answer.submitted_at is not None
    job = store.job(job_id)
    assert (job["state"], job["worker"]) == ("running", "w1")
    (lease,) = store.sql(
        "SELECT extract(epoch FROM lease_until - now())::float AS s FROM jobs WHERE id = %s", job_id
    )
    assert worker.lease_s - 30 < lease["s"] <= worker.lease_s
    assert store.events(job_id)[-1] == "running"


async def test_a_claim_that_is_faster_than_the_relays_note_passes_queued(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.submit()
    store.sql("DELETE FROM outbox")
    assert (await worker.claim(job_id)).granted
    assert store.events(job_id) == ["queued", "running"]
    assert store.job(job_id)["queued_at"] is not None


@pytest.mark.parametrize("state", sorted(FINAL))
async def test_a_job_that_is_over_is_refused(
    store: Store, worker: HandWorker, state: State
) -> None:
    answer = await worker.claim(store.ended(state))
    expected = Reason.CANCELLED if state is State.CANCELLED else Reason.FINISHED
    assert answer.reason is expected


async def test_the_same_claim_twice_is_granted_twice_and_changes_nothing(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.queued()
    first = await worker.claim(job_id)
    again = await worker.claim(job_id)
    assert first == again
    assert first.granted
    assert store.events(job_id) == ["running"]


async def test_another_worker_is_refused_while_one_has_the_job(
    store: Store, worker: HandWorker, broker_url: str
) -> None:
    job_id = store.queued()
    other = await HandWorker.connect(broker_url, "w2")
    assert (await worker.claim(job_id)).granted
    assert (await other.claim(job_id)).reason is Reason.HELD
    assert store.job(job_id)["worker"] == "w1"
    await other.close()


async def test_of_many_that_claim_at_once_one_gets_the_job(
    store: Store, worker: HandWorker, broker_url: str
) -> None:
    others = [await HandWorker.connect(broker_url, f"w{n}") for n in range(2, 8)]
    job_ids = [store.queued() for _ in range(5)]
    for job_id in job_ids:
        answers = await asyncio.gather(*(one.claim(job_id) for one in (worker, *others)))
        assert sorted(answer.reason for answer in answers) == [Reason.GRANTED] + [Reason.HELD] * 6
        granted = next(
            one.name
            for one, answer in zip((worker, *others), answers, strict=True)
            if answer.granted
        )
        assert store.job(job_id)["worker"] == granted
        assert store.events(job_id) == ["running"]
    for one in others:
        await one.close()


@pytest.mark.parametrize("attempt", [1, 3])
async def test_a_message_of_another_attempt_is_refused(
    store: Store, worker: HandWorker, attempt: int
) -> None:
    job_id = store.queued()
    store.sql("UPDATE jobs SET attempt = 2 WHERE id = %s", job_id)
    assert (await worker.claim(job_id, attempt)).reason is Reason.HELD
    assert store.state(job_id) == "queued"
    assert (await worker.claim(job_id, 2)).granted


async def test_unknown_jobs_and_jobs_of_another_project_are_unknown(
    store: Store, worker: HandWorker
) -> None:
    projects.create(store.conn, "other", "bob")
    theirs = store.queued(project="other")
    assert (await worker.claim("job_localhost_none")).reason is Reason.UNKNOWN
    assert (await worker.claim(theirs)).reason is Reason.UNKNOWN
    assert store.state(theirs) == "queued"


async def test_a_job_that_was_cancelled_is_not_claimed(store: Store, worker: HandWorker) -> None:
    job_id = store.queued()
    cancel.job(store.conn, job_id)
    assert (await worker.claim(job_id)).reason is Reason.CANCELLED


async def test_jobs_of_a_deleted_project_are_not_claimed(store: Store, worker: HandWorker) -> None:
    job_id = store.queued()
    projects.delete(store.conn, "lab")
    assert (await worker.claim(job_id)).reason is Reason.CANCELLED
    assert (await worker.claim(payload=PAYLOAD)).reason is Reason.UNKNOWN
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")


async def test_a_labs_message_is_adopted_as_a_job_of_its_projects_owner(
    store: Store, worker: HandWorker
) -> None:
    answer = await worker.claim(
        producer_id="t-1", payload=PAYLOAD, labels={"sweep": "s1"}, priority=4
    )
    assert answer.granted
    assert answer.job_id is not None
    job = store.job(answer.job_id)
    assert (job["id"], job["state"], job["origin"], job["owner"]) == (
        "t-1",
        "running",
        "queue",
        "alice",
    )
    assert (job["payload"], job["labels"], job["priority"]) == (PAYLOAD, {"sweep": "s1"}, 4)
    assert store.events(answer.job_id) == ["queued", "running"]


async def test_the_same_labs_message_is_the_same_job(
    store: Store, worker: HandWorker, broker_url: str
) -> None:
    other = await HandWorker.connect(broker_url, "w2")
    first = await worker.claim(producer_id="t-1", payload=PAYLOAD)
    again = await worker.claim(producer_id="t-1", payload=PAYLOAD)
    assert again.granted
    assert again.job_id == first.job_id
    assert (await other.claim(producer_id="t-1", payload=PAYLOAD)).reason is Reason.HELD
    assert len(store.sql("SELECT * FROM jobs")) == 1
    await other.close()


async def test_a_labs_duplicate_of_a_job_that_waits_leaves_it_to_its_own_message(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.queued(producer_id="t-1")
    answer = await worker.claim(producer_id="t-1", payload=PAYLOAD)
    assert (answer.reason, answer.job_id) == (Reason.HELD, job_id)
    assert (await worker.claim(job_id)).granted


async def test_a_labs_duplicate_of_a_finished_job_gets_the_result_once_more(
    store: Store, worker: HandWorker
) -> None:
    first = await worker.claim(producer_id="t-1", payload=PAYLOAD)
    assert first.job_id is not None
    await worker.post(first.job_id, id="t-1", stdout="0.11\n")
    await wait_for_async(lambda: store.state(str(first.job_id)) == "succeeded")
    (posted,) = await worker.done()
    again = await worker.claim(producer_id="t-1", payload=PAYLOAD)
    assert (again.reason, again.job_id) == (Reason.FINISHED, first.job_id)
    (told_again,) = await worker.done()
    assert told_again == posted
    assert store.events(first.job_id) == ["queued", "running", "succeeded"]


async def test_messages_without_an_id_are_each_a_job_but_one_question_asked_twice_is_one(
    store: Store, worker: HandWorker
) -> None:
    first = await worker.claim(payload=PAYLOAD)
    asked_again = await worker.claim(payload=PAYLOAD, again=True)
    other = await worker.claim(payload=PAYLOAD)
    assert first.job_id == asked_again.job_id
    assert asked_again.granted
    assert other.job_id != first.job_id
    assert len(store.sql("SELECT * FROM jobs")) == 2


async def test_nul_characters_in_a_labs_message_do_not_stop_its_adoption(
    store: Store, worker: HandWorker
) -> None:
    answer = await worker.claim(payload={"command": ["a\x00b"]}, labels={"x": "\x00"})
    assert answer.granted
    assert store.job(str(answer.job_id))["payload"] == {"command": ["a\ufffdb"]}


async def test_nonsense_between_requests_is_dropped_and_the_others_are_answered(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.queued()
    nonsense = [b"", b"\xff", b"[]", b'{"op": "dance"}', orjson.dumps({"op": "claim"})]
    # Its attempt fits no column.
    too_large = {"op": "claim", "job_id": job_id, "attempt": 2**40, "project": "lab", "kind": "run"}
    nonsense.append(orjson.dumps({**too_large, "worker": "w", "lease_s": 1}))
    await asyncio.gather(*(worker.send(body) for body in nonsense))
    answers = await asyncio.gather(
        worker.claim(job_id), worker.beat(), worker.projects(), worker.owned("x")
    )
    assert answers[0].granted


async def test_heartbeats_extend_leases_and_tell_what_is_lost_or_to_be_cancelled(
    store: Store, worker: HandWorker
) -> None:
    mine, cancelled = store.running("w1", lease_s=30), store.running("w1")
    theirs, finished = store.running("w2"), store.ended()
    older = store.running("w1")
    store.sql("UPDATE jobs SET attempt = 2 WHERE id = %s", older)
    cancel.job(store.conn, cancelled)
    (before,) = store.sql("SELECT lease_until FROM jobs WHERE id = %s", mine)
    answer = await worker.beat(
        (mine, 1), (cancelled, 1), (theirs, 1), (finished, 1), (older, 1), ("job_none", 1)
    )
    assert set(answer.lost) == {theirs, finished, older, "job_none"}
    assert answer.cancel == [cancelled]
    (after,) = store.sql("SELECT lease_until FROM jobs WHERE id = %s", mine)
    assert after["lease_until"] > before["lease_until"]
    (seen,) = store.sql("SELECT * FROM workers")
    assert (seen["name"], seen["kind"], seen["slots"], seen["jobs"]) == ("w1", "run", 4, 6)


async def test_a_job_is_owned_while_a_worker_has_it(store: Store, worker: HandWorker) -> None:
    by_state = {state: store.in_state(state) for state in [*ACTIVE, *FINAL]}
    store.sql("DELETE FROM outbox")
    owned = await worker.owned(*by_state.values(), "job_localhost_none")
    assert owned == [by_state[State.RUNNING]]
