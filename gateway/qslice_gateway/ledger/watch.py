"""The watcher: jobs whose worker fell silent go back to their queue."""

import asyncio
from collections.abc import Callable

import structlog
from qslice.backoff import Backoff

from qslice_gateway.ledger import failures, metrics
from qslice_gateway.ledger.listening import Listening
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

#: Seconds between two looks.
LOOK_S = 1.0
_AT_ONCE = 200

_SILENT = f"""
SELECT id AS job_id, attempt, faults, worker, cancel_requested_at, lease_s FROM jobs
WHERE state = 'running' AND lease_until < now() AND lease_s <= %s
ORDER BY id LIMIT {_AT_ONCE} FOR NO KEY UPDATE SKIP LOCKED"""


class Watch:
    """Looks every second."""

    def __init__(
        self,
        pool: AsyncPool,
        listening: Listening,
        backoff: Backoff,
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._listening = listening
        self._backoff = backoff
        self._wake = wake

    async def run(self) -> None:
        """Look for ever; `tasks.steadily` handles the database's absence."""
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            await asyncio.sleep(LOOK_S)
            # A process that was stopped, or starved, heard nothing meanwhile.
            self._listening.waited(clock() - before - LOOK_S)
            while await self.look() == _AT_ONCE:
                pass

    async def look(self) -> int:
        """End the attempts of lost workers; how many."""
        async with self._pool.connection() as conn, conn.transaction():
            cursor = await conn.execute(_SILENT, [self._listening.seconds], prepare=True)
            rows = await cursor.fetchall()
            if not rows:
                return 0
            await failures.apply(
                conn,
                rows,
                {
                    row["job_id"]: failures.Failure(
                        row["job_id"],
                        row["attempt"],
                        "worker_lost",
                        {
                            "owner": "system",
                            "code": "worker_lost",
                            "message": f"Worker {row['worker']} was not heard of "
                            f"for {row['lease_s']:g} s.",
                        },
                    )
                    for row in rows
                },
                self._backoff,
            )
        for row in rows:
            _logger.warning(
                "a worker fell silent",
                worker=row["worker"],
                job_id=row["job_id"],
                attempt=row["attempt"],
            )
        metrics.LOST.inc(len(rows))
        self._wake()
        return len(rows)
