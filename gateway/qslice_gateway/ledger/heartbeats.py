"""Heartbeats: leases extended, and what a worker has lost or is to cancel."""

from collections.abc import Sequence

import orjson
from qslice.messages.ledger import Heartbeat, HeartbeatAnswer

from qslice_gateway.store.pool import AsyncConnection

# The lease is in no index, so this rewrites nothing else.
_EXTEND = """
WITH items AS (
    SELECT * FROM json_to_recordset(%s::json) AS i (
        job_id text, attempt integer, worker text, lease_s double precision)
), picked AS (
    SELECT j.id, i.lease_s FROM items i JOIN jobs j ON j.id = i.job_id
    WHERE j.state = 'running' AND j.attempt = i.attempt AND j.worker = i.worker
    ORDER BY j.id FOR NO KEY UPDATE OF j
)
UPDATE jobs j SET lease_s = p.lease_s, lease_until = now() + make_interval(secs => p.lease_s)
FROM picked p WHERE j.id = p.id
RETURNING j.id, j.attempt, j.worker, j.cancel_requested_at IS NOT NULL AS cancel"""

_SEEN = """
INSERT INTO workers (name, kind, slots, jobs, leaving)
SELECT name, kind, slots, jobs, leaving
FROM json_to_recordset(%s::json) AS i (
    name text, kind text, slots integer, jobs integer, leaving boolean)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, slots = excluded.slots,
    jobs = excluded.jobs, leaving = excluded.leaving, seen_at = now()"""


async def answer(conn: AsyncConnection, asked: Sequence[Heartbeat]) -> list[HeartbeatAnswer]:
    """Extend the leases of what the workers still have; the answers, in order."""
    items = {
        (beat.worker, held.job_id, held.attempt): {
            "job_id": held.job_id,
            "attempt": held.attempt,
            "worker": beat.worker,
            "lease_s": beat.lease_s,
        }
        for beat in asked
        for held in beat.jobs
    }
    theirs: dict[tuple[str, str, int], bool] = {}
    if items:
        cursor = await conn.execute(
            _EXTEND, [orjson.dumps(list(items.values())).decode()], prepare=True
        )
        theirs = {
            (row["worker"], row["id"], row["attempt"]): row["cancel"]
            for row in await cursor.fetchall()
        }
    seen = {
        beat.worker: {
            "name": beat.worker,
            "kind": beat.kind,
            "slots": beat.slots,
            "jobs": len(beat.jobs),
            "leaving": beat.leaving,
        }
        for beat in asked
    }
    await conn.execute(_SEEN, [orjson.dumps(list(seen.values())).decode()], prepare=True)
    return [_answer(beat, theirs) for beat in asked]


def _answer(beat: Heartbeat, theirs: dict[tuple[str, str, int], bool]) -> HeartbeatAnswer:
    keys = [(beat.worker, held.job_id, held.attempt) for held in beat.jobs]
    return HeartbeatAnswer(
        lost=[
            job_id for worker, job_id, attempt in keys if (worker, job_id, attempt) not in theirs
        ],
        cancel=[key[1] for key in keys if theirs.get(key)],
    )
