"""Reading jobs: one, many by filters, their events and their logs."""

from collections.abc import Iterable
from typing import Any

import orjson
import psycopg
from qslice import names
from qslice.states import ACTIVE, State

from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import row, rows

#: Sorts after every identifier.
AFTER_ALL = "~"

_LISTED = """j.id AS job_id, coalesce(j.producer_id, j.payload->>'id') AS id, j.project, j.kind,
    j.state, j.attempt, j.faults, j.batch_id, j.batch_index, j.retry_of, j.labels, j.priority,
    j.owner, j.origin, j.submitted_at, j.queued_at, j.started_at, j.finished_at, j.worker,
    j.cancel_requested_at, j.exit_code, j.error_owner, j.error_code"""


def job(conn: psycopg.Connection[Any], job_id: str) -> Row | None:
    """All of a job, with its `payload` and its `result` (the message on Done, once it ended)."""
    return row(conn, f"SELECT {_LISTED}, j.payload, j.result FROM jobs j WHERE j.id = %s", [job_id])


def by_producer(conn: psycopg.Connection[Any], project: str, producer_id: str) -> Row | None:
    """The same by the producer's own key."""
    return row(
        conn,
        f"""SELECT {_LISTED}, j.payload, j.result FROM jobs j
            WHERE j.project = %s AND j.producer_id = %s""",
        [project, producer_id],
    )


# One short range of an index per kind and state, however many jobs there are and however rare
# what is asked for is among them.
_PAGE = f"""
SELECT {_LISTED} FROM (
    SELECT found.id
    FROM unnest(%(kinds)s::text[]) AS kind, unnest(%(states)s::text[]) AS state,
    LATERAL (
        SELECT id FROM jobs
        WHERE project = %(project)s AND jobs.kind = kind.kind AND jobs.state = state.state
          AND id < %(before)s
          AND id >= %(since)s
        ORDER BY id DESC LIMIT %(limit)s
    ) AS found
    ORDER BY found.id DESC LIMIT %(limit)s
) AS page, LATERAL (SELECT * FROM jobs WHERE jobs.id = page.id LIMIT 1) AS j ORDER BY j.id DESC"""

_FILTERED = f"""
SELECT {_LISTED} FROM jobs j
WHERE {{which}} AND project = %(project)s AND kind = ANY(%(kinds)s) AND state = ANY(%(states)s)
  AND id < %(before)s
  AND id >= %(since)s
ORDER BY j.id DESC LIMIT %(limit)s"""


def jobs(
    conn: psycopg.Connection[Any],
    project: str,
    *,
    states: Iterable[str] = (),
    kinds: Iterable[str] = (),
    batch_id: str | None = None,
    producer_id: str | None = None,
    labels: dict[str, str] | None = None,
    before: str | None = None,
    since: str | None = None,
    limit: int = 50,
) -> list[Row]:
    """Jobs of a project, newest first, without payload and result.

    Filters that are empty let everything pass; `labels` must all be there. The next page is
    `before` the last one's `job_id`; `since` is the least `job_id`, and those sort by time.
    """
    parameters: dict[str, Any] = {
        "project": project,
        "states": [str(state) for state in states] or [str(state) for state in State],
        "kinds": list(kinds) or list(names.KINDS),
        # Plain bounds, which an index takes also in a plan for any value.
        "before": before or AFTER_ALL,
        "since": since or "",
        "limit": limit,
    }
    which = []
    if batch_id is not None:
        which.append("batch_id = %(batch_id)s")
        parameters["batch_id"] = batch_id
    if producer_id is not None:
        which.append("producer_id = %(producer_id)s")
        parameters["producer_id"] = producer_id
    if labels:
        which.append("labels @> %(labels)s::jsonb AND labels <> '{}'")
        parameters["labels"] = orjson.dumps(labels).decode()
    if not which:
        return rows(conn, _PAGE, parameters)
    return rows(conn, _FILTERED.format(which=" AND ".join(which)), parameters)


def counts(conn: psycopg.Connection[Any], project: str) -> dict[str, int]:
    """How many jobs of a project are in each state; reads an index over all of them."""
    return {
        found["state"]: found["n"]
        for found in rows(
            conn,
            "SELECT state, count(*) AS n FROM jobs WHERE project = %s GROUP BY state",
            [project],
        )
    }


def active(conn: psycopg.Connection[Any]) -> list[Row]:
    """How many jobs are to be done, by `project`, `kind` and `state`; reads those jobs' part of
    an index alone.
    """
    return rows(
        conn,
        """SELECT p.name AS project, kind, state, found.n
           FROM projects p, unnest(%s::text[]) AS kind, unnest(%s::text[]) AS state,
           LATERAL (
               SELECT count(*) AS n FROM jobs j
               WHERE j.project = p.name AND j.kind = kind.kind AND j.state = state.state
           ) AS found
           WHERE found.n > 0 ORDER BY project, kind, state""",
        [list(names.KINDS), sorted(ACTIVE)],
    )


def progress(conn: psycopg.Connection[Any], job_id: str) -> Row | None:
    """A job's `state`, and for how many seconds it is over (`over_s`; None: it is not)."""
    return row(
        conn,
        """SELECT state, extract(epoch FROM now() - finished_at)::float AS over_s
           FROM jobs WHERE id = %s""",
        [job_id],
    )


def events(
    conn: psycopg.Connection[Any], job_id: str, *, after: int = 0, limit: int = 1000
) -> list[Row]:
    """What happened to a job, in order: `id`, `attempt`, `at`, `type`, `data`."""
    return rows(
        conn,
        """SELECT id, attempt, at, type, data FROM job_events
           WHERE job_id = %s AND id > %s ORDER BY id LIMIT %s""",
        [job_id, after, limit],
    )


def logs(
    conn: psycopg.Connection[Any],
    job_id: str,
    *,
    after: int = 0,
    attempt: int | None = None,
    limit: int = 1000,
) -> list[Row]:
    """Lines of a job's log in the order they came: `id`, `attempt`, `seq`, `stream`, `at`, `text`.

    A reader who asks again `after` the last id misses none, whichever ledger wrote them.
    """
    return rows(
        conn,
        """SELECT id, attempt, seq, stream, at, text FROM job_logs
           WHERE job_id = %(job_id)s AND id > %(after)s
             AND (%(attempt)s::integer IS NULL OR attempt = %(attempt)s)
           ORDER BY id LIMIT %(limit)s""",
        {"job_id": job_id, "after": after, "attempt": attempt, "limit": limit},
    )
