"""A person tries a finished job again: a new job with the same payload."""

from typing import Any

import psycopg
from qslice import names
from qslice.states import State

from qslice_gateway.store import transitions
from qslice_gateway.store.jobs import SINGLE, Submitted
from qslice_gateway.store.query import row

#: Ends after which trying again makes sense.
RETRIABLE = frozenset({State.FAILED, State.CANCELLED, State.TIMED_OUT, State.DEAD})


class NotRetriable(Exception):
    """The job still runs, or succeeded; the message says which."""


# The old job's place in its batch goes to the new one, so that the batch's results hold what
# became of it; the batch is open again. The producer id stays with the old job and in the payload.
_RETRY = f"""
WITH old AS (
    SELECT j.* FROM jobs j JOIN projects p ON p.name = j.project AND p.deleted_at IS NULL
    WHERE j.id = %(old)s AND j.state = ANY(%(states)s) FOR NO KEY UPDATE OF j
), made AS (
    INSERT INTO jobs (id, project, kind, batch_id, batch_index, payload, labels, priority, owner,
                      retry_of)
    SELECT %(new)s, project, kind, batch_id, batch_index, payload, labels, priority, %(owner)s, id
    FROM old
    ON CONFLICT (retry_of) WHERE retry_of IS NOT NULL DO NOTHING
    RETURNING *
), moved AS (
    UPDATE jobs SET batch_id = NULL, batch_index = NULL FROM made
    WHERE jobs.id = made.retry_of AND made.batch_id IS NOT NULL
), opened AS (
    UPDATE batches SET finished_at = NULL FROM made WHERE batches.id = made.batch_id
), sent AS (
    INSERT INTO outbox (lane, exchange, routing_key, body, message_id, job_id, attempt, priority)
    SELECT {SINGLE}, '{names.EXCHANGE_TODO}', {transitions.QUEUE},
           convert_to(m.payload::text, 'UTF8'), m.id || ':1', m.id, m.attempt, m.priority
    FROM made m
)
SELECT id, state FROM made"""


def retry(
    conn: psycopg.Connection[Any], job_id: str, new_job_id: str, owner: str
) -> Submitted | None:
    """Submit a finished job again under a new id; asked again, it answers the job it made first.

    None where there is no such job. Raises `NotRetriable`.
    """
    made = row(
        conn,
        _RETRY,
        {
            "old": job_id,
            "new": new_job_id,
            "owner": owner,
            "states": [str(state) for state in RETRIABLE],
        },
    )
    if made is not None:
        return Submitted(made["id"], None, made["state"], True)
    found = row(
        conn,
        """SELECT j.state, n.id AS again, n.state AS again_state
           FROM jobs j LEFT JOIN jobs n ON n.retry_of = j.id WHERE j.id = %s""",
        [job_id],
    )
    if found is None:
        return None
    if found["again"] is not None:
        return Submitted(found["again"], None, found["again_state"], False)
    if found["state"] in RETRIABLE:
        raise NotRetriable("Its project was deleted.")
    raise NotRetriable(f"It is {found['state']}; only a job that did not succeed is tried again.")
