"""Dead letters: kept with their reason, and the end of the jobs that they name."""

from typing import Any
from unittest.mock import Mock

import pytest
from qslice import names
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.dead_letters import Burying
from qslice_gateway.store import dead
from qslice_gateway.store.pool import open_async_pool

from tests.support.ledger import HandWorker, job_of
from tests.support.store import Store
from tests.support.wait import wait_for_async


async def bury(worker: HandWorker, headers: dict[str, Any], body: bytes = b"{}") -> None:
    await worker.publish(names.EXCHANGE_DEAD, "lab.Dead", body, headers=headers)


async def letters(store: Store, count: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        rows = dead.listed(store.conn, "lab")
        return rows if len(rows) >= count else []

    return await wait_for_async(found)


async def test_a_labs_bad_message_is_kept_with_the_field_that_was_wrong(
    store: Store, worker: HandWorker
) -> None:
    headers = {
        names.HEADER_REASON: "required, but missing",
        names.HEADER_FIELD: "command",
        names.HEADER_QUEUE: "lab.ToDo",
        names.HEADER_OWNER: "user",
    }
    await bury(worker, headers, b'{"repository": "x"}')
    (letter,) = await letters(store)
    assert (letter["reason"], letter["field"]) == ("required, but missing", "command")
    assert (letter["owner"], letter["queue"], letter["job_id"]) == ("user", "lab.ToDo", None)
    assert letter["body"] == '{"repository": "x"}'
    assert (await worker.take_one("lab.Dead")).body == b'{"repository": "x"}'


@pytest.mark.parametrize(("owner", "state"), [("user", "failed"), ("system", "dead")])
async def test_a_job_whose_message_is_dead_ends_with_a_result(
    store: Store, worker: HandWorker, owner: str, state: str
) -> None:
    job_id = store.queued()
    headers = {
        names.HEADER_REASON: "must be a list",
        names.HEADER_FIELD: "command",
        names.HEADER_QUEUE: "lab.ToDo",
        names.HEADER_OWNER: owner,
        names.HEADER_JOB: job_id,
        names.HEADER_ATTEMPT: 1,
    }
    for _ in range(2):
        await bury(worker, headers)
    (result,) = await worker.done()
    assert (result.job_id, result.state) == (job_id, state)
    assert result.error is not None
    assert (result.error.owner, result.error.message) == (owner, "command: must be a list")
    assert store.events(job_id) == [state]
    assert len(await letters(store, 2)) == 2
    await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    assert await worker.nothing_on("lab.Done")


async def test_a_dead_copy_of_a_message_does_not_touch_the_job_that_runs(
    store: Store, worker: HandWorker
) -> None:
    running, retried = store.running(), store.queued()
    store.sql("UPDATE jobs SET attempt = 2 WHERE id = %s", retried)
    for job_id in (running, retried):
        await bury(worker, {names.HEADER_JOB: job_id, names.HEADER_ATTEMPT: 1})
    await letters(store, 2)
    assert (store.state(running), store.state(retried)) == ("running", "queued")


async def test_a_message_that_the_broker_gives_up_at_its_delivery_limit_ends_its_job(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.submit()
    queue = await worker.channel.get_queue("lab.ToDo", ensure=False)

    async def given_back_until_it_is_gone() -> bool:
        message = await queue.get(fail=False)
        if message is not None:
            assert job_of(message)[0] == job_id
            await message.nack(requeue=True)
        return bool(dead.listed(store.conn, "lab"))

    await wait_for_async(given_back_until_it_is_gone, what="the delivery limit")
    (letter,) = await letters(store)
    assert (letter["owner"], letter["queue"], letter["job_id"]) == ("system", "lab.ToDo", job_id)
    assert "never acknowledged" in letter["reason"]
    (result,) = await worker.done()
    assert (result.job_id, result.state) == (job_id, "dead")
    assert result.error is not None
    assert result.error.code == "undeliverable"
    assert (await worker.take_one("lab.Dead")).headers is not None


async def test_dead_letters_of_no_project_are_dropped_and_strange_ones_kept(
    store: Store, worker: HandWorker
) -> None:
    await worker.publish(names.EXCHANGE_DEAD, "nowhere.Dead", b"1")
    await worker.publish(names.EXCHANGE_DEAD, "lab.Elsewhere", b"2")
    await bury(worker, {names.HEADER_REASON: "a\x00b", names.HEADER_JOB: "job_none"}, b"\xff\x00")
    await bury(worker, {names.HEADER_ATTEMPT: "one", names.HEADER_FIELD: 3}, b"")
    found = await letters(store, 2)
    assert [letter["reason"] for letter in found] == ["No reason was given.", "a\ufffdb"]


async def test_a_letter_that_is_delivered_again_after_a_crash_is_kept_once(
    store: Store, database_url: str
) -> None:
    def letter(redelivered: bool) -> Delivery:
        properties = Mock(headers={names.HEADER_REASON: "same"})
        return Delivery(1, "lab.Dead", redelivered, b"same", properties, 0.0)

    async with open_async_pool(database_url, size=1) as pool:
        burying = Burying(pool, lambda: None)
        # Two that are the same, each delivered for the first time, are two.
        await burying.handle([letter(False), letter(False)])
        await burying.handle([letter(True)])
    assert len(dead.listed(store.conn, "lab")) == 2
