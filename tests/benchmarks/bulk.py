"""100,000 jobs in batches by REST into database and outbox, against plain rows by COPY."""

import time

import orjson
import psycopg

from tests.benchmarks.measure import Line
from tests.benchmarks.parts import Parts

_TEMPLATE = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "/app/bb84.py", "--distance", "{distance}"],
}
AIM = 10_000


def measure(parts: Parts, jobs: int = 100_000, per_batch: int = 50_000) -> list[Line]:
    parts.system.gateway()
    parts.system.make_project()
    begin = time.perf_counter()
    with parts.system.client() as client:
        for first in range(0, jobs, per_batch):
            count = min(per_batch, jobs - first)
            client.sweep(_TEMPLATE, grid={"distance": list(range(count))})
    ours = jobs / (time.perf_counter() - begin)
    with psycopg.connect(parts.database_url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(job_id) FROM outbox)"
        )
        counted = row.fetchone()
    if counted != (jobs, jobs):
        raise RuntimeError(f"{jobs} jobs were sent, database and outbox have {counted}")
    peer = _copy(parts.peer_environment["PEER_DATABASE_URL"], jobs)
    return [
        Line(
            f"bulk submit of {jobs:,} jobs",
            f"{ours:,.0f}/s",
            f"{peer:,.0f}/s",
            f"{ours / peer:.2f}",
            f"≥ {AIM:,}/s",
            ours >= AIM,
        )
    ]


def _copy(url: str, jobs: int) -> float:
    """Rows of a job and of an outbox per second, with nothing but COPY."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE plain_jobs (id text PRIMARY KEY, payload jsonb)")
        connection.execute("CREATE TABLE plain_outbox (id text PRIMARY KEY, body bytea)")
        connection.commit()
        bodies = [orjson.dumps(_TEMPLATE | {"id": str(number)}) for number in range(jobs)]
        begin = time.perf_counter()
        with connection.cursor() as cursor:
            with cursor.copy("COPY plain_jobs FROM STDIN") as copy:
                for number, body in enumerate(bodies):
                    copy.write_row((str(number), body.decode()))
            with cursor.copy("COPY plain_outbox FROM STDIN") as copy:
                for number, body in enumerate(bodies):
                    copy.write_row((str(number), body))
        connection.commit()
        return jobs / (time.perf_counter() - begin)
