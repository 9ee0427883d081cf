"""Listing, claiming and memory with few and with very many finished jobs in the database."""

import os
import statistics
import time

import psutil
import psycopg

from tests.benchmarks.measure import Line
from tests.benchmarks.parts import Parts
from tests.support.wait import wait_for

AIM = 2.0
_FILL = """
INSERT INTO jobs (id, project, kind, state, payload, owner, labels, submitted_at, queued_at,
                  started_at, finished_at)
SELECT 'job_localhost_00' || lpad(to_hex(number), 24, '0'), 'alice', 'run', 'succeeded',
       '{"repository": "https://git.example/a", "command": ["noop"]}', 'alice', '{}',
       now() - interval '1 day', now(), now(), now()
FROM generate_series(%s::bigint, %s::bigint) AS number
"""


def measure(parts: Parts, sizes: str = "1000+100000+1000000", samples: int = 60) -> list[Line]:
    parts.system.gateway()
    ledger = parts.system.ledger()
    parts.system.noop_worker(slots=4)
    parts.system.make_project()
    figures: dict[int, tuple[float, float, float]] = {}
    there = 0
    for size in map(int, sizes.split("+")):
        with psycopg.connect(parts.database_url, autocommit=True) as connection:
            connection.execute(_FILL, (there, size - 1))
            connection.execute("VACUUM ANALYZE jobs")
        there = size
        figures[size] = (_listing(parts, samples), _claim(parts, samples), _memory(ledger.pid))
    first, last = figures[min(figures)], figures[max(figures)]
    return [
        Line(
            f"{name} at {' / '.join(f'{size:,}' for size in figures)} jobs",
            " / ".join(f"{figure[index]:.1f}" for figure in figures.values()) + f" {unit}",
            "-",
            f"{last[index] / first[index]:.2f}",
            f"≤ {AIM:g}",
            last[index] <= AIM * first[index],
        )
        for index, (name, unit) in enumerate(
            (("a page of 100", "ms"), ("submit to start", "ms"), ("the ledger's memory", "MiB"))
        )
    ]


def _listing(parts: Parts, samples: int) -> float:
    with parts.system.client() as client:
        times = []
        for _ in range(samples):
            begin = time.perf_counter()
            page = client.jobs(state="succeeded")
            for _ in range(100):
                next(page)
            times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def _claim(parts: Parts, samples: int) -> float:
    times = []
    query = "SELECT extract(epoch FROM started_at)::float8 FROM jobs WHERE id = %s"
    with (
        parts.system.client() as client,
        psycopg.connect(parts.database_url, autocommit=True) as connection,
    ):
        for _ in range(samples):
            sent = time.time()
            job = client.submit({"repository": "https://git.example/a", "command": ["noop"]})

            def started(job_id: str = job.job_id) -> float:
                found = connection.execute(query, (job_id,)).fetchone()
                return float(found[0]) if found is not None and found[0] is not None else 0.0

            times.append(float(wait_for(started, 60, "a start")) - sent)
    return 1000 * statistics.median(times)


def _memory(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20 if os.path.exists(f"/proc/{pid}") else 0.0
