"""The relay: from the outbox to the broker, with confirms, at least once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from qslice import names
from qslice.states import State

from qslice_gateway.ledger import metrics
from qslice_gateway.ledger.broker import Channel, Fate, Link, LinkLost, Outgoing
from qslice_gateway.ledger.inbox import is_outage
from qslice_gateway.ledger.outbox import Waking
from qslice_gateway.store import transitions
from qslice_gateway.store.pool import AsyncConnection, AsyncPool, Row

_logger = structlog.get_logger(__name__)

BATCH = 200
#: Seconds between two looks without having been called: for delayed rows and lost calls.
LOOK_S = 0.25
#: Seconds until what the broker did not take is offered again.
AGAIN_S = 2.0

_DUE = "SELECT 1 FROM outbox WHERE not_before <= now() LIMIT 1"

# Another relay passes over what this one holds until its transaction ends, however it ends.
_TAKE = f"""
SELECT id, exchange, routing_key, headers, body, message_id, job_id, attempt, priority
FROM outbox WHERE not_before <= now()
ORDER BY lane, not_before, id LIMIT {BATCH} FOR UPDATE SKIP LOCKED"""

_SENT = transitions.change(
    State.QUEUED,
    f"""SELECT job_id, attempt FROM sent WHERE exchange = '{names.EXCHANGE_TODO}'
        AND job_id IS NOT NULL""",
    first={"sent": "DELETE FROM outbox WHERE id = ANY(%s) RETURNING exchange, job_id, attempt"},
    # A retry is `queued` already; a job that was claimed before this line has passed on.
    guard="j.state = 'waiting' AND j.attempt = i.attempt",
    sets={"queued_at": "now()"},
    answer="SELECT count(*) AS queued FROM moved",
)

_LATER = """
UPDATE outbox SET not_before = now() + %s WHERE id = ANY(%s)"""


class Relay:
    """Publishes what is due, batch by batch.

    prepare: called with each message of `qslice.control` before it is published; it makes or
    removes a project's queues. restore: called with the routing keys that had no queue; gives
    those that have one now.
    """

    def __init__(
        self,
        pool: AsyncPool,
        link: Link,
        channel: Channel,
        waking: Waking,
        *,
        prepare: Callable[[dict[str, Any]], Awaitable[None]],
        restore: Callable[[set[str]], Awaitable[set[str]]],
    ) -> None:
        self._pool = pool
        self._link = link
        self._channel = channel
        self._waking = waking
        self._prepare = prepare
        self._restore = restore
        self._stopping = False

    def stop(self) -> None:
        """End after the batch that is under way."""
        self._stopping = True
        self._waking.wake()

    async def run(self) -> None:
        """Relay until stopped. Raises `LinkLost`; survives the database's absence."""
        while not self._stopping:
            if not self._link.flowing.is_set():
                # Offered now, a batch would hang, and its rows stay locked.
                await asyncio.sleep(LOOK_S)
                continue
            self._waking.event.clear()
            try:
                full = await self.relay() == BATCH
                while not full and not self._stopping:
                    try:
                        async with asyncio.timeout(LOOK_S):
                            await self._waking.event.wait()
                        break
                    except TimeoutError:
                        if await self._is_due():
                            break
            except LinkLost:
                raise
            except Exception as wrong:
                if not is_outage(wrong):
                    _logger.exception("a batch could not be relayed; trying again")
                await asyncio.sleep(1)

    async def relay(self) -> int:
        """Publish one batch; how many rows were taken.

        The rows stay locked until the broker has confirmed them. A crash before the commit leaves
        them to be published again.
        """
        async with self._pool.connection() as conn, conn.transaction():
            cursor = await conn.execute(_TAKE, prepare=True)
            rows = await cursor.fetchall()
            if not rows:
                return 0
            for row in rows:
                if row["exchange"] == names.EXCHANGE_CONTROL and row["headers"]:
                    await self._prepare(row["headers"])
            fates = await self._channel.publish(outgoing(row) for row in rows)
            await self._settle(conn, rows, fates)
        return len(rows)

    async def _settle(self, conn: AsyncConnection, rows: list[Row], fates: list[Fate]) -> None:
        done: list[int] = []
        later: list[Row] = []
        unroutable: list[Row] = []
        for row, fate in zip(rows, fates, strict=True):
            if fate is Fate.CONFIRMED:
                done.append(row["id"])
                metrics.RELAYED.labels(row["exchange"]).inc()
                continue
            metrics.UNRELAYED.labels(fate.value).inc()
            (later if fate is Fate.REFUSED else unroutable).append(row)
        if unroutable:
            # They stay due; but nobody waits for what a project that is gone would get.
            restored = await self._restore({row["routing_key"] for row in unroutable})
            done += [row["id"] for row in unroutable if row["routing_key"] not in restored]
        if later:
            _logger.warning("not taken by the broker; trying again", messages=len(later))
            await conn.execute(_LATER, [timedelta(seconds=AGAIN_S), [row["id"] for row in later]])
        await conn.execute(_SENT, [done], prepare=True)

    async def _is_due(self) -> bool:
        async with self._pool.connection() as conn:
            cursor = await conn.execute(_DUE, prepare=True)
            return await cursor.fetchone() is not None


def outgoing(row: Row) -> Outgoing:
    """The message of an outbox row; pure."""
    headers = dict(row["headers"] or {})
    todo = row["exchange"] == names.EXCHANGE_TODO
    if todo and row["job_id"] is not None:
        headers[names.HEADER_JOB] = row["job_id"]
        headers[names.HEADER_ATTEMPT] = row["attempt"]
    return Outgoing(
        exchange=row["exchange"],
        routing_key=row["routing_key"],
        body=bytes(row["body"]),
        message_id=row["message_id"] or f"outbox-{row['id']}",
        headers=headers,
        priority=row["priority"],
        mandatory=todo or row["exchange"] == "",
    )
