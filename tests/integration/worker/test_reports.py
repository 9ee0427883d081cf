"""What workers tell while a job runs and when it ends."""

from __future__ import annotations

import asyncio

import pytest
from qslice.messages.ledger import EventType
from qslice.states import State
from qslice.worker.handler import Job, Outcome

from tests.integration.worker.conftest import Workers
from tests.support.fake_ledger import FakeLedger
from tests.support.noop_handler import NoopHandler
from tests.support.wait import wait_for_async


class Talking(NoopHandler):
    """Tells much, then waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def run(self, job: Job) -> Outcome:
        await job.log("build", "step 1\n")
        await job.started(image="qslice/x:1")
        for n in range(2000):
            await job.log("stdout", f"{n}\n")
            if n % 500 == 0:
                await job.progress(n / 2000, f"at {n}")
        await job.log("stderr", "careful\n")
        await job.resource(server="srv-1", status="ACTIVE")
        await self.let_go.wait()
        return Outcome(exit_code=0)


async def test_events_come_live_in_order_and_log_lines_in_few_batches(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    handler = Talking()
    start_worker(handler)
    job_id = await ledger.submit("alpha", "noop")
    await wait_for_async(
        lambda: ledger.told(job_id, EventType.RESOURCE), what="all told while it runs"
    )
    assert not ledger.results
    (started,) = ledger.told(job_id, EventType.STARTED)
    (resource,) = ledger.told(job_id, EventType.RESOURCE)
    assert started.data == {"image": "qslice/x:1"}
    assert resource.data == {"server": "srv-1", "status": "ACTIVE"}
    assert ledger.told(job_id, EventType.PROGRESS)[-1].fraction == 0.75
    logs = ledger.told(job_id, EventType.LOG)
    assert [event.seq for event in logs] == list(range(1, len(logs) + 1))
    assert len(logs) < 20
    assert ledger.log_of(job_id) == (
        "step 1\n" + "".join(f"{n}\n" for n in range(2000)) + "careful\n"
    )
    handler.let_go.set()
    await ledger.result_of(job_id)


async def test_all_that_was_logged_is_there_before_the_result(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    start_worker()
    for _ in range(20):
        job_id = await ledger.submit("alpha", "print", "last words")
        await ledger.result_of(job_id)
        await wait_for_async(lambda: ledger.log_of(job_id), what="its log")  # noqa: B023
        assert ledger.log_of(job_id) == "last words\n"


@pytest.mark.parametrize(
    ("command", "state", "code"),
    [
        ("fail", State.FAILED, "exit_code"),
        ("timeout", State.TIMED_OUT, "walltime"),
        ("dance", State.FAILED, "command_not_found"),
    ],
)
async def test_a_users_fault_ends_the_job_with_its_code(
    ledger: FakeLedger, start_worker: Workers, command: str, state: State, code: str
) -> None:
    start_worker()
    result = await ledger.result_of(await ledger.submit("alpha", command))
    assert result.state is state
    assert result.error is not None
    assert (result.error.owner, result.error.code) == ("user", code)
    if command == "fail":
        assert (result.exit_code, result.stderr) == (1, "it does not work\n")


@pytest.mark.parametrize(
    ("command", "code"), [("fault", "docker_unavailable"), ("crash", "internal")]
)
async def test_a_system_fault_is_told_to_the_ledger_and_is_no_result(
    ledger: FakeLedger, start_worker: Workers, command: str, code: str
) -> None:
    worker = start_worker()
    job_id = await ledger.submit("alpha", command)
    (fault,) = await wait_for_async(lambda: ledger.told(job_id, EventType.FAULT), what="the fault")
    assert fault.error is not None
    assert (fault.error.owner, fault.error.code) == ("system", code)
    assert "nobody thought of this" not in fault.error.message
    await ledger.result_of(await ledger.submit("alpha", "noop"))
    assert len(ledger.results) == 1
    # The next attempt is another attempt, and runs.
    await ledger.requeue(job_id, "noop")
    assert (await ledger.result_of(job_id)).attempt == 2
    assert worker.handler.runs[job_id] == 2


class Huge(NoopHandler):
    async def run(self, job: Job) -> Outcome:
        done = await super().run(job)
        if job.request.command == ["noop", "huge"]:
            # The part of a result that has no bound of its own.
            return Outcome(exit_code=0, stdout="kept\n", commit="x" * 17 * 1024**2)
        return done


async def test_a_result_that_the_broker_finds_too_large_is_cut_down(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """The broker closes the channel over it; what was under way beside it arrives as well."""
    worker = start_worker(Huge(), slots=20)
    small = [await ledger.submit("alpha", "started") for _ in range(20)]
    huge = await ledger.submit("alpha", "noop", "huge")
    small += [await ledger.submit("alpha", "started") for _ in range(20)]
    result = await ledger.result_of(huge, 120)
    assert (result.state, result.exit_code, result.truncated) == (State.SUCCEEDED, 0, True)
    assert result.stdout == "kept\n"
    assert "shortened" in result.stderr
    for job_id in small:
        assert not (await ledger.result_of(job_id)).truncated
    assert set(worker.handler.runs.values()) == {1}
