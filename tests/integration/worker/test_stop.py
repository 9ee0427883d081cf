"""A worker that is to stop takes nothing more, finishes or hands back, and goes."""

from __future__ import annotations

import asyncio
import signal
from urllib.parse import urlsplit

import httpx
from qslice.faults import SystemFault
from qslice.messages.ledger import EventType, Heartbeat
from qslice.states import State

from tests.integration.worker.conftest import Wire, Workers
from tests.support.fake_ledger import FakeLedger
from tests.support.noop_handler import NoopHandler
from tests.support.processes import ProcessStarter, pick_free_port
from tests.support.wait import wait_for_async

NOOP_WORKER = ("python", "-m", "tests.support.noop_worker")


async def test_what_runs_is_finished_and_nothing_more_is_taken(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(slots=1, lease_s=1.0)
    running = await ledger.submit("alpha", "sleep", "1.5")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    waiting = await ledger.submit("alpha", "noop")
    await worker.stop()
    assert worker.handler.runs == {running: 1}
    assert worker.handler.stopped
    assert (await ledger.result_of(running)).state is State.SUCCEEDED
    assert await ledger.ready("alpha") == 1
    assert ledger.asked(Heartbeat)[-1].leaving
    start_worker()
    await ledger.result_of(waiting)


async def test_what_is_not_finished_within_the_grace_is_handed_back(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(grace_s=0.2)
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    await worker.stop()
    assert worker.handler.jobs[0].cancel_reason == "shutdown"
    await wait_for_async(lambda: ledger.told(job_id, EventType.RELEASED), what="it is released")
    assert not ledger.results
    start_worker()
    await ledger.requeue(job_id, "noop")
    assert (await ledger.result_of(job_id)).attempt == 2


async def test_a_job_cancelled_while_the_worker_stops_is_cancelled_not_handed_back(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(lease_s=1.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    worker.worker.stop()
    ledger.cancel.add(job_id)
    await worker.task
    assert (await ledger.result_of(job_id)).state is State.CANCELLED


async def test_a_second_stop_does_not_wait_for_the_grace(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(grace_s=3600.0)
    job_id = await ledger.submit("alpha", "sleep", "3000")
    await wait_for_async(lambda: worker.handler.running, what="the job runs")
    worker.worker.stop()
    await wait_for_async(
        lambda: any(beat.leaving for beat in ledger.asked(Heartbeat)), what="it is leaving"
    )
    await worker.stop()
    await wait_for_async(lambda: ledger.told(job_id, EventType.RELEASED), what="it is released")


async def test_what_was_granted_while_stopping_is_handed_back_at_once(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    ledger.silent["claim"] = 1
    worker = start_worker(lease_s=4.0)
    job_id = await ledger.submit("alpha", "sleep", "60")
    await wait_for_async(lambda: not ledger.silent["claim"], what="the claim that is not answered")
    await worker.stop()
    assert not worker.handler.runs
    await wait_for_async(lambda: ledger.told(job_id, EventType.RELEASED), what="it is released")


async def test_a_worker_without_a_broker_stops_as_well(
    ledger: FakeLedger, start_worker: Workers, wire: Wire
) -> None:
    worker = start_worker(url=wire.url)
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    wire.down()
    await worker.stop()
    assert worker.handler.stopped


class Failing(NoopHandler):
    """Cannot start at first."""

    failures = 1

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise SystemFault("docker_unavailable", "the engine does not answer")
        await super().start()


async def test_a_handler_that_cannot_start_yet_is_tried_again(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker(Failing())
    await ledger.result_of(await ledger.submit("alpha", "noop"))


async def test_a_worker_whose_handler_cannot_start_can_be_stopped(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    handler = Failing()
    handler.failures = 1000
    worker = start_worker(handler)
    await asyncio.sleep(0)
    await worker.stop()
    assert not handler.started


async def test_sigterm_finishes_hands_back_and_ends_with_zero(
    ledger: FakeLedger, broker_url: str, start_process: ProcessStarter
) -> None:
    process = start_process(
        *NOOP_WORKER,
        env={"QSLICE_AMQP_URL": broker_url, "QSLICE_SLOTS": "2", "QSLICE_GRACE_S": "3"},
    )
    short = await ledger.submit("alpha", "sleep", "2")
    long = await ledger.submit("alpha", "sleep", "600")
    await wait_for_async(
        lambda: ledger.told(short, EventType.STARTED) and ledger.told(long, EventType.STARTED),
        what="both run",
    )
    assert await asyncio.to_thread(process.terminate) == 0
    assert (await ledger.result_of(short)).state is State.SUCCEEDED
    await wait_for_async(lambda: ledger.told(long, EventType.RELEASED), what="it is released")
    assert long not in ledger.accepted


async def test_a_service_has_metrics_and_no_secret_in_its_log(
    ledger: FakeLedger, broker_url: str, start_process: ProcessStarter
) -> None:
    port = pick_free_port()
    process = start_process(
        *NOOP_WORKER,
        env={
            "QSLICE_AMQP_URL": broker_url,
            "QSLICE_METRICS_LISTEN": f"127.0.0.1:{port}",
            "QSLICE_LOG_LEVEL": "DEBUG",
        },
    )
    ledger.credentials = {"sealed": "c2VhbGVk"}
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    await ledger.publish_raw("alpha", b"poison")
    await wait_for_async(lambda: ledger.dead, what="a dead letter")
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    assert 'qslice_worker_jobs_total{end="succeeded",kind="run"} 1.0' in page
    assert "qslice_worker_connected 1.0" in page
    password = urlsplit(broker_url).password
    assert password
    log = process.read_log()
    assert "worker starts" in log
    assert f":{password}@" not in log
    assert "c2VhbGVk" not in log


async def test_a_killed_worker_leaves_what_it_had_not_claimed_to_others(
    ledger: FakeLedger, broker_url: str, start_process: ProcessStarter, start_worker: Workers
) -> None:
    ledger.silent["claim"] = 1000
    process = start_process(*NOOP_WORKER, env={"QSLICE_AMQP_URL": broker_url})
    job_id = await ledger.submit("alpha", "noop")
    await wait_for_async(lambda: ledger.silent["claim"] < 1000, what="a claim")
    process.kill()
    assert process.exit_code == -signal.SIGKILL
    ledger.silent.clear()
    worker = start_worker()
    await ledger.result_of(job_id)
    assert worker.handler.runs == {job_id: 1}


async def test_a_service_without_a_broker_address_says_which_setting_is_missing(
    start_process: ProcessStarter,
) -> None:
    process = start_process(*NOOP_WORKER)
    assert await asyncio.to_thread(process.wait) != 0
    assert "QSLICE_AMQP_URL" in process.read_log()
