"""Leases are kept alive by one request for all jobs, and its answer is obeyed."""

from __future__ import annotations

import asyncio

from qslice.messages.ledger import Control, Heartbeat
from qslice.states import State

from tests.integration.worker.conftest import Workers
from tests.support.fake_ledger import FakeLedger
from tests.support.wait import wait_for_async


async def test_a_heartbeat_names_all_that_the_worker_has(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(slots=3, lease_s=1.0)
    job_ids = [await ledger.submit("alpha", "sleep", "60") for _ in range(3)]

    def complete() -> list[Heartbeat]:
        return [
            beat
            for beat in ledger.asked(Heartbeat)
            if sorted(job.job_id for job in beat.jobs) == sorted(job_ids)
        ]

    await wait_for_async(lambda: len(complete()) >= 3, what="three heartbeats")
    beat = complete()[0]
    assert (beat.worker, beat.kind, beat.slots, beat.lease_s) == (worker.name, "run", 3, 1.0)
    assert {job.attempt for job in beat.jobs} == {1}
    assert not beat.leaving


async def test_an_idle_worker_is_heard_of_as_well(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker(lease_s=1.0)
    await wait_for_async(lambda: len(ledger.asked(Heartbeat)) >= 2, what="two heartbeats")
    assert ledger.asked(Heartbeat)[0].jobs == []


async def test_a_lost_job_is_stopped_and_nothing_is_told_of_it(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(lease_s=1.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    ledger.jobs[job_id].worker = "somebody-else"
    await wait_for_async(lambda: not worker.handler.running, what="the job is stopped")
    assert worker.handler.jobs[0].cancel_reason == "lost"
    other = await ledger.submit("alpha", "noop")
    await ledger.result_of(other)
    assert [result.job_id for result in ledger.results] == [other]
    assert worker.worker.jobs == []


async def test_a_cancel_that_was_called_out_stops_the_job_at_once(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """The lease is long: it is not the heartbeat that brings it."""
    worker = start_worker(lease_s=600.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    other = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running == 2, what="both jobs run")
    await ledger.call_out(Control(op="cancel", job_id=job_id))
    result = await ledger.result_of(job_id)
    assert result.state is State.CANCELLED
    assert result.error is not None
    assert (result.error.owner, result.error.code) == ("user", "cancelled")
    assert worker.worker.jobs == [other]


async def test_a_cancel_that_was_missed_comes_with_the_heartbeat(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker(lease_s=1.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    ledger.cancel.add(job_id)
    result = await ledger.result_of(job_id)
    assert result.state is State.CANCELLED


async def test_a_control_message_that_cannot_be_read_is_passed_over(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker()
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    await ledger.call_out(Control.model_construct(op="dance"))  # type: ignore[arg-type]
    await ledger.call_out(Control(op="cancel", job_id=job_id))
    assert (await ledger.result_of(job_id)).state is State.CANCELLED


async def test_a_ledger_that_is_away_for_long_costs_no_job(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """It counts silence only while it listens; the worker asks before it posts the result."""
    worker = start_worker(lease_s=1.0)
    job_id = await ledger.submit("alpha", "sleep", "3")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    ledger.silent["heartbeat"] = 12
    await wait_for_async(lambda: not worker.handler.running, what="the job ends")
    assert not ledger.results
    await ledger.result_of(job_id)
    await asyncio.sleep(0)
    assert ledger.silent["heartbeat"] == 0
    assert worker.handler.runs == {job_id: 1}


async def test_a_sweep_is_told_what_is_still_somebodys(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    ledger.owned = {"job_elsewhere"}
    worker = start_worker(sweep_s=1.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    worker.handler.to_sweep = ["job_elsewhere", "job_nobodys", job_id]
    owned = await wait_for_async(lambda: worker.handler.still_owned, what="a sweep")
    assert owned == {"job_elsewhere", job_id}
