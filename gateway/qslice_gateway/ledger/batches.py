"""Batches whose last job has ended: marked, and told to everybody, once."""

import asyncio
from collections.abc import Callable

from qslice import names
from qslice.states import ACTIVE

from qslice_gateway.ledger.publications import OF_FINISHED
from qslice_gateway.store.pool import AsyncPool

#: Seconds between two looks at the most; a result of a batch's job calls earlier.
LOOK_S = 1.0
#: Seconds between two looks at the least.
_PACE_S = 0.1

_ACTIVE = ", ".join(f"'{state}'" for state in sorted(ACTIVE))

# It looks after the results were committed, so of two ledgers that end the last two jobs at the
# same time, the one that looks last sees both.
_FINISH_TOLD = f"""
WITH over AS (
    SELECT id FROM batches b
    WHERE finished_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM jobs j WHERE j.batch_id = b.id AND j.state IN ({_ACTIVE}))
    ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED
), finished AS (
    UPDATE batches b SET finished_at = now() FROM over WHERE b.id = over.id
    RETURNING b.id, b.project, b.name, b.total, b.finished_at
), counted AS (
    SELECT f.id, jsonb_object_agg(c.state, c.n) FILTER (WHERE c.n IS NOT NULL) AS counts
    FROM finished f LEFT JOIN LATERAL (
        SELECT j.state, count(*) AS n FROM jobs j WHERE j.batch_id = f.id GROUP BY j.state
    ) c ON true
    GROUP BY f.id
), told AS (
    INSERT INTO outbox (lane, exchange, routing_key, body, message_id)
    SELECT 0, '{names.EXCHANGE_EVENTS}', f.project || '.batch.finished',
           convert_to(jsonb_build_object(
               'type', 'batch', 'batch_id', f.id, 'project', f.project, 'name', f.name,
               'total', f.total, 'counts', coalesce(c.counts, '{{}}'), 'at', f.finished_at
           )::text, 'UTF8'), f.id
    FROM finished f JOIN counted c USING (id)
)"""
_FINISHED = "SELECT id FROM finished"


class Batches:
    """Looks when it is called, and every second."""

    def __init__(
        self,
        pool: AsyncPool,
        wake: Callable[[], None],
        due: Callable[[], None] = lambda: None,
        *,
        publish: bool = False,
    ) -> None:
        """publish: finished batches are due to be published, and `due` is called."""
        self._pool = pool
        self._wake = wake
        self._due = due
        published = f", published AS ({OF_FINISHED})" if publish else ""
        self._finish = f"{_FINISH_TOLD}{published}\n{_FINISHED}"
        self._called = asyncio.Event()

    def call(self) -> None:
        """A job of some batch has ended."""
        self._called.set()

    async def run(self) -> None:
        """Look for ever; `tasks.steadily` handles the database's absence."""
        while True:
            self._called.clear()
            await self.look()
            await asyncio.sleep(_PACE_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._called.wait()
            except TimeoutError:
                pass

    async def look(self) -> int:
        """Finish what is finished; how many batches."""
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(self._finish.encode(), prepare=True)).fetchall()
        if rows:
            self._wake()
            self._due()
        return len(rows)
