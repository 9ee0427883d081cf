"""Events and log lines: recorded in order, once, within bounds."""

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from qslice import names
from qslice.messages.ledger import EventType
from qslice_gateway.ledger import events
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.events import CUT, Recording
from qslice_gateway.store import reads
from qslice_gateway.store.pool import open_async_pool

from tests.support.ledger import QUICK, HandWorker
from tests.support.store import Store
from tests.support.wait import wait_for_async


async def log(worker: HandWorker, job_id: str, seq: int, text: str, attempt: int = 1) -> None:
    await worker.tell(EventType.LOG, job_id, attempt, seq=seq, stream="stdout", text=text)


def lines(store: Store, job_id: str) -> list[str]:
    return [line["text"] for line in reads.logs(store.conn, job_id)]


async def test_log_lines_are_kept_in_the_order_they_were_told(
    store: Store, worker: HandWorker
) -> None:
    job_id, other = store.running(), store.running()
    for seq in range(40):
        await log(worker, job_id, seq, f"line {seq}\n")
        await log(worker, other, seq, f"other {seq}\n")
    await wait_for_async(lambda: len(lines(store, other)) == 40)
    assert lines(store, job_id) == [f"line {seq}\n" for seq in range(40)]
    first = reads.logs(store.conn, job_id)[0]
    assert (first["stream"], first["seq"], first["attempt"]) == ("stdout", 0, 1)


async def test_a_line_that_is_told_twice_is_kept_once(store: Store, worker: HandWorker) -> None:
    job_id = store.running()
    for _ in range(3):
        await log(worker, job_id, 1, "one\n")
    await log(worker, job_id, 2, "two\n")
    await wait_for_async(lambda: lines(store, job_id)[-1:] == ["two\n"])
    assert lines(store, job_id) == ["one\n", "two\n"]


async def test_lines_that_come_after_the_result_are_kept(store: Store, worker: HandWorker) -> None:
    job_id = store.ended()
    await log(worker, job_id, 1, "late\n")
    await wait_for_async(lambda: lines(store, job_id) == ["late\n"])


async def test_a_log_is_cut_at_its_bound_with_one_line_that_says_so(
    store: Store, worker: HandWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = events._LOGS.replace(str(events.MAX_LOG_BYTES), "1000")
    monkeypatch.setattr(events, "_LOGS", statement)
    job_id, other = store.running(), store.running()
    for seq in range(8):
        await log(worker, job_id, seq, f"{seq}" * 300)
    await log(worker, other, 0, "short\n")
    await wait_for_async(lambda: lines(store, other) == ["short\n"])
    assert lines(store, job_id) == ["0" * 300, "1" * 300, "2" * 300, CUT]
    await log(worker, job_id, 9, "more")
    await log(worker, other, 1, "end\n")
    await wait_for_async(lambda: len(lines(store, other)) == 2)
    assert lines(store, job_id)[-1] == CUT


async def test_what_happens_to_a_job_is_listed_in_order(store: Store, worker: HandWorker) -> None:
    job_id = store.running()
    await worker.tell(EventType.STARTED, job_id, data={"image": "sha256:1"})
    await worker.tell(EventType.PROGRESS, job_id, fraction=0.25, text="a quarter")
    await worker.tell(EventType.RESOURCE, job_id, data={"id": "vm-1"})
    await wait_for_async(lambda: len(reads.events(store.conn, job_id)) == 3)
    listed = [(event["type"], event["data"]) for event in reads.events(store.conn, job_id)]
    assert listed == [
        ("started", {"image": "sha256:1"}),
        ("progress", {"fraction": 0.25, "text": "a quarter"}),
        ("resource", {"id": "vm-1"}),
    ]


async def test_events_of_unknown_jobs_and_nonsense_are_dropped_and_the_others_kept(
    store: Store, worker: HandWorker
) -> None:
    job_id = store.running()
    await log(worker, "job_localhost_none", 1, "nobody's\n")
    await worker.tell(EventType.STARTED, "job_localhost_none")
    for body in (b"", b"{", b"[]", b'{"type": "log"}', b'{"type": "boom"}', b"\xff"):
        await worker.publish(names.EXCHANGE_EVENTS, "lab.run.log", body)
    # Its attempt fits no column.
    await log(worker, job_id, 1, "too far\n", attempt=2**40)
    await log(worker, job_id, 1, "with \x00 in it\n")
    await worker.tell(EventType.STARTED, job_id)
    await wait_for_async(lambda: store.events(job_id) == ["started"])
    await wait_for_async(lambda: lines(store, job_id) == ["with \ufffd in it\n"])
    assert len(store.sql("SELECT * FROM job_events")) == 1


async def test_an_event_that_is_delivered_again_after_a_crash_is_listed_once(
    store: Store, database_url: str
) -> None:
    job_id = store.running()
    at = datetime.now(UTC)

    def body(type_: str, moment: datetime) -> bytes:
        about = {"job_id": job_id, "project": "lab", "kind": "run", "attempt": 1, "worker": "w1"}
        return orjson.dumps({**about, "type": type_, "at": moment})

    def delivery(body: bytes, redelivered: bool) -> Delivery:
        return Delivery(1, "lab.run.started", redelivered, body, None, 0.0)

    async with open_async_pool(database_url, size=1) as pool:
        recording = Recording(pool, QUICK, lambda: None)
        await recording.handle([delivery(body("started", at), False)])
        later = at + timedelta(seconds=1)
        await recording.handle(
            [
                delivery(body("started", at), True),
                delivery(body("resource", at), True),
                delivery(body("started", later), True),
            ]
        )
    assert store.events(job_id) == ["started", "resource", "started"]


async def test_several_writers_of_one_job_leave_no_gap_for_a_reader_who_follows(
    store: Store, database_url: str
) -> None:
    job_id = store.running()

    def batch(writer: int, n: int) -> list[Delivery]:
        event = {
            "type": "log",
            "job_id": job_id,
            "project": "lab",
            "kind": "run",
            "attempt": 1,
            "worker": f"w{writer}",
            "at": datetime.now(UTC),
            "seq": writer * 1000 + n,
            "stream": "stdout",
            "text": f"{writer} {n}\n",
        }
        return [Delivery(1, "lab.run.log", False, orjson.dumps(event), None, 0.0)]

    seen: list[str] = []
    after = 0
    async with open_async_pool(database_url, size=4) as pool:

        async def write(writer: int) -> None:
            for n in range(60):
                await Recording(pool, QUICK, lambda: None).handle(batch(writer, n))

        writers = asyncio.gather(*(write(writer) for writer in range(4)))
        while not writers.done():
            for line in reads.logs(store.conn, job_id, after=after):
                after = line["id"]
                seen.append(line["text"])
            await asyncio.sleep(0.001)
        await writers
    seen += [line["text"] for line in reads.logs(store.conn, job_id, after=after)]
    assert len(seen) == 240
    assert len(set(seen)) == 240
