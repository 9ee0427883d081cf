"""Attempts that failed by no fault of the job: tried again later, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from qslice import names
from qslice.backoff import Backoff
from qslice.faults import Owner
from qslice.messages.result import MAX_MESSAGE
from qslice.states import State

from qslice_gateway.ledger import metrics
from qslice_gateway.store import transitions
from qslice_gateway.store.jobs import SINGLE
from qslice_gateway.store.pool import AsyncConnection, Row

Why = Literal["fault", "released", "worker_lost"]


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of an attempt without a result."""

    job_id: str
    attempt: int
    why: Why
    #: As in a result: owner, code, message.
    error: dict[str, Any]


_ITEMS = """SELECT * FROM json_to_recordset(%s::json) AS i (
    job_id text, faults integer, delay_s double precision, error jsonb, why text)"""

_LOCK = """
WITH items AS (
    SELECT * FROM json_to_recordset(%s::json) AS i (job_id text, attempt integer)
)
SELECT j.id AS job_id, j.attempt, j.faults, j.worker, j.cancel_requested_at
FROM items i JOIN jobs j ON j.id = i.job_id
WHERE j.state = 'running' AND j.attempt = i.attempt
ORDER BY j.id FOR NO KEY UPDATE OF j"""

_AGAIN = transitions.change(
    State.QUEUED,
    _ITEMS,
    guard="j.state = 'running'",
    sets={
        "attempt": "j.attempt + 1",
        "faults": "i.faults",
        "worker": "NULL",
        "lease_until": "NULL",
        "started_at": "NULL",
        "queued_at": "now()",
    },
    data="""jsonb_build_object('reason', i.why, 'error', i.error, 'faults', i.faults,
                               'delay_s', round(i.delay_s::numeric, 1))""",
    keep="i.delay_s",
    steps={
        "sent": f"""
    INSERT INTO outbox (lane, exchange, routing_key, body, message_id, job_id, attempt, priority,
                        not_before)
    SELECT {SINGLE}, '{names.EXCHANGE_TODO}', {transitions.QUEUE},
           convert_to(m.payload::text, 'UTF8'), m.id || ':' || m.attempt, m.id, m.attempt,
           m.priority, now() + make_interval(secs => m.delay_s)
    FROM moved m"""
    },
)

_DEAD = transitions.change(
    State.DEAD,
    _ITEMS,
    guard="j.state = 'running'",
    sets={"faults": "i.faults", **transitions.ended_by_ledger(State.DEAD, "i.error")},
    data="i.error",
    steps={
        "done": transitions.TELL_DONE,
        "dead": f"""
    INSERT INTO outbox (lane, exchange, routing_key, headers, body, message_id, job_id, attempt)
    SELECT 0, '{names.EXCHANGE_DEAD}', m.project || '.Dead',
           jsonb_build_object(
               '{names.HEADER_JOB}', m.id, '{names.HEADER_ATTEMPT}', m.attempt,
               '{names.HEADER_QUEUE}', {transitions.QUEUE}, '{names.HEADER_OWNER}', 'system',
               '{names.HEADER_REASON}', left(m.note->>'message', 2000)),
           convert_to(m.payload::text, 'UTF8'), m.id || ':' || m.attempt || ':dead', m.id,
           m.attempt
    FROM moved m""",
    },
)

_CANCELLED = transitions.change(
    State.CANCELLED,
    _ITEMS,
    guard="j.state = 'running'",
    sets=transitions.ended_by_ledger(State.CANCELLED, "i.error"),
    data="i.error",
    steps={"done": transitions.TELL_DONE},
)

_CANCELLED_ERROR = {
    "owner": Owner.USER.value,
    "code": "cancelled",
    "message": "Cancelled; its worker ended it without a result.",
}


async def settle(conn: AsyncConnection, failures: Sequence[Failure], backoff: Backoff) -> list[str]:
    """End these attempts, in the caller's transaction: put back, given up, or cancelled.

    What is of an attempt that is over is passed over. The ids of the jobs that were touched.
    """
    by_id = {failure.job_id: failure for failure in failures}
    cursor = await conn.execute(
        _LOCK,
        [_json([{"job_id": one.job_id, "attempt": one.attempt} for one in by_id.values()])],
        prepare=True,
    )
    return await apply(conn, await cursor.fetchall(), by_id, backoff)


async def apply(
    conn: AsyncConnection, locked: Sequence[Row], failures: dict[str, Failure], backoff: Backoff
) -> list[str]:
    """The same for rows that the transaction holds already."""
    again, dead, cancelled = [], [], []
    for row in locked:
        item = decide(row, failures[row["job_id"]], backoff)
        if row["cancel_requested_at"] is not None:
            cancelled.append(item)
        elif item["delay_s"] is None:
            dead.append(item)
        else:
            again.append(item)
            metrics.RETRIES.labels(item["why"]).inc()
    for statement, items, state in (
        (_AGAIN, again, None),
        (_DEAD, dead, State.DEAD),
        (_CANCELLED, cancelled, State.CANCELLED),
    ):
        if items:
            await conn.execute(statement, [_json(items)])
            if state is not None:
                metrics.FINISHED.labels(state).inc(len(items))
    return [row["job_id"] for row in locked]


def decide(row: Row, failure: Failure, backoff: Backoff) -> dict[str, Any]:
    """What becomes of an attempt: after which delay it is tried again (None: it is not); pure
    but for the jitter.
    """
    error = failure.error
    if row["cancel_requested_at"] is not None:
        return _item(failure, row["faults"], None, _CANCELLED_ERROR)
    if failure.why == "released":
        return _item(failure, row["faults"], 0.0, error)
    faults = row["faults"] + 1
    if not backoff.exhausted(faults):
        return _item(failure, faults, backoff.delay(faults), error)
    message = f"Given up after {faults} failures; the last: {error.get('message', '')}"
    return _item(failure, faults, None, {**error, "message": message[:MAX_MESSAGE]})


def _item(
    failure: Failure, faults: int, delay_s: float | None, error: dict[str, Any]
) -> dict[str, Any]:
    return {
        "job_id": failure.job_id,
        "faults": faults,
        "delay_s": delay_s,
        "error": error,
        "why": failure.why,
    }


def _json(items: Sequence[dict[str, Any]]) -> str:
    return orjson.dumps(items).decode()
