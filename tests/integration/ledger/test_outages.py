"""Broker and database go and come back; nothing is lost, and nothing is done twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from pydantic import SecretStr
from qslice.worker.loop import Worker
from qslice.worker.settings import WorkerSettings
from qslice_gateway.store import health, jobs

from tests.support.ledger import HandWorker, running_ledger
from tests.support.noop_handler import NoopHandler
from tests.support.processes import LOOPBACK, ProcessStarter, pick_free_port
from tests.support.proxy import TcpProxy
from tests.support.store import Store
from tests.support.wait import wait_for, wait_for_async

JOBS = 400


class Wires:
    """The ledger's ways to broker and database, which a test can cut."""

    def __init__(self, broker_url: str, database_url: str, stack: ExitStack) -> None:
        self.broker, self.broker_url = _through(broker_url, stack)
        self.database, self.database_url = _through(database_url, stack)


def _through(url: str, stack: ExitStack) -> tuple[TcpProxy, str]:
    parts = urlsplit(url)
    proxy = stack.enter_context(TcpProxy(str(parts.hostname), int(parts.port or 0)))
    place = f"{parts.username}:{parts.password}@{proxy.host}:{proxy.port}"
    return proxy, urlunsplit(parts._replace(netloc=place))


@pytest.fixture
def wires(broker_url: str, database_url: str) -> Iterator[Wires]:
    with ExitStack() as stack:
        yield Wires(broker_url, database_url, stack)


@asynccontextmanager
async def running_worker(broker_url: str, slots: int = 16) -> AsyncIterator[NoopHandler]:
    handler = NoopHandler()
    settings = WorkerSettings(amqp_url=SecretStr(broker_url), slots=slots, projects_s=0.5)
    worker = Worker(handler, settings)
    task = asyncio.create_task(worker.run())
    yield handler
    worker.stop()
    await task


def ended(store: Store) -> int:
    (row,) = store.sql("SELECT count(*) AS n FROM jobs WHERE finished_at IS NOT NULL")
    return int(row["n"])


def is_done(store: Store, share: float) -> bool:
    return ended(store) >= JOBS * share


def check_each_once(store: Store, handler: NoopHandler, accepted: int) -> None:
    """Accepted is finished, each with one end."""
    states = Counter(row["state"] for row in store.sql("SELECT state FROM jobs"))
    assert states == {"succeeded": accepted}
    finals = store.sql(
        "SELECT job_id, count(*) AS n FROM job_events WHERE type = 'succeeded' GROUP BY job_id"
    )
    assert len(finals) == accepted
    assert {row["n"] for row in finals} == {1}
    assert set(handler.runs.values()) == {1}
    assert store.outbox() == []


@pytest.mark.parametrize("part", ["broker", "database", "both"])
async def test_cuts_in_the_middle_of_many_jobs_lose_none_and_double_none(
    store: Store, wires: Wires, broker_url: str, part: str
) -> None:
    proxies = {
        "broker": [wires.broker],
        "database": [wires.database],
        "both": [wires.broker, wires.database],
    }[part]
    async with (
        running_ledger(wires.broker_url, wires.database_url),
        running_worker(broker_url) as handler,
    ):
        new = [store.new(payload={"repository": "https://h/r", "command": ["noop"]})]
        new += [store.new(payload=new[0].payload) for _ in range(JOBS - 1)]
        await asyncio.to_thread(jobs.submit_many, store.conn, new)
        for share in (0.1, 0.3, 0.5, 0.7):
            await wait_for_async(partial(is_done, store, share), 120)
            for proxy in proxies:
                proxy.cut()
        await wait_for_async(lambda: ended(store) == JOBS, 180, "the end of all jobs")
        await wait_for_async(lambda: not store.outbox(), what="an empty outbox")
    check_each_once(store, handler, JOBS)


async def test_a_ledger_that_starts_before_broker_and_database_waits_for_them(
    store: Store, wires: Wires, broker_url: str
) -> None:
    wires.broker.refusing = wires.database.refusing = True
    async with running_ledger(wires.broker_url, wires.database_url) as ledger:
        job_id = store.submit()
        await wait_for_async(lambda: wires.broker.accepted >= 2, what="a second try")
        wires.broker.refusing = False
        await wait_for_async(lambda: wires.database.accepted >= 3, what="tries at the database")
        assert not ledger.done()
        assert not health.ledger_alive(store.conn)
        wires.database.refusing = False
        worker = await HandWorker.connect(broker_url)
        assert (await worker.take_one()).message_id == f"{job_id}:1"
        await wait_for_async(lambda: health.ledger_alive(store.conn))
        await worker.close()


async def test_while_the_database_is_away_no_worker_is_taken_for_lost(
    store: Store, wires: Wires, broker_url: str
) -> None:
    lease_s = 4.0
    async with running_ledger(wires.broker_url, wires.database_url):
        worker = await HandWorker.connect(broker_url)
        worker.lease_s = lease_s
        job_id = store.queued()
        assert (await worker.claim(job_id)).granted
        wires.database.refusing = True
        wires.database.cut()
        store.sql("UPDATE jobs SET lease_until = now() - interval '1 minute'")
        beating = asyncio.create_task(worker.beat((job_id, 1)))
        await wait_for_async(lambda: wires.database.accepted >= 8, what="tries at the database")
        assert not beating.done()
        wires.database.refusing = False
        assert (await beating).lost == []
        assert store.job(job_id)["attempt"] == 1
        await worker.close()


async def test_results_that_come_while_the_database_is_away_are_stored_afterwards(
    store: Store, wires: Wires, broker_url: str
) -> None:
    async with running_ledger(wires.broker_url, wires.database_url):
        worker = await HandWorker.connect(broker_url)
        assert await worker.projects() == ["lab"]
        job_ids = [store.running() for _ in range(20)]
        before = wires.database.accepted
        wires.database.refusing = True
        wires.database.cut()
        await asyncio.gather(*(worker.post(job_id) for job_id in job_ids))
        await wait_for_async(lambda: wires.database.accepted >= before + 5)
        assert {store.state(job_id) for job_id in job_ids} == {"running"}
        wires.database.refusing = False
        await wait_for_async(lambda: ended(store) == 20, what="the end of all jobs")
        await worker.close()


async def test_a_cut_from_the_broker_redelivers_what_was_under_way(
    store: Store, wires: Wires, broker_url: str
) -> None:
    async with running_ledger(wires.broker_url, wires.database_url):
        worker = await HandWorker.connect(broker_url)
        assert await worker.projects() == ["lab"]
        for _ in range(3):
            job_ids = [store.running() for _ in range(10)]
            posted = asyncio.gather(*(worker.post(job_id) for job_id in job_ids))
            wires.broker.cut()
            await posted
        await wait_for_async(lambda: ended(store) == 30, what="the end of all jobs")
        assert all(
            store.events(row["id"]) == ["succeeded"] for row in store.sql("SELECT id FROM jobs")
        )
        await worker.close()


def test_the_process_stops_cleanly_on_sigterm_and_takes_its_sign_of_life_away(
    store: Store, broker_url: str, database_url: str, start_process: ProcessStarter
) -> None:
    port = pick_free_port()
    process = start_process(
        "qslice-gateway",
        "ledger",
        env={
            "QSLICE_AMQP_URL": broker_url,
            "QSLICE_DATABASE_URL": database_url,
            "QSLICE_LEDGER_METRICS_LISTEN": f"{LOOPBACK}:{port}",
        },
        ready=lambda: health.ledger_alive(store.conn),
    )
    job_id = store.submit()
    wait_for(lambda: store.state(job_id) == "queued")
    metrics = httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False).text
    assert 'qslice_ledger_relayed_total{exchange="qslice.todo"} 1.0' in metrics
    assert "qslice_outbox_messages" in metrics
    assert process.terminate() == 0
    assert store.sql("SELECT * FROM ledgers") == []
    log = process.read_log()
    assert "Traceback" not in log
    for url in (broker_url, database_url):
        assert str(urlsplit(url).password) not in log


def test_a_ledger_that_was_killed_leaves_no_row_locked(
    store: Store, broker_url: str, database_url: str, start_process: ProcessStarter
) -> None:
    environment = {"QSLICE_AMQP_URL": broker_url, "QSLICE_DATABASE_URL": database_url}
    process = start_process(
        "qslice-gateway",
        "ledger",
        env=environment,
        ready=lambda: health.ledger_alive(store.conn),
    )
    many = [store.new() for _ in range(2000)]
    jobs.submit_many(store.conn, many)
    wait_for(lambda: len(store.outbox()) < 2000, what="the relay in the middle")
    process.kill()
    start_process("qslice-gateway", "ledger", env=environment)
    wait_for(lambda: not store.outbox(), what="an empty outbox")
    states = Counter(row["state"] for row in store.sql("SELECT state FROM jobs"))
    assert states == {"queued": 2000}
