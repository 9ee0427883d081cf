"""What is past its retention goes: events and logs of finished jobs, and what nobody asks for."""

import asyncio
from datetime import timedelta

import structlog

from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

#: Seconds between two purges.
EVERY_S = 3600.0
_AT_ONCE = 500

_JOBS = f"""
WITH old AS (
    SELECT id FROM jobs WHERE finished_at < now() - %s AND finished_at IS NOT NULL AND NOT purged
    ORDER BY finished_at LIMIT {_AT_ONCE} FOR NO KEY UPDATE SKIP LOCKED
), events AS (
    DELETE FROM job_events e USING old WHERE e.job_id = old.id
), logs AS (
    DELETE FROM job_logs l USING old WHERE l.job_id = old.id
), sizes AS (
    DELETE FROM job_log_sizes s USING old WHERE s.job_id = old.id
)
UPDATE jobs SET purged = true FROM old WHERE jobs.id = old.id RETURNING jobs.id"""

_LETTERS = """
DELETE FROM dead_letters
WHERE at < now() - %(kept)s AND (deleted_at IS NOT NULL OR replayed_at IS NOT NULL)"""
_WORKERS = "DELETE FROM workers WHERE seen_at < now() - %(kept)s"
_LEDGERS = "DELETE FROM ledgers WHERE seen_at < now() - interval '1 hour'"


class Purge:
    """Purges every hour. A job itself, with its result, stays."""

    def __init__(self, pool: AsyncPool, retention: timedelta) -> None:
        self._pool = pool
        self._retention = retention

    async def run(self) -> None:
        """Purge for ever; `tasks.steadily` handles the database's absence."""
        while True:
            purged = await self.purge()
            if purged:
                _logger.info("events and logs purged", jobs=purged)
            await asyncio.sleep(EVERY_S)

    async def purge(self) -> int:
        """Purge in small transactions, so that nobody waits; how many jobs."""
        purged = 0
        async with self._pool.connection() as conn:
            while True:
                rows = await (await conn.execute(_JOBS, [self._retention])).fetchall()
                purged += len(rows)
                if len(rows) < _AT_ONCE:
                    break
                await asyncio.sleep(0)
            for statement in (_LETTERS, _WORKERS):
                await conn.execute(statement, {"kept": self._retention})
            await conn.execute(_LEDGERS)
        return purged
