"""Cancelling: what waits ends at once, what runs is asked to stop by its worker."""

from typing import Any

import psycopg
from qslice import names
from qslice.states import State

from qslice_gateway.store import transitions
from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import row, rows

_ERROR = """jsonb_build_object('owner', 'user', 'code', 'cancelled', 'message', %(reason)s::text)"""

#: Jobs that no worker has. Which jobs: `{which}`, over `jobs`.
_WAITING = transitions.change(
    State.CANCELLED,
    "SELECT id AS job_id FROM jobs WHERE {which} AND state IN ('waiting', 'queued')",
    guard="j.state <> 'running'",
    sets={
        "cancel_requested_at": "now()",
        **transitions.ended_by_ledger(State.CANCELLED, _ERROR),
    },
    data=_ERROR,
    steps={"done": transitions.TELL_DONE, "taken_back": transitions.TAKE_BACK},
)

_RUNNING = f"""
WITH asked AS (
    UPDATE jobs SET cancel_requested_at = now()
    WHERE id IN (
        SELECT id FROM jobs
        WHERE {{which}} AND state = 'running' AND cancel_requested_at IS NULL
        ORDER BY id FOR NO KEY UPDATE)
    RETURNING id, attempt
), noted AS (
    INSERT INTO job_events (job_id, attempt, type, data)
    SELECT id, attempt, 'cancel_requested', jsonb_build_object('reason', %(reason)s::text)
    FROM asked
), told AS (
    INSERT INTO outbox (lane, exchange, routing_key, body, job_id, attempt)
    SELECT 0, '{names.EXCHANGE_CONTROL}', '',
           convert_to(json_build_object('op', 'cancel', 'job_id', id)::text, 'UTF8'), id, attempt
    FROM asked
)
SELECT id AS job_id FROM asked"""

_LEFT = """
SELECT id FROM jobs
WHERE {which} AND state IN ('waiting', 'queued', 'running') AND cancel_requested_at IS NULL
LIMIT 1"""

_ONE = "id = %(job_id)s"
_BATCH = "batch_id = %(batch_id)s"
_PROJECT = "project = %(project)s"


def _cancel(conn: psycopg.Connection[Any], which: str, parameters: dict[str, Any]) -> int:
    """How many jobs it ended or asked to stop."""
    touched = 0
    with conn.transaction():
        # A job that is claimed, or handed back, between the two statements is met the next time.
        while row(conn, _LEFT.format(which=which), parameters) is not None:
            touched += len(rows(conn, _WAITING.format(which=which), parameters))
            touched += len(rows(conn, _RUNNING.format(which=which), parameters))
    return touched


def job(
    conn: psycopg.Connection[Any], job_id: str, reason: str = "Cancelled by request."
) -> Row | None:
    """Cancel a job; its row after that (`job_id`, `state`, `cancel_requested_at`), None if unknown.

    A job that has its result keeps it. Of a running job `state` stays `running` until its worker
    has stopped it.
    """
    _cancel(conn, _ONE, {"job_id": job_id, "reason": reason})
    return row(
        conn,
        "SELECT id AS job_id, state, cancel_requested_at FROM jobs WHERE id = %s",
        [job_id],
    )


def batch(
    conn: psycopg.Connection[Any], batch_id: str, reason: str = "The batch was cancelled."
) -> int:
    """Cancel what is left of a batch; how many jobs that touched."""
    return _cancel(conn, _BATCH, {"batch_id": batch_id, "reason": reason})


def project(conn: psycopg.Connection[Any], name: str, reason: str) -> int:
    """Cancel all of a project's jobs; how many that touched."""
    return _cancel(conn, _PROJECT, {"project": name, "reason": reason})
