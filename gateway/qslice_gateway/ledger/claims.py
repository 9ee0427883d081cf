"""Claims: who may have a job. One guarded update for all that ask at the same time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from qslice import ids
from qslice.messages.ledger import Claim, ClaimAnswer, Reason
from qslice.states import FINAL, State

from qslice_gateway.store import transitions
from qslice_gateway.store.pool import AsyncConnection, Row

# A job may be claimed before the relay has noted that it is on its queue: then it passes that
# state here.
_CLAIM = transitions.change(
    State.RUNNING,
    """SELECT * FROM json_to_recordset(%s::json) AS i (
           job_id text, project text, attempt integer, worker text, lease_s double precision)""",
    guard="j.attempt = i.attempt AND j.project = i.project AND j.cancel_requested_at IS NULL",
    through=State.QUEUED,
    sets={
        "worker": "i.worker",
        "lease_s": "i.lease_s",
        "lease_until": "now() + make_interval(secs => i.lease_s)",
        "started_at": "now()",
        "queued_at": "coalesce(j.queued_at, now())",
    },
    data="jsonb_build_object('worker', i.worker)",
    answer="SELECT m.id, m.attempt, m.batch_id, m.submitted_at, m.started_at FROM moved m",
)

_COLUMNS = "j.id, j.state, j.attempt, j.worker, j.batch_id, j.submitted_at, j.started_at"

_REFUSED = f"SELECT {_COLUMNS}, j.project FROM jobs j WHERE j.id = ANY(%s)"

# In the order of the keys, so that two ledgers with the same messages do not wait for each other.
_ADOPT = """
WITH items AS (
    SELECT * FROM json_to_recordset(%s::json) AS i (
        id text, project text, kind text, producer_id text, message_key text, payload jsonb,
        labels jsonb, priority smallint, worker text, lease_s double precision)
), made AS (
    INSERT INTO jobs (id, project, kind, producer_id, message_key, state, payload, labels,
                      priority, owner, origin, queued_at, started_at, worker, lease_s, lease_until)
    SELECT i.id, i.project, i.kind, i.producer_id, i.message_key, 'running', i.payload, i.labels,
           i.priority, p.owner, 'queue', now(), now(), i.worker, i.lease_s,
           now() + make_interval(secs => i.lease_s)
    FROM items i JOIN projects p ON p.name = i.project AND p.deleted_at IS NULL
    ORDER BY i.project, i.producer_id, i.message_key
    ON CONFLICT DO NOTHING
    RETURNING id, attempt, worker, submitted_at, started_at
), noted AS (
    INSERT INTO job_events (job_id, attempt, type, data)
    SELECT id, attempt, 'queued', NULL FROM made UNION ALL
    SELECT id, attempt, 'running', jsonb_build_object('worker', worker) FROM made
)
SELECT id, attempt, submitted_at, started_at FROM made"""

_KNOWN = f"""
WITH items AS (
    SELECT * FROM json_to_recordset(%s::json) AS i (
        n integer, project text, producer_id text, message_key text)
)
SELECT i.n, {_COLUMNS} FROM items i
LEFT JOIN projects p ON p.name = i.project AND p.deleted_at IS NULL
LEFT JOIN LATERAL (
    SELECT * FROM jobs WHERE project = p.name AND producer_id = i.producer_id
    UNION ALL
    SELECT * FROM jobs WHERE project = p.name AND message_key = i.message_key
) j ON true"""

#: A lab that asks again for what is finished gets the answer once more, on its Done alone
#: (the queue's name as `qslice.names.done` has it).
_TELL_AGAIN = """
INSERT INTO outbox (lane, exchange, routing_key, body, message_id)
SELECT 0, '', j.project || '.Done', convert_to(j.result::text, 'UTF8'), j.id || ':' || j.attempt
FROM jobs j WHERE j.id = ANY(%s) AND j.result IS NOT NULL"""

_UNKNOWN = ClaimAnswer(reason=Reason.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Asked:
    """A claim, and what tells its message apart where it has no key of its own."""

    claim: Claim
    message_key: str


async def answer(
    conn: AsyncConnection, asked: Sequence[Asked], authority: str
) -> list[ClaimAnswer | None]:
    """The answers, in order. None: it cannot be told now, and the worker has to ask again."""
    answers: list[ClaimAnswer | None] = [None] * len(asked)
    direct = [n for n, one in enumerate(asked) if one.claim.job_id is not None]
    adopted = [n for n, one in enumerate(asked) if one.claim.job_id is None]
    if direct:
        await _answer_direct(conn, asked, direct, answers)
    if adopted:
        await _adopt(conn, asked, adopted, answers, authority)
    return answers


async def _answer_direct(
    conn: AsyncConnection,
    asked: Sequence[Asked],
    places: Sequence[int],
    answers: list[ClaimAnswer | None],
) -> None:
    items: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for n in places:
        claim = asked[n].claim
        if claim.job_id is not None and claim.job_id not in items:
            items[claim.job_id] = claim.model_dump(
                include={"job_id", "project", "attempt", "worker", "lease_s"}
            )
            first[claim.job_id] = n
    cursor = await conn.execute(_CLAIM, [_json(items.values())], prepare=True)
    for row in await cursor.fetchall():
        answers[first[row["id"]]] = _granted(row)
    left = [n for n in places if answers[n] is None]
    if not left:
        return
    cursor = await conn.execute(_REFUSED, [[asked[n].claim.job_id for n in left]], prepare=True)
    found = {row["id"]: row for row in await cursor.fetchall()}
    for n in left:
        claim = asked[n].claim
        known = found.get(claim.job_id or "")
        if known is not None and known["project"] != claim.project:
            known = None
        answers[n] = refusal(known, claim.worker, claim.attempt)


def refusal(row: Row | None, worker: str, attempt: int | None) -> ClaimAnswer | None:
    """Why a claim was not granted, from the job as it is; pure.

    attempt: of the message; None where it does not say, as an adopted one's.
    """
    if row is None:
        return _UNKNOWN
    state = State(row["state"])
    if state in FINAL:
        reason = Reason.CANCELLED if state is State.CANCELLED else Reason.FINISHED
        return ClaimAnswer(reason=reason, job_id=row["id"], attempt=row["attempt"])
    same = attempt is None or attempt == row["attempt"]
    if state is State.RUNNING and same and row["worker"] == worker:
        return _granted(row)
    if state is not State.RUNNING and attempt is not None and same:
        # It is to be had: it changed between the two statements. Refused, its message would be
        # dropped, and nobody would ever have it.
        return None
    return ClaimAnswer(reason=Reason.HELD, job_id=row["id"], attempt=row["attempt"])


async def _adopt(
    conn: AsyncConnection,
    asked: Sequence[Asked],
    places: Sequence[int],
    answers: list[ClaimAnswer | None],
    authority: str,
) -> None:
    """Make jobs of messages that a lab put on the queue by hand; known ones are answered."""
    made: dict[str, int] = {}
    items = []
    for n in places:
        claim = asked[n].claim
        job_id = ids.new(ids.JOB, authority)
        made[job_id] = n
        items.append(
            {
                "n": n,
                "id": job_id,
                "message_key": None if claim.producer_id else asked[n].message_key,
                "payload": claim.payload or {},
                **claim.model_dump(
                    include={
                        "project",
                        "kind",
                        "producer_id",
                        "labels",
                        "priority",
                        "worker",
                        "lease_s",
                    }
                ),
            }
        )
    cursor = await conn.execute(_ADOPT, [_json(items)], prepare=True)
    for row in await cursor.fetchall():
        answers[made[row["id"]]] = _granted(row)
    left = [item for item in items if answers[item["n"]] is None]
    if not left:
        return
    cursor = await conn.execute(_KNOWN, [_json(left)], prepare=True)
    again = []
    for row in await cursor.fetchall():
        known = row if row["id"] is not None else None
        found = refusal(known, asked[row["n"]].claim.worker, None)
        answers[row["n"]] = found
        if found is not None and found.reason in (Reason.FINISHED, Reason.CANCELLED):
            again.append(row["id"])
    if again:
        await conn.execute(_TELL_AGAIN, [again])


def _granted(row: Row) -> ClaimAnswer:
    return ClaimAnswer(
        reason=Reason.GRANTED,
        job_id=row["id"],
        attempt=row["attempt"],
        batch_id=row.get("batch_id"),
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
    )


def _json(items: Iterable[Any]) -> str:
    return orjson.dumps(list(items)).decode()
