"""Batches: many jobs made of one template, counted together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from qslice_gateway.store import jobs
from qslice_gateway.store.pool import Row
from qslice_gateway.store.query import one, row, rows
from qslice_gateway.store.reads import AFTER_ALL

_COLUMNS = """id AS batch_id, project, name, total, owner, created_by, request_id, submitted_at,
    finished_at"""


@dataclass(frozen=True, slots=True)
class NewBatch:
    id: str
    project: str
    owner: str
    #: As the user wrote it, with its grid or list.
    template: dict[str, Any]
    name: str | None = None
    #: The same twice in one project is the same batch.
    request_id: str | None = None
    created_by: dict[str, Any] = field(default_factory=dict)


def create(
    conn: psycopg.Connection[Any], batch: NewBatch, members: Sequence[jobs.NewJob]
) -> tuple[Row, bool]:
    """Write a batch and its jobs in one transaction; the batch, and whether this call made it.

    Each of `members` has the batch's id and its own `batch_index`. A member whose producer id the
    project knows already is that job, and does not count in `total`.
    Raises `jobs.UnknownProject`.
    """
    with conn.transaction():
        made = row(
            conn,
            f"""INSERT INTO batches (id, project, name, total, template, owner, created_by,
                                     request_id)
                VALUES (%s, %s, %s, %s, %s::jsonb, %s, %s::jsonb, %s)
                ON CONFLICT (project, request_id) DO NOTHING RETURNING {_COLUMNS}""",
            [
                batch.id,
                batch.project,
                batch.name,
                len(members),
                jobs.body(batch.template).decode(),
                batch.owner,
                orjson.dumps(batch.created_by).decode(),
                batch.request_id,
            ],
        )
        if made is not None:
            written = sum(answer.made for answer in jobs.submit_many(conn, members))
            if written != len(members):
                made = one(
                    conn,
                    f"UPDATE batches SET total = %s WHERE id = %s RETURNING {_COLUMNS}",
                    [written, batch.id],
                )
            return made, True
    known = by_request(conn, batch.project, batch.request_id or "")
    if known is None:
        raise psycopg.OperationalError("the batch was neither made nor found")
    return known, False


def by_request(conn: psycopg.Connection[Any], project: str, request_id: str) -> Row | None:
    """The batch that a request made."""
    return row(
        conn,
        f"SELECT {_COLUMNS} FROM batches WHERE project = %s AND request_id = %s",
        [project, request_id],
    )


def get(conn: psycopg.Connection[Any], batch_id: str) -> Row | None:
    """A batch with its template and `counts`, the number of its jobs by state."""
    found = row(
        conn,
        f"SELECT {_COLUMNS}, template FROM batches WHERE id = %s",
        [batch_id],
    )
    if found is not None:
        found["counts"] = counts(conn, batch_id)
    return found


def counts(conn: psycopg.Connection[Any], batch_id: str) -> dict[str, int]:
    """How many jobs of a batch are in each state."""
    return {
        found["state"]: found["n"]
        for found in rows(
            conn,
            "SELECT state, count(*) AS n FROM jobs WHERE batch_id = %s GROUP BY state",
            [batch_id],
        )
    }


def listed(
    conn: psycopg.Connection[Any], project: str, *, before: str | None = None, limit: int = 50
) -> list[Row]:
    """Batches of a project, newest first; the next page is `before` the last one's id."""
    return rows(
        conn,
        f"""SELECT {_COLUMNS} FROM batches
            WHERE project = %(project)s AND id < %(before)s
            ORDER BY id DESC LIMIT %(limit)s""",
        {"project": project, "before": before or AFTER_ALL, "limit": limit},
    )


def results(
    conn: psycopg.Connection[Any], batch_id: str, *, after: int = -1, limit: int = 1000
) -> list[Row]:
    """The jobs of a batch in the order of the grid, each with `batch_index` and its result (None
    until it ends); the next page is `after` the last one's index.
    """
    return rows(
        conn,
        """SELECT id AS job_id, coalesce(producer_id, payload->>'id') AS id, project, kind, state,
                  attempt, batch_id, batch_index, labels, worker, submitted_at, started_at,
                  finished_at, result
           FROM jobs WHERE batch_id = %s AND batch_index > %s ORDER BY batch_index LIMIT %s""",
        [batch_id, after, limit],
    )


def result_columns(conn: psycopg.Connection[Any], batch_id: str, limit: int = 200) -> list[str]:
    """The keys of the JSON objects among a batch's results; '' where there are other values."""
    found = rows(
        conn,
        """SELECT DISTINCT keys.name FROM jobs j,
               LATERAL (SELECT j.result->'result' AS value) AS r,
               LATERAL jsonb_object_keys(
                   CASE jsonb_typeof(r.value)
                   WHEN 'object' THEN r.value WHEN 'null' THEN '{}' ELSE '{"": 0}' END
               ) AS keys (name)
           WHERE j.batch_id = %s AND r.value IS NOT NULL
           ORDER BY keys.name LIMIT %s""",
        [batch_id, limit],
    )
    return [one["name"] for one in found]
