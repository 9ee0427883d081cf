"""A message becomes a job only once the ledger granted it, and then exactly once."""

from __future__ import annotations

import asyncio

import pytest
from qslice import names
from qslice.messages.ledger import Claim, Reason
from qslice.states import State

from tests.integration.worker.conftest import Workers
from tests.support.fake_ledger import FakeLedger, run_body
from tests.support.wait import wait_for_async


async def test_a_claimed_job_runs_and_its_result_says_all_there_is_to_say(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker()
    job_id = await ledger.submit("alpha", "print", "hello", id="t-1", labels={"sweep": "s1"})
    ledger.jobs[job_id].batch_id = "batch_x"
    result = await ledger.result_of(job_id)
    record = ledger.jobs[job_id]
    assert (result.state, result.exit_code, result.stdout) == (State.SUCCEEDED, 0, "hello\n")
    assert (result.id, result.project, result.attempt, result.batch_id) == (
        "t-1",
        "alpha",
        1,
        "batch_x",
    )
    assert (result.labels, result.worker) == ({"sweep": "s1"}, worker.name)
    assert result.submitted_at == record.submitted_at
    assert result.started_at is not None
    assert result.started_at <= result.finished_at
    assert result.duration_s is not None
    await wait_for_async(lambda: ledger.ready("alpha", names.done("alpha")), what="Done has it")
    assert await ledger.ready("alpha") == 0


async def test_a_claim_says_who_asks_for_what_and_carries_no_payload_of_a_known_job(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(lease_s=7.0)
    job_id = await ledger.submit("alpha", "noop", priority=5)
    await ledger.result_of(job_id)
    (claim,) = ledger.asked(Claim)
    assert claim == Claim(
        job_id=job_id,
        attempt=1,
        project="alpha",
        kind="run",
        priority=5,
        worker=worker.name,
        lease_s=7.0,
    )


async def test_a_lab_scripts_message_is_claimed_with_its_payload_for_adoption(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker()
    body = (
        b'{"ID_projet": 7, "ID_tache": "a", "URL_git": "https://git.example/q.git", "CMD": "noop"}'
    )
    await ledger.publish_raw("alpha", body)
    await wait_for_async(lambda: ledger.results, what="a result")
    (result,) = ledger.results
    assert (result.id, result.ID_projet, result.ID_tache) == ("7/a", 7, "a")
    (claim,) = ledger.asked(Claim)
    assert (claim.job_id, claim.attempt, claim.producer_id) == (None, 0, "7/a")
    assert claim.payload is not None
    assert claim.payload["command"] == ["noop"]


async def test_sealed_credentials_reach_the_handler_and_nothing_else(
    ledger: FakeLedger, start_worker: Workers, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger.credentials = {"sealed": "c2VhbGVk", "key": "k1"}
    worker = start_worker()
    job_id = await ledger.submit("alpha", "noop")
    result = await ledger.result_of(job_id)
    assert worker.handler.jobs[0].credentials == {"sealed": "c2VhbGVk", "key": "k1"}
    assert b"c2VhbGVk" not in result.body()
    assert "c2VhbGVk" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("reason", [Reason.FINISHED, Reason.CANCELLED, Reason.HELD])
async def test_what_is_refused_is_dropped_and_the_next_is_done(
    ledger: FakeLedger, start_worker: Workers, reason: Reason
) -> None:
    refused = await ledger.submit("alpha", "noop")
    ledger.refuse[refused] = reason
    worker = start_worker(slots=1)
    done = await ledger.submit("alpha", "noop")
    await ledger.result_of(done)
    assert worker.handler.runs == {done: 1}
    await worker.stop()
    assert await ledger.ready("alpha") == 0
    assert not ledger.dead


async def test_what_nobody_knows_goes_to_dead_with_the_reason(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    stray = run_body("noop")
    headers = {names.HEADER_JOB: "job_unknown", names.HEADER_ATTEMPT: 1}
    await ledger.publish_raw("alpha", stray, headers)
    worker = start_worker()
    dead = await wait_for_async(lambda: ledger.dead, what="a dead letter")
    assert dead[0].key == "alpha.Dead"
    assert dead[0].body == stray
    assert dead[0].headers[names.HEADER_REASON] == "there is no such project or job"
    assert dead[0].headers[names.HEADER_JOB] == "job_unknown"
    assert not worker.handler.runs


async def test_a_ledger_that_does_not_answer_is_asked_again_and_the_job_runs_once(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    ledger.silent["claim"] = 2
    worker = start_worker(lease_s=2.0)
    job_id = await ledger.submit("alpha", "noop")
    await ledger.result_of(job_id)
    assert len(ledger.asked(Claim)) == 3
    assert worker.handler.runs == {job_id: 1}


async def test_a_message_that_comes_twice_runs_once(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """The ledger grants it again: the same worker, the same attempt."""
    worker = start_worker()
    job_id = await ledger.submit("alpha", "sleep", "1")
    await wait_for_async(lambda: worker.handler.runs[job_id], what="the job runs")
    await ledger.publish_todo(ledger.jobs[job_id], "sleep", "1")
    await wait_for_async(lambda: len(ledger.asked(Claim)) == 2, what="the second claim")
    await ledger.result_of(job_id)
    # As if the ledger had not seen the result yet.
    ledger.jobs[job_id].result = None
    await ledger.publish_todo(ledger.jobs[job_id], "sleep", "1")
    await wait_for_async(lambda: len(ledger.asked(Claim)) == 3, what="the third claim")
    last = await ledger.submit("alpha", "noop")
    await ledger.result_of(last)
    assert worker.handler.runs == {job_id: 1, last: 1}
    assert len(ledger.results) == 2


async def test_a_next_attempt_waits_until_the_earlier_one_is_cleaned_up(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """Both have the names that the job's id gives; the earlier one is stopped as lost."""
    worker = start_worker()
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.runs[job_id], what="the first attempt runs")
    await ledger.requeue(job_id, "noop")
    result = await ledger.result_of(job_id)
    assert result.attempt == 2
    assert worker.handler.jobs[0].cancel_reason == "lost"
    assert worker.handler.most_running == 1
    assert [one.attempt for one in ledger.results] == [2]


async def test_a_thousand_jobs_are_done_once_each_by_two_workers(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    workers = [start_worker(slots=50), start_worker(slots=50)]
    job_ids: list[str] = []
    for _ in range(10):
        batch = (ledger.submit("alpha", "noop") for _ in range(100))
        job_ids += await asyncio.gather(*batch)
    await wait_for_async(lambda: len(ledger.results) >= 1000, 300, "a thousand results")
    assert sorted(result.job_id for result in ledger.results) == sorted(job_ids)
    runs = workers[0].handler.runs + workers[1].handler.runs
    assert set(runs.values()) == {1}
    assert len(runs) == 1000
    assert all(worker.handler.runs for worker in workers)
