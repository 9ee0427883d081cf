"""The connection breaks at each step; jobs go on, and each has one result."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from qslice.messages.ledger import Claim, EventType, Heartbeat

from tests.integration.worker.conftest import Wire, Workers
from tests.support.fake_ledger import FakeLedger
from tests.support.wait import wait_for_async


async def test_a_job_goes_on_while_the_connection_breaks_and_its_result_is_posted_once(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url)
    job_id = await ledger.submit("alpha", "sleep", "1")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    wire.cut()
    await ledger.result_of(job_id)
    next_job = await ledger.submit("alpha", "noop")
    await ledger.result_of(next_job)
    assert worker.handler.runs == {job_id: 1, next_job: 1}
    assert len(ledger.results) == 2
    assert ledger.log_of(job_id) == "sleeping 1 s\n"
    assert wire.proxy.accepted == 2


async def test_a_claim_whose_answer_was_lost_is_made_again_and_the_job_runs_once(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    cut_at = [1, 2]

    def cut(request: Any) -> None:
        if isinstance(request, Claim) and len(ledger.asked(Claim)) in cut_at:
            wire.cut()

    ledger.when_asked = cut
    worker = start_worker(url=wire.url)
    job_id = await ledger.submit("alpha", "noop")
    await ledger.result_of(job_id)
    assert len(ledger.asked(Claim)) == 3
    assert worker.handler.runs == {job_id: 1}
    assert await ledger.ready("alpha") == 0


async def test_a_result_that_could_not_be_posted_is_posted_when_the_broker_is_back(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    """Within its lease: nobody needs to be asked."""
    worker = start_worker(url=wire.url, lease_s=600.0)
    job_id = await ledger.submit("alpha", "sleep", "0.5")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    wire.down()
    await wait_for_async(lambda: not worker.handler.running, what="the job ended meanwhile")
    wire.up()
    await ledger.result_of(job_id)
    assert len(ledger.results) == 1


async def test_a_worker_that_was_away_longer_than_its_lease_asks_before_it_posts(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url, lease_s=1.0)
    kept = await ledger.submit("alpha", "sleep", "1")
    given_away = await ledger.submit("alpha", "sleep", "1")
    await wait_for_async(lambda: worker.handler.running == 2, what="both jobs run")
    wire.down()
    await wait_for_async(lambda: not worker.handler.running, what="both ended meanwhile")
    await asyncio.sleep(1.0)  # The lease runs out; nothing else shows it.
    ledger.jobs[given_away].attempt += 1
    ledger.jobs[given_away].worker = "somebody-else"
    beats = len(ledger.asked(Heartbeat))
    wire.up()
    await ledger.result_of(kept)
    asked = ledger.asked(Heartbeat)[beats:]
    assert {job.job_id for job in asked[0].jobs} == {kept, given_away}
    await wait_for_async(lambda: not worker.worker.jobs, what="the worker holds nothing")
    assert [result.job_id for result in ledger.results] == [kept]


async def test_what_is_told_while_the_broker_is_away_comes_later_and_in_order(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url)
    job_id = await ledger.submit("alpha", "sleep", "2")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    job = worker.handler.jobs[0]
    wire.down()
    for n in range(500):
        await job.log("stdout", f"line {n}\n")
    wire.up()
    await ledger.result_of(job_id)
    logs = ledger.told(job_id, EventType.LOG)
    text = "".join(event.text or "" for event in sorted(logs, key=lambda event: event.seq or 0))
    assert text.endswith("".join(f"line {n}\n" for n in range(500)))


async def test_a_flood_of_output_while_the_broker_is_away_is_bounded_and_the_job_goes_on(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url)
    job_id = await ledger.submit("alpha", "sleep", "1")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    wire.down()
    await wait_for_async(lambda: not worker.worker.connected, what="the worker notices")
    for _ in range(100):
        await worker.handler.jobs[0].log("stdout", "x" * 10_000)
    await wait_for_async(lambda: not worker.handler.running, what="the job ends")
    wire.up()
    await ledger.result_of(job_id)
    assert "characters of output were lost" in ledger.log_of(job_id)
    assert len(ledger.log_of(job_id)) < 400_000


async def test_a_broker_that_is_not_there_yet_is_waited_for(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    wire.down()
    start_worker(url=wire.url)
    await wait_for_async(lambda: wire.proxy.accepted >= 3, what="three tries")
    wire.up()
    await ledger.result_of(await ledger.submit("alpha", "noop"))


async def test_a_connection_cut_again_and_again_in_a_bulk_loses_and_doubles_nothing(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url, slots=10)
    job_ids = [await ledger.submit("alpha", "started") for _ in range(200)]
    for share in (20, 60, 100, 150):
        enough = partial(_has, ledger, share)
        await wait_for_async(enough, what=f"{share} done")
        wire.cut()
    await wait_for_async(lambda: len(ledger.accepted) == 200, 120, "all done")
    assert set(ledger.accepted) == set(job_ids)
    assert set(worker.handler.runs.values()) == {1}
    # A confirm that was cut off makes a result come twice: Done is at least once.
    assert all(len({r.finished_at for r in results}) == 1 for results in ledger.accepted.values())
    await wait_for_async(lambda: not worker.worker.jobs, what="the worker holds nothing")

    async def is_empty() -> bool:
        return await ledger.ready("alpha") == 0

    await wait_for_async(is_empty, what="the queue is empty")


def _has(ledger: FakeLedger, count: int) -> bool:
    return len(ledger.accepted) >= count
