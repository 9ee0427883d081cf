"""Signs of life: the ledger's own row, which `readyz` looks at, and the gauges."""

import asyncio

from qslice.states import ACTIVE

from qslice_gateway.ledger import metrics
from qslice_gateway.store.pool import AsyncPool

#: Seconds between two signs.
BEAT_S = 2.0
#: Seconds between two readings of the gauges.
GAUGES_S = 15.0
#: What is counted no further: it would read an index for seconds.
_MANY = 100_000

_BEAT = """
INSERT INTO ledgers (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET seen_at = now()"""
_GONE = "DELETE FROM ledgers WHERE name = %s"

_OUTBOX = f"""
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT {_MANY}) AS o) AS depth,
       coalesce((SELECT extract(epoch FROM now() - min(not_before))::float FROM (
           (SELECT not_before FROM outbox WHERE lane = 0 ORDER BY lane, not_before LIMIT 1)
           UNION ALL
           (SELECT not_before FROM outbox WHERE lane = 1 ORDER BY lane, not_before LIMIT 1)
           UNION ALL
           (SELECT not_before FROM outbox WHERE lane = 2 ORDER BY lane, not_before LIMIT 1)
       ) AS firsts WHERE not_before < now()), 0) AS age_s"""
_JOBS = f"""
SELECT (SELECT count(*) FROM (
    SELECT 1 FROM jobs j WHERE j.project = p.name AND j.kind = %(kind)s AND j.state = %(state)s
    LIMIT {_MANY}) AS counted) AS n
FROM projects p WHERE p.deleted_at IS NULL"""
_WORKERS = """
SELECT kind, count(*) AS n, sum(slots) AS slots FROM workers
WHERE seen_at > now() - interval '1 minute' GROUP BY kind"""


class Presence:
    """Beats while the ledger hears the broker."""

    def __init__(self, pool: AsyncPool, name: str) -> None:
        self._pool = pool
        self._name = name

    async def run(self) -> None:
        """Beat for ever; `tasks.steadily` handles the database's absence."""
        while True:
            async with self._pool.connection() as conn:
                await conn.execute(_BEAT, [self._name], prepare=True)
            await asyncio.sleep(BEAT_S)

    async def leave(self) -> None:
        """Take the row away."""
        async with self._pool.connection() as conn:
            await conn.execute(_GONE, [self._name])


class Gauges:
    """Reads what is counted by looking."""

    def __init__(self, pool: AsyncPool, kinds: tuple[str, ...]) -> None:
        self._pool = pool
        self._kinds = kinds

    async def run(self) -> None:
        """Read for ever; `tasks.steadily` handles the database's absence."""
        while True:
            await self.read()
            await asyncio.sleep(GAUGES_S)

    async def read(self) -> None:
        async with self._pool.connection() as conn:
            outbox = await (await conn.execute(_OUTBOX)).fetchone() or {}
            metrics.OUTBOX.set(outbox["depth"])
            metrics.OUTBOX_AGE_S.set(outbox["age_s"])
            for state in ACTIVE:
                count = 0
                for kind in self._kinds:
                    cursor = await conn.execute(_JOBS, {"kind": kind, "state": str(state)})
                    count += sum(row["n"] for row in await cursor.fetchall())
                metrics.JOBS.labels(state).set(count)
            metrics.WORKERS.clear()
            metrics.SLOTS.clear()
            for row in await (await conn.execute(_WORKERS)).fetchall():
                metrics.WORKERS.labels(row["kind"]).set(row["n"])
                metrics.SLOTS.labels(row["kind"]).set(row["slots"])
