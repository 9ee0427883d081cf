"""Submitting: one job in one statement, many by COPY. Durable when the call returns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
from psycopg.rows import tuple_row
from qslice import names
from qslice.messages.base import Rejected

#: Lanes of the outbox: what is relayed first.
URGENT, SINGLE, BULK = 0, 1, 2
#: From so many jobs in one call on they are a bulk, which others' single jobs overtake.
_BULK_FROM = 20


class UnknownProject(LookupError):
    """There is no such project, or it was deleted."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be written; `payload` is the message that its worker will read."""

    id: str
    project: str
    kind: str
    payload: dict[str, Any]
    owner: str
    #: The producer's own key: the same twice in one project is the same job.
    producer_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    batch_id: str | None = None
    batch_index: int | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submit answers; of a job that was there already, its own id and state."""

    job_id: str
    producer_id: str | None
    state: str
    #: Whether this call made it.
    made: bool


_SUBMIT = f"""
WITH made AS (
    INSERT INTO jobs (id, project, kind, producer_id, batch_id, batch_index, payload, labels,
                      priority, owner)
    SELECT %(id)s, p.name, %(kind)s, %(producer_id)s, %(batch_id)s, %(batch_index)s::integer,
           convert_from(%(body)s::bytea, 'UTF8')::jsonb, %(labels)s::jsonb,
           %(priority)s::smallint, %(owner)s
    FROM projects p WHERE p.name = %(project)s AND p.deleted_at IS NULL
    ON CONFLICT (project, producer_id) WHERE producer_id IS NOT NULL DO NOTHING
    RETURNING id, attempt
), sent AS (
    INSERT INTO outbox (lane, exchange, routing_key, body, message_id, job_id, attempt, priority)
    SELECT {SINGLE}, '{names.EXCHANGE_TODO}', %(queue)s, %(body)s::bytea, id || ':1', id, attempt,
           %(priority)s::smallint
    FROM made
)
SELECT id, 'waiting', true FROM made
UNION ALL
SELECT id, state, false FROM jobs
WHERE project = %(project)s AND producer_id = %(producer_id)s
"""


def body(payload: dict[str, Any]) -> bytes:
    """A payload as its message; raises `Rejected` for what PostgreSQL cannot hold."""
    written = orjson.dumps(payload)
    if b"\\u0000" in written and _has_nul(payload):
        raise Rejected("", "must not hold NUL characters")
    return written


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(inner) for name, inner in value.items())
    return isinstance(value, list | tuple) and any(map(_has_nul, value))


def _labels(labels: dict[str, str]) -> str:
    return body(labels).decode() if labels else "{}"


def submit(conn: psycopg.Connection[Any], job: NewJob) -> Submitted:
    """Write a job and its message; one statement, so one transaction where `conn` commits itself.

    A producer id that the project knows gives the job that has it. Raises `UnknownProject`.
    """
    parameters = {
        "id": job.id,
        "project": job.project,
        "kind": job.kind,
        "producer_id": job.producer_id,
        "batch_id": job.batch_id,
        "batch_index": job.batch_index,
        "body": body(job.payload),
        "labels": _labels(job.labels),
        "priority": job.priority,
        "owner": job.owner,
        "queue": names.todo(job.project, job.kind),
    }
    with conn.cursor(row_factory=tuple_row) as cursor:
        # The second time sees what another submit of the same producer id has just committed.
        for _ in range(2):
            found = cursor.execute(_SUBMIT, parameters, prepare=True).fetchone()
            if found is not None:
                return Submitted(found[0], job.producer_id, found[1], found[2])
            _check_projects(conn, [job.project])
    raise psycopg.OperationalError(f"the job {job.id} was neither made nor found")


def submit_many(conn: psycopg.Connection[Any], jobs: Sequence[NewJob]) -> list[Submitted]:
    """Write many jobs and their messages in one transaction; the answers are in their order.

    Those whose producer id is known, or came earlier in the list, are answered with the job that
    has it. Raises `UnknownProject`; then nothing is written.
    """
    first: dict[tuple[str, str], NewJob] = {}
    for job in jobs:
        if job.producer_id is not None:
            first.setdefault((job.project, job.producer_id), job)
    known: dict[tuple[str, str], Submitted] = {}
    with conn.transaction():
        _check_projects(conn, {job.project for job in jobs})
        # Duplicates are the exception: they are looked for once a unique index met one.
        for _ in range(5):
            fresh = [job for job in jobs if _is_fresh(job, first, known)]
            try:
                with conn.transaction():
                    _copy(conn, fresh)
                break
            except psycopg.errors.UniqueViolation:
                before = len(known)
                known.update(_known(conn, first))
                if len(known) == before:
                    raise
        else:
            raise psycopg.OperationalError("the same producer ids are being submitted elsewhere")
    return [_answer(job, first, known) for job in jobs]


def _is_fresh(
    job: NewJob,
    first: dict[tuple[str, str], NewJob],
    known: dict[tuple[str, str], Submitted],
) -> bool:
    if job.producer_id is None:
        return True
    key = job.project, job.producer_id
    return first[key] is job and key not in known


def _answer(
    job: NewJob,
    first: dict[tuple[str, str], NewJob],
    known: dict[tuple[str, str], Submitted],
) -> Submitted:
    if job.producer_id is None:
        return Submitted(job.id, None, "waiting", True)
    key = job.project, job.producer_id
    if key in known:
        return known[key]
    made = first[key]
    return Submitted(made.id, made.producer_id, "waiting", made is job)


_JOBS = """COPY jobs (id, project, kind, producer_id, batch_id, batch_index, payload, labels,
    priority, owner) FROM STDIN"""
_OUTBOX = """COPY outbox (lane, exchange, routing_key, body, message_id, job_id, attempt, priority)
    FROM STDIN"""


def _copy(conn: psycopg.Connection[Any], jobs: Sequence[NewJob]) -> None:
    lane = BULK if len(jobs) >= _BULK_FROM else SINGLE
    bodies = [body(job.payload) for job in jobs]
    with conn.cursor() as cursor:
        with cursor.copy(_JOBS) as copy:
            for job, payload in zip(jobs, bodies, strict=True):
                copy.write_row(
                    (
                        job.id,
                        job.project,
                        job.kind,
                        job.producer_id,
                        job.batch_id,
                        job.batch_index,
                        payload.decode(),
                        _labels(job.labels),
                        job.priority,
                        job.owner,
                    )
                )
        with cursor.copy(_OUTBOX) as copy:
            for job, payload in zip(jobs, bodies, strict=True):
                copy.write_row(
                    (
                        lane,
                        names.EXCHANGE_TODO,
                        names.todo(job.project, job.kind),
                        payload,
                        f"{job.id}:1",
                        job.id,
                        1,
                        job.priority,
                    )
                )


def _check_projects(conn: psycopg.Connection[Any], wanted: Iterable[str]) -> None:
    with conn.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(
            "SELECT name FROM projects WHERE name = ANY(%s) AND deleted_at IS NULL",
            [list(wanted)],
        ).fetchall()
    missing = set(wanted) - {name for (name,) in found}
    if missing:
        raise UnknownProject(f"no project {min(missing)!r}")


def _known(
    conn: psycopg.Connection[Any], wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Submitted]:
    pairs = list(wanted)
    with conn.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(
            """SELECT j.project, j.producer_id, j.id, j.state
               FROM unnest(%s::text[], %s::text[]) AS w (project, producer_id)
               JOIN jobs j ON j.project = w.project AND j.producer_id = w.producer_id""",
            [[project for project, _ in pairs], [producer_id for _, producer_id in pairs]],
        ).fetchall()
    return {
        (project, producer_id): Submitted(job_id, producer_id, state, False)
        for project, producer_id, job_id, state in found
    }
