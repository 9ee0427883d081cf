"""Dead letters: what could not be done, with the reason; replayed or deleted by a person."""

from typing import Any

import psycopg
from qslice import names

from qslice_gateway.store import retry
from qslice_gateway.store.jobs import SINGLE
from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import row, rows

_COLUMNS = """id::text AS id, project, queue, job_id, reason, field, owner, at, replayed_at,
    replayed_as"""


_AFTER_ALL = 2**63 - 1


class NotReplayable(Exception):
    """The message cannot be put back; the text says why."""


def listed(
    conn: psycopg.Connection[Any], project: str, *, before: int | None = None, limit: int = 50
) -> list[Row]:
    """Dead letters of a project, newest first, each with its `body` as text."""
    return [
        _readable(found)
        for found in rows(
            conn,
            f"""SELECT {_COLUMNS}, body FROM dead_letters
                WHERE project = %(project)s AND deleted_at IS NULL
                  AND dead_letters.id < %(before)s
                ORDER BY dead_letters.id DESC LIMIT %(limit)s""",
            {
                "project": project,
                "before": _AFTER_ALL if before is None else before,
                "limit": limit,
            },
        )
    ]


def get(conn: psycopg.Connection[Any], project: str, letter: int) -> Row | None:
    """One dead letter of a project."""
    found = row(
        conn,
        f"""SELECT {_COLUMNS}, body FROM dead_letters
            WHERE project = %s AND id = %s AND deleted_at IS NULL""",
        [project, letter],
    )
    return None if found is None else _readable(found)


def delete(conn: psycopg.Connection[Any], project: str, letter: int) -> bool:
    """Drop a dead letter; False where there is none."""
    return (
        row(
            conn,
            """UPDATE dead_letters SET deleted_at = now()
               WHERE project = %s AND id = %s AND deleted_at IS NULL RETURNING id""",
            [project, letter],
        )
        is not None
    )


_REPUBLISH = f"""
WITH replayed AS (
    UPDATE dead_letters SET replayed_at = now(), replayed_as = queue
    WHERE id = %(letter)s AND replayed_at IS NULL RETURNING queue, body
), sent AS (
    INSERT INTO outbox (lane, exchange, routing_key, body)
    SELECT {SINGLE}, '{names.EXCHANGE_TODO}', queue, body FROM replayed
)
SELECT queue FROM replayed"""


def replay(
    conn: psycopg.Connection[Any], project: str, letter: int, new_job_id: str, owner: str
) -> Row | None:
    """Try a dead letter again, once: its job as a new job, or, where it never was one, its message
    on its queue. Asked again, it answers the same.

    The dead letter with `replayed_as` (the new job's id, or the queue); None where there is none.
    Raises `NotReplayable`.
    """
    with conn.transaction():
        found = row(
            conn,
            f"""SELECT {_COLUMNS} FROM dead_letters
                WHERE project = %s AND id = %s AND deleted_at IS NULL FOR UPDATE""",
            [project, letter],
        )
        if found is None:
            return None
        if found["replayed_at"] is None:
            if found["job_id"] is not None:
                _replay_job(conn, letter, found["job_id"], new_job_id, owner)
            elif found["queue"] in names.queues(project) and ".ToDo" in found["queue"]:
                row(conn, _REPUBLISH, {"letter": letter})
            else:
                raise NotReplayable("It did not come from a ToDo queue of the project.")
    return get(conn, project, letter)


def _replay_job(
    conn: psycopg.Connection[Any], letter: int, job_id: str, new_job_id: str, owner: str
) -> None:
    try:
        made = retry.retry(conn, job_id, new_job_id, owner)
    except retry.NotRetriable as wrong:
        raise NotReplayable(str(wrong)) from None
    if made is None:
        raise NotReplayable("Its job is not known any more.")
    row(
        conn,
        """UPDATE dead_letters SET replayed_at = now(), replayed_as = %s WHERE id = %s
           RETURNING id""",
        [made.job_id, letter],
    )


def _readable(found: Row) -> Row:
    return {**found, "body": bytes(found["body"]).decode(errors="replace")}
