"""What no worker can do goes to the project's Dead queue with its reason; the worker goes on."""

from __future__ import annotations

import pytest
from qslice import names
from qslice.messages.run import MAX_BODY
from qslice.worker.handler import Task

from tests.integration.worker.conftest import Workers
from tests.support.fake_ledger import FakeLedger, run_body
from tests.support.noop_handler import NoopHandler
from tests.support.wait import wait_for_async

LARGE = run_body("noop", env={"A": "x" * MAX_BODY})
POISON = [
    (b"\x00\x01 not json", {}, "", "not JSON"),
    (b"", {}, "", "not JSON"),
    (run_body("noop", walltime="10 s"), {}, "walltime", "unknown field"),
    (b'{"command": ["noop"]}', {}, "repository", "required, but missing"),
    (run_body("noop", priority="high"), {}, "priority", "priority: "),
    (LARGE, {}, "", "are read"),
    (run_body("noop"), {names.HEADER_JOB: 5}, names.HEADER_JOB, "must be a string"),
]


async def test_poison_of_every_sort_goes_to_dead_and_the_worker_goes_on(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    worker = start_worker(slots=2)
    for body, headers, _, _ in POISON:
        await ledger.publish_raw("alpha", body, headers)
    job_id = await ledger.submit("alpha", "noop")
    await ledger.result_of(job_id)
    await wait_for_async(lambda: len(ledger.dead) == len(POISON), what="all of it on Dead")
    found = {dead.body: dead for dead in ledger.dead if not dead.headers.get(names.HEADER_JOB)}
    for body, headers, field, reason in POISON:
        if headers:
            continue
        dead = found[body]
        assert dead.key == names.dead("alpha")
        assert dead.headers[names.HEADER_FIELD] == field
        assert reason in dead.headers[names.HEADER_REASON]
        assert dead.headers[names.HEADER_QUEUE] == names.todo("alpha")
        assert dead.headers[names.HEADER_OWNER] == "user"
    assert {dead.headers[names.HEADER_FIELD] for dead in ledger.dead} == {
        field for _, _, field, _ in POISON
    }
    assert worker.handler.runs == {job_id: 1}
    assert await ledger.ready("alpha") == 0


async def test_a_job_of_the_ledger_that_cannot_be_read_names_its_job_on_dead(
    ledger: FakeLedger, start_worker: Workers
) -> None:
    """So that the ledger can end it."""
    start_worker()
    headers = {names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: 1}
    await ledger.publish_raw("alpha", b"{}", headers)
    dead = await wait_for_async(lambda: ledger.dead, what="a dead letter")
    assert dead[0].headers[names.HEADER_JOB] == "job_x"


async def test_a_reader_that_breaks_is_our_fault_and_harms_nobody_else(
    ledger: FakeLedger, start_worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = NoopHandler()
    read = handler.read

    def sometimes(body: bytes) -> Task:
        if b"bomb" in body:
            raise MemoryError
        return read(body)

    monkeypatch.setattr(handler, "read", sometimes)
    start_worker(handler)
    await ledger.publish_raw("alpha", run_body("bomb"))
    job_id = await ledger.submit("alpha", "noop")
    await ledger.result_of(job_id)
    dead = await wait_for_async(lambda: ledger.dead, what="a dead letter")
    assert dead[0].headers[names.HEADER_OWNER] == "system"
    assert "MemoryError" in dead[0].headers[names.HEADER_REASON]
