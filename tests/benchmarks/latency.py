"""From submit to start of a no-op on an idle system, against a Celery worker."""

import time
from collections.abc import Callable

import psycopg

from tests.benchmarks.measure import Line, below_line, percentile
from tests.benchmarks.parts import Parts

_TIMES = "SELECT extract(epoch FROM started_at)::float8, finished_at FROM jobs WHERE id = %s"
AIMS_MS = {0.5: 15.0, 0.99: 50.0}


def measure(parts: Parts, samples: int = 200) -> list[Line]:
    parts.system.start(workers=1, slots=4)
    parts.celery_worker(1)
    ours, peer = _ours(parts), _peer(parts)
    for _ in range(5):
        ours()
        peer()
    mine, theirs = [], []
    for _ in range(samples):
        mine.append(1000 * ours())
        theirs.append(1000 * peer())
    return [
        below_line(
            f"submit to start, p{100 * share:g}",
            percentile(mine, share),
            percentile(theirs, share),
            aim,
        )
        for share, aim in AIMS_MS.items()
    ]


def _ours(parts: Parts) -> Callable[[], float]:
    """Seconds from before the request to `started_at`; one machine, one clock."""
    client = parts.system.client()
    connection = psycopg.connect(parts.database_url, autocommit=True)

    def once() -> float:
        sent = time.time()
        job = client.submit({"repository": "https://git.example/a", "command": ["noop"]})
        while True:
            found = connection.execute(_TIMES, (job.job_id,)).fetchone()
            if found is not None and found[1] is not None:
                return float(found[0]) - sent
            time.sleep(0.005)

    return once


def _peer(parts: Parts) -> Callable[[], float]:
    stamp = parts.celery_app().stamp
    return lambda: float(stamp.apply_async((time.time(),)).get(timeout=60, interval=0.005))
