"""Jobs that wait for a message which is nowhere: a queue was purged, or a broker lost its disk.

A second message of an attempt does no harm (only one is granted), so when a queue has been empty
while old jobs wait for it, theirs are put on it again.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog
from qslice import names

from qslice_gateway.ledger import metrics
from qslice_gateway.ledger.queues import Queues
from qslice_gateway.store import transitions
from qslice_gateway.store.jobs import BULK
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

#: Seconds between two looks.
EVERY_S = 60.0
#: For how long a job has waited before its message is missed.
PATIENCE = timedelta(minutes=5)

_WAITED = "SELECT name FROM projects WHERE deleted_at IS NULL ORDER BY name"

_AGAIN = f"""
WITH missed AS (
    SELECT id FROM jobs j
    WHERE project = %s AND kind = %s AND state = 'queued' AND queued_at < now() - %s
      AND NOT EXISTS (
          SELECT 1 FROM outbox o WHERE o.job_id = j.id AND o.exchange = '{names.EXCHANGE_TODO}')
    ORDER BY id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
), m AS (
    UPDATE jobs SET queued_at = now() FROM missed WHERE jobs.id = missed.id RETURNING jobs.*
)
INSERT INTO outbox (lane, exchange, routing_key, body, message_id, job_id, attempt, priority)
SELECT {BULK}, '{names.EXCHANGE_TODO}', {transitions.QUEUE}, convert_to(m.payload::text, 'UTF8'),
       m.id || ':' || m.attempt, m.id, m.attempt, m.priority
FROM m RETURNING job_id"""


class Stuck:
    """Looks every minute."""

    def __init__(
        self,
        pool: AsyncPool,
        queues: Queues,
        wake: Callable[[], None],
        patience: timedelta = PATIENCE,
    ) -> None:
        self._pool = pool
        self._queues = queues
        self._wake = wake
        self._patience = patience

    async def run(self) -> None:
        """Look for ever; `tasks.steadily` handles the database's absence."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> int:
        """Put back what is missed; how many."""
        found = 0
        async with self._pool.connection() as conn:
            projects = await (await conn.execute(_WAITED)).fetchall()
        for row in projects:
            for kind in names.KINDS:
                if await self._queues.ready(row["name"], kind) == 0:
                    found += await self._again(row["name"], kind)
        return found

    async def _again(self, project: str, kind: str) -> int:
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_AGAIN, [project, kind, self._patience])).fetchall()
        if rows:
            _logger.warning(
                "messages of waiting jobs were not on their queue; put there again",
                project=project,
                kind=kind,
                jobs=len(rows),
            )
            metrics.REPUBLISHED.inc(len(rows))
            self._wake()
        return len(rows)
