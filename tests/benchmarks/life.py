"""The whole life of no-op jobs per second, two worker processes each, all in PostgreSQL."""

import time

import psycopg

from tests.benchmarks.measure import Line, rate_line
from tests.benchmarks.parts import WORKER_PROCESSES, Parts
from tests.support.wait import wait_for

AIM = 2.0
_RUN = {"repository": "https://git.example/a", "command": ["noop"]}


def measure(parts: Parts, jobs: int = 3000, rounds: int = 2, slots: int = 50) -> list[Line]:
    parts.system.start(workers=WORKER_PROCESSES, slots=slots)
    parts.celery_worker()
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(_ours(parts, jobs))
        theirs.append(_peer(parts, jobs))
    return [rate_line("whole life of a no-op job", max(mine), max(theirs), AIM)]


def _ours(parts: Parts, jobs: int) -> float:
    with parts.system.client() as client:
        begin = time.perf_counter()
        batch = client.sweep(_RUN, grid={"number": list(range(jobs))})
    with psycopg.connect(parts.database_url, autocommit=True) as connection:
        wait_for(
            lambda: (
                connection.execute(
                    "SELECT count(*) = %s FROM jobs WHERE batch_id = %s AND state = 'succeeded'",
                    (jobs, batch.batch_id),
                ).fetchone()
                == (True,)
            ),
            300,
            f"{jobs} jobs succeeded",
        )
    return jobs / (time.perf_counter() - begin)


def _peer(parts: Parts, jobs: int) -> float:
    noop = parts.celery_app().noop
    with psycopg.connect(
        parts.peer_environment["PEER_DATABASE_URL"], autocommit=True
    ) as connection:
        before = _succeeded(connection)
        begin = time.perf_counter()
        for _ in range(jobs):
            noop.apply_async()
        wait_for(lambda: _succeeded(connection) == before + jobs, 300, f"{jobs} tasks succeeded")
    return jobs / (time.perf_counter() - begin)


def _succeeded(connection: psycopg.Connection[tuple[int]]) -> int:
    table = connection.execute("SELECT to_regclass('celery_taskmeta') IS NULL").fetchone()
    if table == (True,):
        return 0
    found = connection.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")
    row = found.fetchone()
    return row[0] if row else 0
